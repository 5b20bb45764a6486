#!/bin/sh
# Prints the first Python 3.9 or newer: `python` may be an old one, and `python3` may too.
for candidate in python3 python3.13 python3.12 python3.11 python3.10 python3.9 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
        command -v "$candidate"
        exit 0
    fi
done
echo "no Python 3.9 or newer was found; name one with: make PYTHON=/path/to/python3" >&2
exit 1
