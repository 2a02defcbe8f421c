"""Lucene's own answer to a query vector: hits, scores, and a document's impacts.

Scores come from Lucene's query over the terms and ImpactSimilarity. Anserini's rerankers are left out: they
change the last digits of equal scores. The JVM is in this process.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.json_text import parse_json
from csplade_pyserini.impacts import Vector
from csplade_pyserini.lucene import classes
from csplade_pyserini.lucene.classes import CONTENTS, DOCID, RAW, cast_to, java_errors, open_reader
from csplade_pyserini.lucene.java import prepare_java

MAX_CLAUSES = 65_536
"""Limit on the terms of a query. Lucene's own, 1,024, would let one long query end its whole batch."""
LARGEST_EXACT_SCORE = 2**24
"""Largest exact score: Lucene's are 32-bit floats, which round whole numbers above."""


@dataclass(frozen=True)
class Match:
    """A document as Lucene sees it for one query."""

    docid: str
    score: float
    """Lucene's score."""
    impacts: Vector
    """Impacts of the query's terms in the document, from its postings."""
    text: str
    """The document's text, if the index stores JSON records that have it; else empty."""


class ImpactIndex:
    """A Lucene impact index, open for reading."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError if there is no index, or no Java to read it with."""
        if not folder.is_dir():
            raise InputError(
                f"the index {folder} does not exist; wanted a folder that `index` or Pyserini's indexer made"
            )
        prepare_java()
        with java_errors(f"{folder} is no Lucene index", InputError):
            self._reader = open_reader(folder)
        self._folder = folder
        context = cast_to("org.apache.lucene.index.IndexReaderContext", self._reader.getContext())
        self._searcher = classes.IndexSearcher(context)
        self._searcher.setSimilarity(classes.ImpactSimilarity())
        classes.IndexSearcher.setMaxClauseCount(MAX_CLAUSES)

    def search(self, vector: Vector, hits: int) -> list[Match]:
        """Return a query vector's best documents, best first; Pyserini's order, equal ones by docid."""
        if not vector:
            return []
        top = self._top(vector, min(hits, self._reader.maxDoc()))
        ranked = sorted((-found.score, self._docid(found.doc), found.doc) for found in top)
        return [self._match(number, docid, -score, vector) for score, docid, number in ranked[:hits]]

    def find(self, vector: Vector, docid: str) -> Match:
        """Return one document, wherever it ranks. Raises InputError unless exactly one has this docid."""
        by_docid = classes.TermQuery(classes.Term(DOCID, docid))
        found = self._searcher.search(by_docid, 2).scoreDocs
        if len(found) != 1:
            number = len(found) or "no"
            raise InputError(f"{self._folder} has {number} documents with the docid {docid!r}; wanted one")
        return self._match(found[0].doc, docid, self._score(vector, found[0].doc), vector)

    def _top(self, vector: Vector, hits: int) -> Any:
        """Find the best documents and all that tie with the last of them.

        Ties go by internal number in Lucene and by docid in Anserini, so all have to be seen.
        """
        wanted = hits + 1
        while True:
            top = self._searcher.search(self._query(vector), wanted).scoreDocs
            if len(top) < wanted or top[hits - 1].score > top[-1].score:
                return top
            wanted = 2 * wanted + 1

    def _score(self, vector: Vector, number: int) -> float:
        if not vector:
            return 0.0
        query = cast_to("org.apache.lucene.search.Query", self._query(vector))
        return float(self._searcher.explain(query, number).getValue().floatValue())

    def _query(self, vector: Vector) -> Any:
        builder = classes.BooleanQueryBuilder()
        should = classes.BooleanClauseOccur.SHOULD
        for term, impact in vector.items():
            query = classes.TermQuery(classes.Term(CONTENTS, term))
            builder.add(classes.BoostQuery(query, float(impact)), should)
        return builder.build()

    def _match(self, number: int, docid: str, score: float, terms: Iterable[str]) -> Match:
        return Match(docid, score, self._impacts(number, terms), self._text(number))

    def _docid(self, number: int) -> str:
        return str(self._reader.storedFields().document(number).get(DOCID))

    def _impacts(self, number: int, terms: Iterable[str]) -> Vector:
        """Read the frequencies of terms in the document of this internal number from the postings."""
        leaves = self._reader.leaves().toArray()
        leaf = next(leaf for leaf in reversed(leaves) if leaf.docBase <= number)
        number_in_leaf = number - leaf.docBase
        found = {}
        for term in terms:
            postings = leaf.reader().postings(classes.Term(CONTENTS, term))
            if postings is not None and postings.advance(number_in_leaf) == number_in_leaf:
                found[term] = int(postings.freq())
        return found

    def _text(self, number: int) -> str:
        raw = self._reader.storedFields().document(number).get(RAW)
        try:
            contents = parse_json(str(raw))["contents"]
        except (ValueError, RecursionError, KeyError, TypeError):  # none, or of another collection class
            return ""
        return contents if isinstance(contents, str) else ""


def equals_score(total: int, score: float) -> bool:
    """Whether a sum of impacts is Lucene's score: exactly, as far as a 32-bit float can tell."""
    if total == score:
        return True
    return total > LARGEST_EXACT_SCORE and math.isclose(total, score, rel_tol=2**-23)
