"""Scores of a run, as Pyserini's trec_eval gives them."""

import subprocess
import sys
from pathlib import Path

from csplade_pyserini.errors import CheckError

METRICS = {"nDCG@10": "ndcg_cut.10", "R@100": "recall.100"}
"""What papers call a metric, and what trec_eval does."""


def evaluation_command(qrels: Path, run: Path) -> list[str]:
    """Pyserini's trec_eval over METRICS; a topic without hits counts as 0 (`-c`)."""
    asked = [word for metric in METRICS.values() for word in ("-m", metric)]
    return [sys.executable, "-m", "pyserini.eval.trec_eval", "-c", *asked, str(qrels), str(run)]


def evaluate(qrels: Path, run: Path) -> dict[str, float]:
    """Mean of every metric of METRICS over the topics of the qrels. Raises CheckError where one is missing."""
    result = subprocess.run(evaluation_command(qrels, run), capture_output=True, text=True, check=False)
    rows = [line.split() for line in result.stdout.splitlines()]
    printed = {row[0]: row[2] for row in rows if len(row) == 3 and row[1] == "all"}
    names = {metric: name.replace(".", "_") for metric, name in METRICS.items()}
    missing = [metric for metric, name in names.items() if name not in printed]
    if result.returncode or missing:
        raise CheckError(f"trec_eval gave no {', '.join(missing) or 'scores'} for {run}: {(result.stdout + result.stderr)[-500:]}")
    return {metric: float(printed[name]) for metric, name in names.items()}
