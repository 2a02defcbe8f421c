#!/bin/sh
# Print the path of a Python >= 3.12 from PATH, pyenv or uv; with an argument such as 3.13, of one of that version.
# Without one: a sentence on stderr and exit code 1.
wanted="$1"
pyenv="${PYENV_ROOT:-${HOME:-/nowhere}/.pyenv}/versions"
good() {
    "$1" -c 'import sys, venv
version = "%d.%d" % sys.version_info[:2]
sys.exit(version != sys.argv[1] if sys.argv[1] else sys.version_info < (3, 12))' "$wanted" 2>/dev/null
}
if [ -n "$wanted" ]; then
    names="python$wanted python3 python"
else
    names="python3.12 python3.13 python3.14 python3 python"
fi
for candidate in $names "$pyenv"/3.12*/bin/python "$pyenv"/3.1[3-9]*/bin/python; do
    command -v "$candidate" >/dev/null 2>&1 && good "$candidate" && command -v "$candidate" && exit 0
done
if command -v uv >/dev/null 2>&1; then uv python find "${wanted:->=3.12}" 2>/dev/null && exit 0; fi
echo "no Python ${wanted:->= 3.12} on PATH, in pyenv or by uv:" \
    "install one, or run: make PYTHON=/path/to/python3.12 ..." >&2
exit 1
