"""Scores of a run, by ir_measures; where it is not installed, by Pyserini's trec_eval.

The two give the same values. trec_eval prints four digits, and has a few metrics only.
"""

import importlib.metadata
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.files.stamps import file_hash, read_stamp, write_stamp
from csplade_pyserini.reproduction.catalogue import TopicSet
from csplade_pyserini.reproduction.metrics import (
    METRICS,
    Metric,
    has_ir_measures,
    ir_measures_version,
    to_measure,
)
from csplade_pyserini.reproduction.steps import python

ALL = "all"
"""Topic under which trec_eval prints the mean over all topics."""
_TAIL_CHARACTERS = 500

_Values = dict[str, dict[str, float]]
"""Values by topic and under ALL, by metric."""
_Commands = dict[tuple[str, ...], list[str]]
"""Commands, by the metrics that each of them prints."""


def evaluation_commands(qrels: Path | str, run: Path, topics: TopicSet) -> list[list[str]]:
    """Commands that print a run's scores, by ir_measures or by Pyserini's trec_eval.

    trec_eval has one command for all metrics that take the same options.
    """
    return list(_commands(qrels, run, topics).values())


def evaluate(qrels: Path | str, run: Path, topics: TopicSet) -> _Values:
    """Score a run: values by topic, by metric.

    ALL has the mean over the qrels' topics. Topics without hits have no value, and count as 0 there; a run
    without any hit has 0 everywhere. Scores are kept beside the run, and used again while run, qrels,
    commands and Pyserini are the same. Raises CheckError if a score is missing.
    """
    if run.is_file() and not run.stat().st_size:  # trec_eval cannot read it
        print(f"{run} has no hit of any topic: all its scores are 0", file=sys.stderr)
        return {name: {ALL: 0.0} for name in topics.metrics}
    commands = _commands(qrels, run, topics)
    made_of = _made_of(qrels, run, commands)
    stamp = run.with_name(f".{run.name}.scores.json")
    kept = read_stamp(stamp, made_of).get("scores")
    if _are_whole(kept, topics):
        return cast(_Values, kept)
    scores = _evaluate(commands, qrels, run, topics)
    with suppress(InputError):  # in a read-only folder the next run only takes longer
        write_stamp(stamp, made_of, scores=scores)
    return scores


def _are_whole(kept: Any, topics: TopicSet) -> bool:
    """Whether kept scores are those of every metric, with a mean: the file may be damaged."""
    if not isinstance(kept, dict) or list(kept) != list(topics.metrics):
        return False
    return all(
        isinstance(values, dict) and ALL in values and set(map(type, values.values())) <= {float, int}
        for values in kept.values()
    )


def _made_of(qrels: Path | str, run: Path, commands: _Commands) -> dict[str, Any]:
    run_hash = ""
    if run.is_file():
        run_hash = file_hash(run)
    qrels_hash = str(qrels)
    if isinstance(qrels, Path) and qrels.is_file():
        qrels_hash = file_hash(qrels)
    made_of = {
        "run": run_hash,
        "qrels": qrels_hash,
        "commands": [command[1:] for command in commands.values()],  # without the interpreter's path
        "pyserini": importlib.metadata.version("pyserini"),
    }
    if has_ir_measures():
        made_of["ir_measures"] = ir_measures_version()
    return made_of


def _evaluate(commands: _Commands, qrels: Path | str, run: Path, topics: TopicSet) -> _Values:
    if _takes_ir_measures(qrels):
        return _by_ir_measures(Path(qrels), run, topics)
    scores: _Values = {}
    for names, command in commands.items():
        scores |= _run_trec_eval(command, names, run)
    return {name: scores[name] for name in topics.metrics}


def _takes_ir_measures(qrels: Path | str) -> bool:
    """Whether ir_measures computes the scores. Names of qrels are Pyserini's own."""
    return has_ir_measures() and isinstance(qrels, Path)


def _by_ir_measures(qrels: Path, run: Path, topics: TopicSet) -> _Values:
    """Compute the scores of each topic of the qrels. Raises CheckError if a file cannot be read."""
    import ir_measures

    wanted = {name: to_measure(name, topics.relevance_level) for name in topics.metrics}
    measures = {name: _without_cutoff(measure) for name, measure in wanted.items()}
    by_measure: dict[Any, dict[str, float]] = {}
    try:
        with qrels.open(encoding="utf-8") as judged, run.open(encoding="utf-8") as ranked:
            hits = ir_measures.read_trec_run(ranked)
            judgements = list(ir_measures.read_trec_qrels(judged))
            means, values = ir_measures.calc(list(set(measures.values())), judgements, hits)
    except (OSError, ValueError) as error:
        raise CheckError(f"ir_measures gave no {', '.join(topics.metrics)} for {run}: {error}") from error
    for value in values:
        by_measure.setdefault(value.measure, {})[value.query_id] = float(value.value)
    for measure, mean in means.items():
        by_measure.setdefault(measure, {})[ALL] = float(mean)
    return {name: _cut(by_measure[measures[name]], measure) for name, measure in wanted.items()}


def _without_cutoff(measure: Any) -> Any:
    """Return RR@k as RR, others as they are: ir_measures ranks ties in its own way where it cuts RR."""
    if measure.NAME != "RR" or "cutoff" not in measure.params:
        return measure
    options = {key: value for key, value in measure.params.items() if key != "cutoff"}
    return type(measure)(**options)


def _cut(values: dict[str, float], measure: Any) -> dict[str, float]:
    """Return values of RR as those of RR@k: 0 below rank k. Values of other metrics stay."""
    if measure.NAME != "RR" or "cutoff" not in measure.params:
        return values
    least = 1 / measure.params["cutoff"]
    cut = {qid: value if value >= least else 0.0 for qid, value in values.items() if qid != ALL}
    return cut | {ALL: sum(cut.values()) / max(1, len(cut))}


def _run_trec_eval(command: list[str], names: Sequence[str], run: Path) -> _Values:
    """Run a command for the scores of each topic. Raises CheckError if a metric has no mean."""
    per_topic = [*command[:3], "-q", *command[3:]]
    result = subprocess.run(per_topic, capture_output=True, text=True, check=False)
    printed = _parse(result.stdout, {METRICS[name].printed for name in names})
    missing = [name for name in names if ALL not in printed.get(METRICS[name].printed, {})]
    if result.returncode or missing:
        said = (result.stdout + result.stderr)[-_TAIL_CHARACTERS:]
        raise CheckError(f"trec_eval gave no {', '.join(missing) or 'scores'} for {run}: {said}")
    return {name: printed[METRICS[name].printed] for name in names}


def _parse(text: str, wanted: set[str]) -> _Values:
    """Parse the wanted lines of trec_eval, `METRIC TOPIC VALUE`. Others may hold no number."""
    printed: _Values = {}
    for line in text.splitlines():
        columns = line.split()
        if len(columns) == 3 and columns[0] in wanted:
            printed.setdefault(columns[0], {})[columns[1]] = float(columns[2])
    return printed


def _commands(qrels: Path | str, run: Path, topics: TopicSet) -> _Commands:
    if _takes_ir_measures(qrels):
        measures = [str(to_measure(name, topics.relevance_level)) for name in topics.metrics]
        return {topics.metrics: python("ir_measures", qrels, run, *measures)}
    unknown = [name for name in topics.metrics if name not in METRICS]
    if unknown:
        raise InputError(
            f"trec_eval does not compute {', '.join(unknown)}: leave --pyserini-names away, "
            f"or give metrics of these: {', '.join(METRICS)}"
        )
    names_of: dict[tuple[str, ...], list[str]] = {}
    for name in topics.metrics:
        options = _options(METRICS[name], topics.relevance_level)
        names_of.setdefault(options, []).append(name)
    return {tuple(names): _command(qrels, run, names, options) for options, names in names_of.items()}


def _options(metric: Metric, relevance_level: int) -> tuple[str, ...]:
    if not metric.binary or relevance_level == 1:
        return metric.options
    return (*metric.options, "-l", str(relevance_level))


def _command(qrels: Path | str, run: Path, names: Sequence[str], options: Sequence[str]) -> list[str]:
    """Command for some metrics; `-c` counts a topic without hits as 0."""
    cutoffs: dict[str, list[str]] = {}
    for name in names:
        metric, _, cutoff = METRICS[name].asked.partition(".")
        cutoffs.setdefault(metric, []).append(cutoff)
    asked: list[str] = []
    for metric, wanted in cutoffs.items():  # trec_eval takes each metric once, with all its cutoffs
        asked += ["-m", f"{metric}.{','.join(wanted)}".rstrip(".")]
    return python("pyserini.eval.trec_eval", "-c", *options, *asked, qrels, run)
