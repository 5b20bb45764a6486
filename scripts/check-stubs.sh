#!/bin/sh
# Holds the type stubs against the native module that is installed.
set -eu
bin=$1
"$bin/maturin" develop --quiet
"$bin/stubtest" --ignore-missing-stub ductworks._native
