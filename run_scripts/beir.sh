#!/usr/bin/env bash
# BEIR's 13 public sets of the paper, or those named, next to BM25, and their average: run_scripts/beir.py for the shell.
#
#     run_scripts/beir.sh csplade-bi-8b
#     run_scripts/beir.sh csplade-bi-8b nfcorpus scifact
set -euo pipefail
encoder="${1:?usage: run_scripts/beir.sh ENCODER [SET ...] [flags of beir.py]}"
shift
sets=()
while [ $# -gt 0 ] && [[ "$1" != -* ]]; do
    sets+=("$1")
    shift
done
exec python "$(dirname "$0")/beir.py" --encoder "$encoder" ${sets[0]:+--datasets "${sets[@]}"} "$@"
