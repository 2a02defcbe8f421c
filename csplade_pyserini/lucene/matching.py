"""What Lucene itself says of a query's vector in an impact index: hits, scores, and a document's impacts.

Scores come from Lucene's own query over the terms and ImpactSimilarity, without Anserini's rerankers, which change the last
digits of equal scores. JVM in this process.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csplade_pyserini.errors import InputError
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.lucene.postings import CONTENTS, DOCID, RAW, java_class, open_reader

MAX_CLAUSES = 65_536
"""Lucene's limit on the terms of a query, 1,024 by default: one longer query would end its whole batch."""
LARGEST_EXACT_SCORE = 2**24
"""Lucene's scores are 32-bit floats: whole numbers above are rounded."""


@dataclass(frozen=True)
class Match:
    """A document as Lucene sees it for one query."""

    docid: str
    score: float
    """Lucene's."""
    impacts: dict[str, int]
    """The impacts of the query's terms that the document has, out of its postings."""
    text: str
    """The document's text where the index stores JSON records that have it; else empty."""


class ImpactIndex:
    """A Lucene impact index, open for reading."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError where there is no index, or no Java to read it with."""
        if not folder.is_dir():
            raise InputError(
                f"the index {folder} does not exist; wanted a folder that `index` or Pyserini's indexer made"
            )
        prepare_java()
        import pyserini.pyclass  # noqa: F401  (before jnius: it says where the jar is)
        from jnius import JavaException, cast

        try:
            self._reader = open_reader(folder)
        except JavaException as error:
            raise InputError(f"{folder} is no Lucene index: {str(error).splitlines()[0]}") from None
        self._folder, self._cast = folder, cast
        context = cast("org.apache.lucene.index.IndexReaderContext", self._reader.getContext())
        self._searcher = java_class("lucene.search.IndexSearcher")(context)
        self._searcher.setSimilarity(java_class("io.anserini.search.similarity.ImpactSimilarity")())
        java_class("lucene.search.IndexSearcher").setMaxClauseCount(MAX_CLAUSES)

    def search(self, vector: dict[str, int], hits: int) -> list[Match]:
        """The `hits` best documents of a query's vector, best first, equal ones by docid, as Pyserini ranks them."""
        if not vector:
            return []
        # Ties go by internal number in Lucene and by docid in Anserini: what ties with the last has to be seen too.
        hits = min(hits, self._reader.maxDoc())
        wanted = hits + 1
        while True:
            top = self._searcher.search(self._query(vector), wanted).scoreDocs
            if len(top) < wanted or top[hits - 1].score > top[-1].score:
                break
            wanted = 2 * wanted + 1
        ranked = sorted((-found.score, self._docid(found.doc), found.doc) for found in top)[:hits]
        return [self._match(number, docid, -score, vector) for score, docid, number in ranked]

    def find(self, vector: dict[str, int], docid: str) -> Match:
        """One document, wherever it ranks. Raises InputError where the index has none, or several, of this docid."""
        by_docid = java_class("lucene.search.TermQuery")(java_class("lucene.index.Term")(DOCID, docid))
        found = self._searcher.search(by_docid, 2).scoreDocs
        if len(found) != 1:
            raise InputError(
                f"{self._folder} has {len(found) or 'no'} documents with the docid {docid!r}; wanted one"
            )
        score = 0.0
        if vector:
            score = float(
                self._searcher.explain(
                    self._cast("org.apache.lucene.search.Query", self._query(vector)), found[0].doc
                )
                .getValue()
                .floatValue()
            )
        return self._match(found[0].doc, docid, score, vector)

    def _query(self, vector: dict[str, int]) -> Any:
        builder = java_class("lucene.search.BooleanQuery$Builder")()
        should = java_class("lucene.search.BooleanClause$Occur").SHOULD
        for term, impact in vector.items():
            query = java_class("lucene.search.TermQuery")(java_class("lucene.index.Term")(CONTENTS, term))
            builder.add(java_class("lucene.search.BoostQuery")(query, float(impact)), should)
        return builder.build()

    def _match(self, number: int, docid: str, score: float, terms: Iterable[str]) -> Match:
        return Match(docid, score, self._impacts(number, terms), self._text(number))

    def _docid(self, number: int) -> str:
        return str(self._reader.storedFields().document(number).get(DOCID))

    def _impacts(self, number: int, terms: Iterable[str]) -> dict[str, int]:
        """The frequencies of terms in the document of this internal number, straight from the postings."""
        leaf = next(leaf for leaf in reversed(self._reader.leaves().toArray()) if leaf.docBase <= number)
        found = {}
        for term in terms:
            postings = leaf.reader().postings(java_class("lucene.index.Term")(CONTENTS, term))
            if postings is not None and postings.advance(number - leaf.docBase) == number - leaf.docBase:
                found[term] = int(postings.freq())
        return found

    def _text(self, number: int) -> str:
        raw = self._reader.storedFields().document(number).get(RAW)
        try:
            contents = json.loads(str(raw))["contents"]
        except (
            ValueError,
            RecursionError,
            KeyError,
            TypeError,
        ):  # none stored, or what another collection class stores
            return ""
        return contents if isinstance(contents, str) else ""


def equals_score(total: int, score: float) -> bool:
    """Whether a sum of impacts is Lucene's score: exactly, as far as a 32-bit float can tell."""
    return total == score or (total > LARGEST_EXACT_SCORE and math.isclose(total, score, rel_tol=2**-23))
