"""Tables of expected scores: a run is compared with them, or shown beside them.

The tables are expected/*.toml in this folder.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.tables import parse_table, read_toml

SIZES = ("index_bytes", "bytes_per_posting", "terms_per_document", "terms_per_query")
"""Sizes that a table may hold: of the Lucene index, and mean active terms."""
_OPTIONS: dict[str, type] = {"max_length": int, "top_terms": int, "query_prefix": str, "document_prefix": str}
"""Options that a table may hold: all that change a vector."""
ROUNDING = 1e-9
"""Slack for floats, so that a score exactly at the tolerance passes."""

Scores = Mapping[str, float]
"""Values from 0 to 1, by metric."""


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """Scores of one encoder from one source."""

    encoder: str
    """A card's name, or BM25."""
    origin: Literal["measured", "paper", "regression", "third party"]
    """measured: by us, with the weights of this package."""
    source: str
    """Publication of the scores; for measured ones versions, hardware and date."""
    tolerance: float = 0.0
    """Largest difference that a run may have; 0: the scores are only shown."""
    index_gb: float = 0.0
    """Size of MS MARCO's Lucene index, if the source gives it."""
    scores: dict[str, Any] = field(default_factory=dict)
    """Metrics and values, by test collection with its topics."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the encoder's name that its scores are made with, by test collection or the beginning of its
    name; those of a longer name win."""
    sizes: dict[str, Any] = field(default_factory=dict)
    """Measured sizes, named as in SIZES, by test collection with its topics."""


def read_expected(folder: Path | None = None) -> list[ScoreTable]:
    """Read all tables of a folder, by default those that ship. Raises InputError that names the file."""
    if folder is None:
        folder = Path(str(resources.files(__package__) / "expected"))
    tables: list[ScoreTable] = []
    for path in sorted(folder.glob("*.toml")):
        tables += _read_file(path)
    return tables


def _read_file(path: Path) -> Iterator[ScoreTable]:
    tables = read_toml(path, "table of expected scores").get("expected", [])
    for number, table in enumerate(tables, start=1):
        origin = f"{path} [[expected]] {number}"
        parsed = parse_table(ScoreTable, table, origin)
        _check_scores(parsed, origin)
        _check_options(parsed, origin)
        _check_sizes(parsed, origin)
        yield parsed


def expected_scores(tables: Sequence[ScoreTable], encoder: str, key: str) -> ScoreTable | None:
    """Find the table to compare a run with: our own measurement before a paper's.

    key: test collection with its topics.
    """
    found = [table for table in tables if table.encoder == encoder and key in table.scores]
    compared = [table for table in found if table.tolerance > 0]
    return min(compared, key=lambda table: table.origin != "measured", default=None)


def encoding_options(tables: Sequence[ScoreTable], encoder: str, collection: str) -> dict[str, str | int]:
    """Options that an encoder's published scores on a test collection are made with; empty for its card's."""
    options: dict[str, str | int] = {}
    for table in tables:
        if table.encoder != encoder:
            continue
        for name in sorted(table.options, key=len):
            if f"{collection}/".startswith(f"{name}/"):
                options |= table.options[name]
    return options


def differences(expected: ScoreTable, key: str, scores: Scores) -> list[str]:
    """One sentence per score that differs from the expected one by more than the tolerance."""
    sentences = []
    for metric, value in expected.scores[key].items():
        if metric not in scores:
            continue
        found = scores[metric]
        if not abs(found - value) <= expected.tolerance + ROUNDING:  # true for NaN, too
            sentences.append(
                f"{key} {metric} is {found:.4f}; expected {value:.4f} within {expected.tolerance:.4f} "
                f"({expected.origin}: {expected.source})"
            )
    return sentences


def _check_scores(table: ScoreTable, origin: str) -> None:
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


def _check_options(table: ScoreTable, origin: str) -> None:
    for name, options in table.options.items():
        if not isinstance(options, dict) or not set(options) <= _OPTIONS.keys():
            raise InputError(
                f"{origin}: the options for {name!r} are {options!r}; wanted a table of {', '.join(_OPTIONS)}"
            )
        for key, value in options.items():
            if type(value) is not _OPTIONS[key] or "," in str(value):
                raise InputError(
                    f"{origin}: {key} for {name!r} is {value!r}; "
                    f"wanted {_OPTIONS[key].__name__}, without a comma"
                )


def _check_sizes(table: ScoreTable, origin: str) -> None:
    for key, sizes in table.sizes.items():
        if key not in table.scores or not isinstance(sizes, dict) or not set(sizes) <= set(SIZES):
            raise InputError(
                f"{origin}: the sizes of {key!r} are {sizes!r}; "
                f"wanted those of a collection with scores: {', '.join(SIZES)}"
            )
