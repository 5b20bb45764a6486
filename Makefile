# Two commands need nothing but a Rust toolchain, Python 3.9 or newer, and make:
#   make demo    builds the package and shows it at work
#   make test    runs every test
# Everything that they install goes into virtual environments in this folder.

PYTHON ?= $(shell sh scripts/find-python.sh)

VENV := .venv
BIN := $(VENV)/bin
ORIGINAL := .venv-original
ORIGINAL_PYTHON := $(ORIGINAL)/bin/python

# The Rust tools must build for the interpreter that the tests run.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
export DUCTWORKS_ORIGINAL_PYTHON := $(CURDIR)/$(ORIGINAL_PYTHON)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

CARGO_TEST := cargo test --workspace --all-features

.PHONY: demo test test-rust test-fuzz test-python test-pythons test-huge fuzz lint fmt bench docs package clean

demo: package
	cargo build --release -p ductworks --example echo
	$(BIN)/python examples/demo.py --rust-child target/release/examples/echo

# The oldest and the newest Python that are found are tested beside the one of .venv.
test: test-rust test-fuzz test-python
	sh scripts/test-pythons.sh --ends

test-rust: $(BIN)/.tools
	$(CARGO_TEST)
	sh scripts/run-examples.sh

# A short run of every fuzz target.
test-fuzz:
	sh scripts/fuzz.sh test

test-python: package $(BIN)/.test-tools $(ORIGINAL_PYTHON)
	$(BIN)/python -m pytest

# Tests under every Python that is found; PYTHONS="3.9 3.13" names some.
test-pythons: $(ORIGINAL_PYTHON)
	sh scripts/test-pythons.sh $(PYTHONS)

# Messages of more than 4 GiB: some minutes, and 12 GiB of memory.
test-huge: package $(BIN)/.test-tools
	cargo test --release -p ductworks --test huge -- --ignored --nocapture --test-threads=1
	$(BIN)/python -m pytest tests/python/huge.py

# Fuzzes each target for SECONDS, or with RUNS inputs; TARGETS="v2 handshake" names some.
SECONDS := 60
fuzz:
	sh scripts/fuzz.sh run $(if $(RUNS),-runs=$(RUNS),-max_total_time=$(SECONDS)) $(TARGETS)

lint: $(BIN)/.tools $(BIN)/.lint-tools
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	cargo clippy -p ductworks --lib -- -D warnings
	cd fuzz && cargo fmt --check && cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	sh scripts/check-stubs.sh $(BIN)

fmt: $(BIN)/.lint-tools
	cargo fmt --all
	cd fuzz && cargo fmt
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: package $(BIN)/.bench-tools $(ORIGINAL_PYTHON)
	cargo build --release -p ductworks-bench
	$(BIN)/python benchmarks/bench.py --rust target/release/ductworks-bench $(BENCH)

docs: package $(BIN)/.doc-tools
	cargo doc -p ductworks --no-deps --all-features
	$(BIN)/pdoc -o target/doc/python ductworks ductworks.connection ductworks.codecs ductworks.message_duct ductworks.base_duct
	@echo "Rust: target/doc/ductworks/index.html  Python: target/doc/python/index.html"

# Builds the Python package from this folder into the virtual environment.
package: $(BIN)/.tools
	$(BIN)/maturin develop --release

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(BIN)/.tools: scripts/requirements-build.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -r $<
	@touch $@

$(BIN)/.test-tools: tests/python/requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -r $<
	@touch $@

$(BIN)/.bench-tools: scripts/requirements-bench.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -r $<
	@touch $@

$(BIN)/.lint-tools: scripts/requirements-lint.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -r $<
	@touch $@

$(BIN)/.doc-tools: | $(BIN)/python
	$(BIN)/python -m pip install -q pdoc
	@touch $@

# The published original, in an environment of its own: its package has the same name.
$(ORIGINAL_PYTHON):
	rm -rf $(ORIGINAL) $(ORIGINAL).new
	$(PYTHON) -m venv $(ORIGINAL).new
	$(ORIGINAL).new/bin/python -m pip install -q ductworks==0.0.1a4
	mv $(ORIGINAL).new $(ORIGINAL)

clean:
	rm -rf target $(VENV) $(ORIGINAL) benchmarks/results
