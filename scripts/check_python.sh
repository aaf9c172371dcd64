#!/usr/bin/env bash
# Makes the virtual environment $VENV with $PYTHON, or says in one sentence what is missing.
set -euo pipefail
if ! command -v "$PYTHON" >/dev/null; then
    echo "accrete needs Python 3.11 or newer; no \"$PYTHON\" was found. Name one with: make PYTHON=/path/to/python3" >&2
    exit 1
fi
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "accrete needs Python 3.11 or newer; $PYTHON is $("$PYTHON" -c 'import platform; print(platform.python_version())')." \
        "Name another with: make PYTHON=/path/to/python3.11" >&2
    exit 1
fi
if ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "$PYTHON cannot make virtual environments: install the package python3-venv (Debian, Ubuntu) and try again." >&2
    exit 1
fi
[ -x "$VENV/bin/python" ] && "$VENV/bin/python" -c 'import pip' 2>/dev/null || "$PYTHON" -m venv --clear "$VENV"
