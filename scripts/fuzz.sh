#!/bin/sh
# Builds the fuzz targets for libFuzzer, with the stable toolchain, and runs them.
#   scripts/fuzz.sh test                      a short run of each, the same every time
#   scripts/fuzz.sh run -max_total_time=60 [TARGET...]
#   scripts/fuzz.sh run -runs=10000000 [TARGET...]
#   scripts/fuzz.sh again TARGET FILE         one input again, with a backtrace
#   scripts/fuzz.sh seeds                     writes the seeds, after a change of what they are made of
#   scripts/fuzz.sh keep [TARGET...]          adds to the kept inputs those found ones that reach more code
# SANITIZER=address builds with AddressSanitizer as well.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root/fuzz"
all="v1 v2 connection handshake challenge address ticket"
host=$(rustc -vV | sed -n 's/^host: //p')
SANITIZER=${SANITIZER:-}

# What cargo-fuzz passes to a nightly compiler. Stable knows all of it but -Z.
flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares"
build_folder="$root/target/fuzz"
if [ -n "$SANITIZER" ]; then
    export RUSTC_BOOTSTRAP=1
    flags="$flags -Zsanitizer=$SANITIZER"
    build_folder="$root/target/fuzz-$SANITIZER"
fi

# Sets CXX, or fails: libFuzzer is C++.
find_compiler() {
    for compiler in ${CXX:-c++ g++ clang++}; do
        if command -v "$compiler" >/dev/null; then
            export CXX="$compiler"
            return
        fi
    done
    return 1
}

build() {
    if ! find_compiler; then
        echo "expected a C++ compiler for libFuzzer, and found none: install g++ or clang, or name one in CXX" >&2
        exit 1
    fi
    # Naming the target keeps the flags from build scripts and macros.
    RUSTFLAGS=$(echo $flags) CARGO_TARGET_DIR="$build_folder" \
        cargo build --quiet --profile fuzz -p ductworks-fuzz --features libfuzzer --bins --target "$host"
}

# fuzz TARGET FOLDER OPTION...: runs a target, which writes the inputs that it finds to the folder.
fuzz() {
    target=$1
    folder=$2
    shift 2
    mkdir -p "$folder" "findings/$target"
    dictionary=dictionaries/$target
    [ ! -e "$dictionary" ] || set -- "$@" "-dict=$dictionary"
    "$build_folder/$host/fuzz/$target" -max_len=1024 -timeout=10 -rss_limit_mb=1024 \
        "-artifact_prefix=findings/$target/" "$@" "$folder" "corpus/$target"
}

# Says where the last finding lies, and fails.
found() {
    # shellcheck disable=SC2012  # libFuzzer's names have no spaces.
    file=$(ls -t "findings/$1" | head -n 1)
    if [ -z "$file" ]; then
        echo "$1: expected the target to run, and it failed without a finding; what it said is above" >&2
    else
        file=fuzz/findings/$1/$file
        echo "$1: a finding, $file. To run it again: sh scripts/fuzz.sh again $1 $file" >&2
    fi
    exit 1
}

mode=${1:-}
[ $# -eq 0 ] || shift
case $mode in
test)
    if ! find_compiler; then
        echo "no C++ compiler, and so no libFuzzer: changing the kept inputs at random instead"
        DUCTWORKS_TEST_LONG=1 exec cargo test --quiet -p ductworks-fuzz --lib
    fi
    build
    mkdir -p "$build_folder"
    scratch=$(mktemp -d "$build_folder/test.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 130' INT TERM HUP
    for target in $all; do
        if ! fuzz "$target" "$scratch/$target" -seed=1 -runs=20000 >"$scratch/log" 2>&1; then
            cat "$scratch/log" >&2
            found "$target"
        fi
        echo "fuzz $target: $(tail -n 1 "$scratch/log")"
    done
    ;;
run)
    length=$1
    shift
    build
    for target in ${*:-$all}; do
        echo "== $target"
        fuzz "$target" "grown/$target" "$length" -print_final_stats=1 || found "$target"
    done
    ;;
again)
    target=$1
    case $2 in
    /*) file=$2 ;;
    *) file=$root/$2 ;;
    esac
    build
    RUST_BACKTRACE=1 exec "$build_folder/$host/fuzz/$target" "$file"
    ;;
seeds)
    cargo run --quiet -p ductworks-fuzz --example seeds
    ;;
keep)
    build
    for target in ${*:-$all}; do
        "$build_folder/$host/fuzz/$target" -merge=1 -use_counters=0 -max_len=1024 \
            "corpus/$target" "grown/$target"
    done
    ;;
*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$root/scripts/fuzz.sh" >&2
    exit 2
    ;;
esac
