#!/bin/sh
# Builds and tests the package under each Python from 3.9 to 3.13 that is found: on the PATH, or in
# pyenv's folder. Arguments, if any, are the versions to test: 3.9 3.13; or --ends, for the oldest and
# the newest of those that are found, but for the one that .venv has, which is tested anyway.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

find_python() {
    for candidate in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python "$(command -v "python$1" || true)"; do
        # A shim of pyenv may stand for a version that is not there.
        if [ -x "$candidate" ] && "$candidate" -c '' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

ends() {
    found=""
    for version in 3.9 3.10 3.11 3.12 3.13; do
        [ -z "$(find_python "$version")" ] || found="$found $version"
    done
    own=$("$root/.venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    # shellcheck disable=SC2086  # A list of words.
    set -- $found
    oldest=${1:-}
    newest=${found##* }
    for version in $(printf '%s\n' $oldest $newest | sort -u -V); do
        [ "$version" = "$own" ] || echo "$version"
    done
}

if [ "${1:-}" = --ends ]; then
    versions=$(ends)
else
    versions="${*:-3.9 3.10 3.11 3.12 3.13}"
fi
unset DUCTWORKS_TEST_BEGAN
for version in $versions; do
    python=$(find_python "$version")
    if [ -z "$python" ]; then
        echo "== Python $version: not found"
        [ $# -eq 0 ] || exit 1 # It was asked for.
        continue
    fi
    venv="$root/.venv-$version"
    echo "== Python $version: $python"
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || { rm -rf "$venv"; exit 1; }
    "$venv/bin/python" -m pip install -q -r tests/requirements.txt
    # As a user installs it, not as a developer does.
    "$venv/bin/python" -m pip install -q --force-reinstall --no-deps .
    "$venv/bin/python" -m pytest tests/python
done
