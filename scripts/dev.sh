#!/bin/sh
# Finds a Python 3.11 or newer and hands over to scripts/dev.py, which does the work.
#
# This much is shell, because there may be no Python yet to say that there is none. Each candidate
# is run, not only looked up: a pyenv shim lies on the PATH also where its version isn't installed.
set -u
here=$(dirname "$0")

works() {
    "$1" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    if works "$PYTHON"; then
        exec "$PYTHON" "$here/dev.py" "$@"
    fi
    echo "dev: PYTHON=$PYTHON is no Python 3.11 or newer with the venv module" >&2
    exit 1
fi

for candidate in python3.13 python3.12 python3.11 python3 python "$here/../.venv/bin/python"; do
    if works "$candidate"; then
        exec "$candidate" "$here/dev.py" "$@"
    fi
done

echo "dev: no Python 3.11 or newer found: install one (Debian, Ubuntu: apt-get install python3" \
    "python3-venv), or say which with PYTHON=/path/to/python" >&2
exit 1
