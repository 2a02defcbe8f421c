"""Many queries into Java, and all their hits out of it, in few calls.

Anserini reads the stored document of every hit, and every hit is a Java object that takes calls of its own.
Here a batch's docids and scores come out as one text, by Jackson, which Anserini's jar has. Hits become
Anserini's objects only for whoever asks. Until then they are two lists: Python's garbage collector takes
longer over a thousand small objects a query than Lucene over its search.
"""

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from csplade_pyserini.errors import InputError
from csplade_pyserini.impacts import Vector
from csplade_pyserini.lucene import classes
from csplade_pyserini.lucene.classes import CONTENTS, DOCID, cast_to, java_errors, open_reader
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.lucene.matching import MAX_CLAUSES

_SPECIAL = re.compile(r"\W|_")
_OPERATORS = ("AND", "OR", "NOT")
"""Words that Lucene's query parser takes for operators."""
_SAME = np.float32(1e-4)
_STEP = np.float32(1e-6)
"""Anserini's ScoreTiesAdjusterReranker: scores this close are ties, and each next tie loses this much."""


class PlainHit(NamedTuple):
    """Docid and score of a hit, outside Java."""

    docid: str
    score: float


class Hits(list[Any]):
    """A query's hits: docids and scores at hand, and Java's objects as the list's items, once asked for."""

    def __init__(self, top: Any, searcher: Any, docids: list[str], scores: list[float]) -> None:
        """top: Lucene's TopDocs, in the order of docids and scores. searcher: the IndexSearcher."""
        super().__init__()
        self._top = top
        self._searcher = searcher
        self._docids = docids
        self._scores = scores

    @property
    def plain(self) -> Iterator[Any]:
        """The hits outside Java; Java's own, once somebody has asked for them and may have changed them."""
        return iter(self) if self._top is None else map(PlainHit, self._docids, self._scores)

    def fill(self) -> None:
        """Make the list's items."""
        if self._top is None:
            return
        top, self._top = self._top, None
        documents = classes.ScoredDocs.fromTopDocs(top, self._searcher).lucene_documents
        numbers = [hit.doc for hit in top.scoreDocs]
        rows = zip(self._docids, numbers, self._scores, documents, strict=True)
        for docid, number, score, document in rows:
            self.append(classes.ScoredDoc(docid, number, score, document))

    def __len__(self) -> int:
        return len(self._docids) if self._top is not None else super().__len__()

    def __bool__(self) -> bool:
        return len(self) > 0

    def __radd__(self, other: list[Any]) -> list[Any]:
        return other + list(self)

    def __reduce__(self) -> Any:
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
    "__ge__", "__repr__", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove",
    "reverse", "sort",
):  # fmt: skip
    setattr(Hits, _name, _filling(_name))
"""Methods of a list that see its items; append is called by fill, too, which has taken `_top` away."""
setattr(Hits, "append", _filling("append"))  # noqa: B010


class BulkSearcher:
    """A search over a reader of an impact index, of any number of segments or shards."""

    def __init__(self, reader: Any) -> None:
        """reader: an open IndexReader, which its owner closes."""
        self._searcher = classes.IndexSearcher(
            cast_to("org.apache.lucene.index.IndexReaderContext", reader.getContext())
        )
        self._searcher.setSimilarity(classes.ImpactSimilarity())
        self._documents = max(1, int(reader.maxDoc()))
        string_value = classes.SortFieldType.STRING_VAL
        # as Anserini sorts: equal scores by docid
        self._sort = classes.Sort(classes.SortField.FIELD_SCORE, classes.SortField(DOCID, string_value))
        classes.IndexSearcher.setMaxClauseCount(MAX_CLAUSES)

    def search(
        self, vectors: Sequence[Mapping[str, int]], qids: Sequence[str], hits: int, threads: int
    ) -> dict[str, Hits]:
        """Search for vectors: the hits, and the order and scores, of Anserini's batch_search."""
        parser = classes.QueryParser(CONTENTS, classes.WhitespaceAnalyzer())
        queries = [parser.parse(query_text(vector)) if vector else None for vector in vectors]
        most = min(hits, self._documents)

        def top_of(query: Any) -> Any:
            return None if query is None else self._searcher.search(query, most, self._sort, True)

        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                tops = list(pool.map(_detaching(top_of), queries))
        else:
            tops = list(map(top_of, queries))
        listed = classes.ArrayList()
        for top in tops:
            if top is not None:
                listed.add(cast_to("java.lang.Object", top))
        texts = iter(json.loads(_mapper().writeValueAsString(listed)))
        return {
            qid: self._hits(top, [] if top is None else next(texts)["scoreDocs"])
            for qid, top in zip(qids, tops, strict=True)
        }

    def _hits(self, top: Any, rows: list[dict[str, Any]]) -> Hits:
        # JSON has the shortest digits of a 32-bit float: only as one are they the score
        scores = np.array([row["fields"][0] for row in rows], dtype=np.float32)
        docids = strings_of([row["fields"][1] for row in rows])
        return Hits(top, self._searcher, docids, with_ties_apart(scores).tolist())


class ImpactSearcher(BulkSearcher):
    """A search over the index in a folder, of shards or not."""

    def __init__(self, index: Path) -> None:
        """Raises InputError if there is no index."""
        if not index.is_dir():
            raise InputError(f"the index {index} does not exist")
        prepare_java()
        with java_errors(f"{index} is no Lucene index", InputError):
            self._reader = open_reader(index)
        super().__init__(self._reader)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def run(
        self, vectors: Mapping[str, Vector], hits: int, threads: int = 1
    ) -> dict[str, list[tuple[str, float]]]:
        """Docids and scores of each query's best documents, by qid, best first."""
        found = self.search(list(vectors.values()), list(vectors), hits, threads)
        return {qid: [(hit.docid, hit.score) for hit in found[qid].plain] for qid in vectors}


def query_text(vector: Mapping[str, int]) -> str:
    """Format a vector for Lucene's query parser: `TERM^IMPACT`, special characters escaped."""
    return " ".join([f"{_escaped(term)}^{int(impact)}" for term, impact in vector.items()])


def _escaped(term: str) -> str:
    if term in _OPERATORS:
        return f"\\{term}"
    return _SPECIAL.sub(r"\\\g<0>", term)


def with_ties_apart(scores: np.ndarray) -> np.ndarray:
    """Scores as Anserini's ScoreTiesAdjusterReranker leaves them, in 32-bit floats; best first."""
    if not (scores == np.rint(scores)).all():
        return _one_by_one(scores)
    # whole numbers are rounded already, and differ by 1 at least unless they tie
    begins = np.flatnonzero(np.diff(scores, prepend=np.float32(np.inf)))
    lengths = np.diff(begins, append=len(scores))
    ties = np.arange(len(scores)) - np.repeat(begins, lengths)
    adjusted: np.ndarray = scores - _STEP * ties.astype(np.float32)
    return adjusted


def _one_by_one(scores: np.ndarray) -> np.ndarray:
    adjusted = (np.floor(scores.astype(np.float64) * 10_000 + 0.5) / 10_000).astype(np.float32)
    ties = np.float32(0)
    for number in range(1, len(adjusted)):
        if adjusted[number - 1] - adjusted[number] > _SAME:
            ties = np.float32(0)
        else:
            ties += np.float32(1)
            adjusted[number] -= _STEP * ties
    return adjusted


def strings_of(shown: Sequence[str]) -> list[str]:
    """Strings of Lucene's BytesRefs as those show themselves: `[64 6f 63]`."""
    if not shown:
        return []
    # one call for all: the byte FF is in no UTF-8
    pairs = " ff ".join(shown).replace("[", "").replace("]", "")
    try:
        return bytes.fromhex(pairs).decode(errors="surrogateescape").split("\udcff")
    except ValueError:  # Java shows a control character by one digit
        return [bytes(int(byte, 16) for byte in text[1:-1].split()).decode() for text in shown]


def plain_hits(hits: Sequence[Any]) -> Iterator[Any]:
    """Hits as cheaply as they are to be had: `docid` and `score` alone if nobody has asked for more."""
    yield from hits.plain if isinstance(hits, Hits) else hits


def _detaching(search: Any) -> Any:
    """Let go of the JVM after each call: threads of a pool end without a word."""
    import jnius

    def call(query: Any) -> Any:
        try:
            return search(query)
        finally:
            jnius.detach()

    return call


@functools.cache
def _mapper() -> Any:
    """Make Jackson's mapper: of a hit the sorted fields alone, and bytes as Java shows them."""
    mapper = classes.ObjectMapper()
    for name, left_out in (
        ("org.apache.lucene.search.FieldDoc", ("score", "doc", "shardIndex")),
        ("org.apache.lucene.search.TopFieldDocs", ("totalHits", "fields")),
    ):
        names = classes.HashSet()
        for left in left_out:
            names.add(left)
        ignored = classes.JsonIgnored.forIgnoredProperties(names)
        mapper.configOverride(classes.Class.forName(name)).setIgnorals(ignored)
    module = classes.SimpleModule()
    module.addSerializer(
        classes.Class.forName(classes.NAMES["BytesRef"]), classes.ToStringSerializer.instance
    )
    mapper.registerModule(module)
    return mapper
