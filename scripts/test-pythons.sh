#!/bin/sh
# Builds and tests the package under each Python from 3.9 to 3.13 that is found: on the PATH, or in
# pyenv's folder. Arguments, if any, are the versions to test: 3.9 3.13
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

tested=""
for version in "${@:-}" ; do
    [ -n "$version" ] || continue
    tested="$tested $version"
done
for version in ${tested:-3.9 3.10 3.11 3.12 3.13}; do
    python=$(find_python "$version")
    if [ -z "$python" ]; then
        echo "== Python $version: not found"
        continue
    fi
    venv="$root/.venv-$version"
    echo "== Python $version: $python"
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install -q -r tests/python/requirements.txt
    # As a user installs it, not as a developer does.
    "$venv/bin/python" -m pip install -q --force-reinstall --no-deps .
    "$venv/bin/python" -m pytest -q -p no:cacheprovider
done
