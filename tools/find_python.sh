#!/bin/sh
# Print the path of a Python >= 3.12 from PATH, pyenv or uv. Without one: a sentence on stderr and exit code 1.
good() { "$1" -c 'import sys, venv; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; }
for candidate in python3.12 python3.13 python3 python \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[3-9]*/bin/python; do
    command -v "$candidate" >/dev/null 2>&1 && good "$candidate" && command -v "$candidate" && exit 0
done
if command -v uv >/dev/null 2>&1; then uv python find '>=3.12' 2>/dev/null && exit 0; fi
echo "no Python >= 3.12 on PATH, in pyenv or by uv: install one, or run: make PYTHON=/path/to/python3.12 ..." >&2
exit 1
