#!/bin/sh
# Runs the Rust examples; the Python ones are run by pytest.
set -eu
for example in parent workers; do
    echo "example: $example"
    cargo run --quiet -p ductworks --all-features --example "$example"
done
