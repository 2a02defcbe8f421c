"""Scores of a run, as Pyserini's trec_eval gives them."""

import importlib.metadata
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.files.stamps import file_hash
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.reproduction.metrics import METRICS
from csplade_pyserini.reproduction.test_collections import TopicSet

ALL = "all"
"""What trec_eval calls the mean over all topics."""


def evaluation_commands(qrels: Path | str, run: Path, topics: TopicSet) -> list[list[str]]:
    """Pyserini's trec_eval, once for all of the topics' metrics that take the same options."""
    return list(_commands(qrels, run, topics).values())


def evaluate(qrels: Path | str, run: Path, topics: TopicSet) -> dict[str, dict[str, float]]:
    """Of every metric, its value for each topic with hits, and under ALL the mean over all topics of the qrels.

    Scores are kept beside the run, and taken from there as long as run, qrels, commands and Pyserini are the same. Raises CheckError
    where one is missing.
    """
    commands = _commands(qrels, run, topics)
    made_of = {
        "run": file_hash(run) if run.is_file() else "",
        "qrels": file_hash(qrels) if isinstance(qrels, Path) and qrels.is_file() else str(qrels),
        "commands": [command[1:] for command in commands.values()],
        "pyserini": importlib.metadata.version("pyserini"),
    }
    kept = run.with_name(f".{run.name}.scores.json")
    if scores := _kept_scores(kept, made_of):
        return scores
    scores = _evaluate(commands, run, topics)
    with suppress(InputError), whole_file(kept) as file:  # a folder that cannot be written costs time alone
        json.dump({"made_of": made_of, "scores": scores}, file)
    return scores


def _kept_scores(kept: Path, made_of: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The scores that a file keeps; empty where it is missing, broken, or made of something else."""
    try:
        table = json.loads(kept.read_text(encoding="utf-8"))
        return table["scores"] if table["made_of"] == made_of else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _evaluate(
    commands: dict[tuple[str, ...], list[str]], run: Path, topics: TopicSet
) -> dict[str, dict[str, float]]:
    scores: dict[str, dict[str, float]] = {}
    for names, command in commands.items():
        result = subprocess.run(
            [*command[:3], "-q", *command[3:]], capture_output=True, text=True, check=False
        )
        printed: dict[str, dict[str, float]] = {}
        for row in (line.split() for line in result.stdout.splitlines()):
            if len(row) == 3 and row[0] in {METRICS[name].printed for name in names}:
                printed.setdefault(row[0], {})[row[1]] = float(row[2])
        missing = [name for name in names if ALL not in printed.get(METRICS[name].printed, {})]
        if result.returncode or missing:
            raise CheckError(
                f"trec_eval gave no {', '.join(missing) or 'scores'} for {run}: {(result.stdout + result.stderr)[-500:]}"
            )
        scores |= {name: printed[METRICS[name].printed] for name in names}
    return {name: scores[name] for name in topics.metrics}


def _commands(qrels: Path | str, run: Path, topics: TopicSet) -> dict[tuple[str, ...], list[str]]:
    """By the metrics that it prints; a topic without hits counts as 0 (`-c`)."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in topics.metrics:
        metric = METRICS[name]
        level = ("-l", str(topics.relevance_level)) if metric.binary and topics.relevance_level != 1 else ()
        groups.setdefault(metric.options + level, []).append(name)
    return {
        tuple(names): [
            sys.executable, "-m", "pyserini.eval.trec_eval", "-c", *options,
            *(word for name in names for word in ("-m", METRICS[name].asked)), str(qrels), str(run),
        ]
        for options, names in groups.items()
    }  # fmt: skip
