# Two commands need nothing but a Rust toolchain, Python 3.9 or newer, and make:
#   make demo    builds the package and shows it at work
#   make test    runs the tests
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
# The last line of a test run counts from here.
export DUCTWORKS_TEST_BEGAN := $(shell date +%s)

PYTEST := $(BIN)/python -m pytest
LISTED := target/test-programs.json
# Named one by one, since --all-features would ask the fuzz targets for libFuzzer.
FEATURES := ductworks/msgpack,ductworks/multiprocessing,ductworks/tls,ductworks/tracing

.PHONY: help demo test test-all test-rust test-python test-pythons test-fuzz test-huge test-stress \
	test-tools test-programs native fuzz lint fmt bench docs package clean

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: package ## Builds the package and shows it at work
	cargo build --release -p ductworks --example echo
	$(BIN)/python examples/demo.py --rust-child target/release/examples/echo

test: test-programs ## Runs the tests, of Rust and of Python: some minutes
	$(PYTEST)

test-all: export DUCTWORKS_TEST_LONG = 1
test-all: export DUCTWORKS_TEST_TIME_LIMIT = 600
test-all: test-programs ## All but test-huge and test-stress: every Python, long runs, fuzzing
	$(PYTEST)
	sh scripts/test-pythons.sh
	sh scripts/fuzz.sh run -max_total_time=60

test-rust: test-programs ## Runs the Rust tests
	$(PYTEST) tests/rust

test-python: test-tools native ## Runs the Python tests
	$(PYTEST) tests/python

test-pythons: $(ORIGINAL_PYTHON) ## Runs the Python tests under every Python found; PYTHONS="3.9 3.13" names some
	sh scripts/test-pythons.sh $(PYTHONS)

test-fuzz: ## A short run of every fuzz target
	sh scripts/fuzz.sh test

test-huge: test-programs ## Messages of more than 4 GiB: some minutes, and 12 GiB of memory
	$(PYTEST) -m huge -n 0 -s

test-stress: test-programs ## The suite beside four programs that keep the processors busy: an hour
	sh scripts/test-stress.sh $(BIN)/python

# What the tests run, in the profile for development. The native module stays installed until
# `make package` replaces it.
test-programs: $(BIN)/.tools
	@mkdir -p target
	$(MAKE) -j 2 test-tools $(LISTED)
	$(MAKE) native

native: $(BIN)/.tools
	$(BIN)/maturin develop

test-tools: $(BIN)/.test-tools $(ORIGINAL_PYTHON)

.PHONY: $(LISTED)
$(LISTED):
	cargo test -p ductworks -p ductworks-fuzz --features $(FEATURES) --lib --test it --no-run \
		--message-format=json-render-diagnostics >$@.new
	cargo build -p ductworks -p ductworks-fuzz --features $(FEATURES) --examples \
		--message-format=json-render-diagnostics >>$@.new
	mv $@.new $@

# Fuzzes each target for SECONDS, or with RUNS inputs; TARGETS="v2 handshake" names some.
SECONDS := 60
fuzz: ## Fuzzes for a minute a target; SECONDS=600 for longer, TARGETS="v2 handshake" for some
	sh scripts/fuzz.sh run $(if $(RUNS),-runs=$(RUNS),-max_total_time=$(SECONDS)) $(TARGETS)

lint: $(BIN)/.tools $(BIN)/.lint-tools ## Formats, lints, types and documentation; warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --exclude ductworks-fuzz --all-targets --all-features -- -D warnings
	cargo clippy -p ductworks-fuzz --all-targets -- -D warnings
	cargo clippy -p ductworks --lib -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --exclude ductworks-fuzz --no-deps --all-features
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	sh scripts/check-stubs.sh $(BIN)

fmt: $(BIN)/.lint-tools ## Formats everything
	cargo fmt --all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: package $(BIN)/.bench-tools $(ORIGINAL_PYTHON) ## Measures; some minutes
	cargo build --release -p ductworks-bench
	$(BIN)/python benchmarks/bench.py --rust target/release/ductworks-bench $(BENCH)

docs: package $(BIN)/.doc-tools ## Builds the reference of both languages
	cargo doc -p ductworks --no-deps --all-features
	$(BIN)/pdoc -o target/doc/python ductworks ductworks.connection ductworks.codecs ductworks.message_duct ductworks.base_duct
	@echo "Rust: target/doc/ductworks/index.html  Python: target/doc/python/index.html"

package: $(BIN)/.tools ## Builds the Python package, as users get it, into .venv
	$(BIN)/maturin develop --release

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(BIN)/.tools: scripts/requirements-build.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -r $<
	@touch $@

$(BIN)/.test-tools: tests/requirements.txt | $(BIN)/python
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

clean: ## Removes all that was built
	rm -rf target .venv .venv-* benchmarks/results
