"""Many queries into Java, and all their hits out of it, in one call each.

Every call into Java costs microseconds, and a list of Java objects one such call for each. Jackson, which
Anserini's jar has, turns a whole batch into one text instead. Hits become Java objects only for whoever asks.
"""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from csplade_pyserini.errors import InputError
from csplade_pyserini.impacts import Vector
from csplade_pyserini.lucene import classes
from csplade_pyserini.lucene.classes import java_errors
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.lucene.matching import MAX_CLAUSES


class PlainHit(NamedTuple):
    """Docid and score of a hit, outside Java."""

    docid: str
    score: float


class Hits(list[Any]):
    """A query's hits: docids and scores at hand, and Java's objects as the list's items, once asked for."""

    def __init__(self, results: Any, qid: str, docids: list[str], scores: list[float]) -> None:
        """results: Java's map of all queries' hits."""
        super().__init__()
        self._results = results
        self._qid = qid
        self._plain = list(map(PlainHit, docids, scores))

    @property
    def plain(self) -> list[Any]:
        """The hits outside Java; Java's own, once somebody has asked for them and may have changed them."""
        return self if self._results is None else self._plain

    def fill(self) -> None:
        """Make the list's items."""
        if self._results is not None:
            results, self._results = self._results, None
            self.extend(results.get(self._qid))

    def __len__(self) -> int:
        return len(self._plain) if self._results is not None else super().__len__()

    def __bool__(self) -> bool:
        return len(self) > 0

    def __radd__(self, other: list[Any]) -> list[Any]:
        self.fill()
        return other + list(self)

    def __reduce__(self) -> Any:
        self.fill()
        return list, (list(self),)


def _filling(name: str) -> Any:
    stock = getattr(list, name)

    @functools.wraps(stock)
    def method(self: Hits, *args: Any, **options: Any) -> Any:
        self.fill()
        return stock(self, *args, **options)

    return method


for _name in (
    "__iter__", "__getitem__", "__setitem__", "__delitem__", "__contains__", "__reversed__", "__add__",
    "__iadd__", "__mul__", "__rmul__", "__imul__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__",
    "__ge__", "__repr__", "append", "clear", "copy", "count", "index", "insert", "pop", "remove",
    "reverse", "sort",
):  # fmt: skip
    setattr(Hits, _name, _filling(_name))
"""Methods of a list that see its items."""


def batch_search(
    searcher: Any, vectors: Sequence[Mapping[str, int]], qids: Sequence[str], hits: int, threads: int
) -> dict[str, Hits]:
    """Search with Anserini's impact searcher; the same hits as its batch_search."""
    queries = mapper().readValue(json.dumps([_plain_ints(vector) for vector in vectors]), _list_class())
    names = mapper().readValue(json.dumps(list(qids)), _list_class())
    results = searcher.batch_search(queries, names, int(hits), int(threads))
    found = json.loads(mapper().writeValueAsString(results))
    return {qid: _hits(results, qid, rows) for qid, rows in found.items()}


class ImpactSearcher:
    """Anserini's impact searcher over an index, for query vectors."""

    def __init__(self, index: Path) -> None:
        """Raises InputError if there is no index."""
        if not index.is_dir():
            raise InputError(f"the index {index} does not exist")
        prepare_java()
        with java_errors(f"{index} is no Lucene index", InputError):
            self._searcher = classes.SimpleImpactSearcher(str(index))
        classes.IndexSearcher.setMaxClauseCount(MAX_CLAUSES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._searcher.close()

    def search(self, vectors: Mapping[str, Vector], hits: int) -> dict[str, list[tuple[str, float]]]:
        """Docids and scores of each query's best documents, by qid, best first."""
        found = batch_search(self._searcher, list(vectors.values()), list(vectors), hits, threads=1)
        return {qid: [(hit.docid, hit.score) for hit in found[qid].plain] for qid in vectors}


@functools.cache
def mapper() -> Any:
    """Jackson's mapper, which leaves out the hits' documents and escapes everything but ASCII."""
    made = classes.ObjectMapper()
    made.configOverride(_java_class("org.apache.lucene.document.Document")).setIsIgnoredType(
        classes.Boolean(True)
    )
    made.getFactory().configure(classes.JsonFeature.ESCAPE_NON_ASCII, True)
    return made


@functools.cache
def _list_class() -> Any:
    return _java_class("java.util.ArrayList")


def _java_class(name: str) -> Any:
    return classes.Class.forName(name)


def _plain_ints(vector: Mapping[str, int]) -> dict[str, int]:
    return {term: int(impact) for term, impact in vector.items()}


def _hits(results: Any, qid: str, rows: list[dict[str, Any]]) -> Hits:
    docids = [row["docid"] for row in rows]
    # JSON has the shortest digits of Java's 32-bit float; Python's number for it is the nearest 64-bit one.
    scores = np.array([row["score"] for row in rows], dtype=np.float32).tolist()
    return Hits(results, qid, docids, scores)


def plain_hits(hits: Sequence[Any]) -> Iterator[Any]:
    """Hits as cheaply as they are to be had: `docid` and `score` alone if nobody has asked for more."""
    yield from hits.plain if isinstance(hits, Hits) else hits
