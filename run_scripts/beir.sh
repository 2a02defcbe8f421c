#!/usr/bin/env bash
# Run BEIR's 13 public sets of the paper, or named ones, next to BM25, by run_scripts/beir.py.
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
