#!/usr/bin/env bash
# Run MS MARCO v1 passage next to BM25: dev (RR@10, R@1000), TREC DL 2019 and 2020 (nDCG@10, AP and R@1000 from
# grade 2).
#
#     run_scripts/msmarco-v1-passage.sh csplade-bi-8b
#     run_scripts/msmarco-v1-passage.sh csplade-bi-8b --output /data/msmarco --threads 16 --dry-run
#
# Run again to resume. The exit code is 1 if a step failed or a score is not the expected one.
set -euo pipefail
encoder="${1:?usage: run_scripts/msmarco-v1-passage.sh ENCODER [flags of csplade_pyserini.reproduce]}"
shift
exec python -m csplade_pyserini.reproduce --collection msmarco-v1-passage --encoder "$encoder" \
    --output "runs/msmarco-v1-passage" "$@"
