#!/bin/sh
# Everything that the docs mark as not measured on a GPU, in one command:
#
#     bash experiments/gpu.sh                  at most 25 minutes on one H100 or H200; writes work/gpu/gpu.json
#     bash experiments/gpu.sh --minutes 9      stops in time where a command may take 10 minutes; run it again to go on
#     bash experiments/gpu.sh --toy            the same parts on a CPU with toy shapes, in two minutes
#     python tools/gpu_rows.py work/gpu/gpu.json      the rows for docs/speed.md, docs/training.md, docs/efficiency.md
#
# Needs torch 2.11, transformers 5.17 and peft, or newer. No network, no Pyserini, no Java; the package need not be installed.
# What it does and where it writes: experiments/gpu.py. PYTHON=/path/to/python chooses the Python.
set -eu
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi
PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH
exec "$PYTHON" experiments/gpu.py "$@"
