"""Expected scores, out of the tables in run_scripts/expected: what a run is held against, and what it is read beside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.tables import parse_table, read_toml

SIZES = ("index_bytes", "bytes_per_posting", "terms_per_document", "terms_per_query")
"""Of the Lucene index, and mean active terms."""
Scores = Mapping[str, float]
"""Metric to value, from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """What one source says of one encoder."""

    encoder: str
    """A card's name, or BM25."""
    origin: Literal["measured", "paper", "regression", "third party"]
    """measured: by us, with the weights of this package."""
    source: str
    """Where the scores stand; of measured ones versions, hardware and date."""
    tolerance: float = 0.0
    """How far a run may be off; 0: it is not held against these."""
    index_gb: float = 0.0
    """Of MS MARCO's Lucene index, where the source gives it."""
    scores: dict[str, Any] = field(default_factory=dict)
    """Collection, with its topics where it has several, to metrics to values."""
    sizes: dict[str, Any] = field(default_factory=dict)
    """The same collections to what SIZES lists, where it was measured."""


def read_expected(folder: Path | None = None) -> list[ScoreTable]:
    """All tables of a folder, by default those that ship. Raises InputError that names the file."""
    folder = folder or Path(str(resources.files("csplade_pyserini.expected")))
    tables = []
    for path in sorted(folder.glob("*.toml")):
        for number, table in enumerate(
            read_toml(path, "table of expected scores").get("expected", []), start=1
        ):
            origin = f"{path} [[expected]] {number}"
            parsed = parse_table(ScoreTable, table, origin)
            _check_values(parsed, origin)
            tables.append(parsed)
    return tables


def expected_scores(tables: Sequence[ScoreTable], encoder: str, key: str) -> ScoreTable | None:
    """The table that a run of `encoder` on the collection `key` is held against: our own measurement before a paper's."""
    held = [
        table for table in tables if table.encoder == encoder and key in table.scores and table.tolerance > 0
    ]
    return min(held, key=lambda table: table.origin != "measured", default=None)


def differences(expected: ScoreTable, key: str, scores: Scores) -> list[str]:
    """A sentence for every expected score that a run's is off by more than the tolerance."""
    source = f"{expected.origin}: {expected.source}"
    return [
        f"{key} {metric} is {scores[metric]:.4f}; expected {value:.4f} within {expected.tolerance:.4f} ({source})"
        for metric, value in expected.scores[key].items()
        if metric in scores and not abs(scores[metric] - value) <= expected.tolerance + 1e-9
    ]


def _check_values(table: ScoreTable, origin: str) -> None:
    for key, scores in table.scores.items():
        if not isinstance(scores, dict) or not scores:
            raise InputError(
                f"{origin}: the scores of {key!r} are {scores!r}; wanted a table of metrics and values"
            )
        for metric, value in scores.items():
            if type(value) is not float or not 0 <= value <= 1:
                raise InputError(
                    f"{origin}: {metric} of {key!r} is {value!r}; wanted a number from 0.0 to 1.0"
                )
    for key, sizes in table.sizes.items():
        if key not in table.scores or not isinstance(sizes, dict) or not set(sizes) <= set(SIZES):
            raise InputError(
                f"{origin}: the sizes of {key!r} are {sizes!r}; wanted those of a collection with scores: {', '.join(SIZES)}"
            )
