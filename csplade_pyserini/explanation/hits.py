"""A search from Python in one call: hits with their texts and the terms that matched."""

import functools
import html
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from csplade_pyserini.cards import canonical_name
from csplade_pyserini.collections.manifests import index_commit
from csplade_pyserini.errors import InputError
from csplade_pyserini.explanation.shares import shown_term
from csplade_pyserini.files.whole import real_path
from csplade_pyserini.interface import QuerySide
from csplade_pyserini.lucene.makers import maker_name, refuse_mismatch
from csplade_pyserini.lucene.matching import ImpactIndex, Match
from csplade_pyserini.query_sides import build_queries, find_queries

SHOWN_TERMS = 8
"""Terms that a table shows of a hit."""
SHOWN_TEXT = 300
"""Characters that a table shows of a text."""


@dataclass(frozen=True, kw_only=True)
class MatchedTerm:
    """A term that both query and document have."""

    term: str
    """The term as Lucene has it: a raw tokenizer string."""
    shown: str
    """The term as people read it."""
    query_impact: int
    document_impact: int

    @property
    def product(self) -> int:
        """The term's part of the score."""
        return self.query_impact * self.document_impact


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A document that a search found."""

    docid: str
    score: float
    """Lucene's score: the sum of the terms' products."""
    text: str
    """The text that the index stores; empty if it stores none (`index --store-raw` keeps it)."""
    terms: tuple[MatchedTerm, ...]
    """Matched terms, largest product first."""


class Hits(list[Hit]):
    """Hits of a query, best first. Jupyter shows them as a table."""

    def __init__(self, hits: Iterable[Hit] = (), *, query: str = "", encoder: str = "") -> None:
        """encoder: identity of the encoder."""
        super().__init__(hits)
        self.query = query
        self.encoder = encoder

    def _repr_html_(self) -> str:
        """HTML of the table. Everything in it is escaped."""
        caption = f"{len(self)} hits for “{html.escape(self.query)}” by {html.escape(self.encoder)}"
        columns = ["rank", "docid", "score", "matched terms"]
        has_texts = any(hit.text for hit in self)
        if has_texts:
            columns.append("text")
        head = "".join(f"<th>{column}</th>" for column in columns)
        rows = [_row(rank, hit, has_texts) for rank, hit in enumerate(self, start=1)]
        return (
            f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table>"
        )


def search(index: str | Path, query: str, hits: int = 10, *, encoder: str | QuerySide | None = None) -> Hits:
    """Search an impact index and return its best hits, with the terms that matched.

    encoder: an encoder, or its name; None: the one that made the index. Index and encoder stay open for the
    next search. Raises InputError if the index is none, if its encoder is not here, or if another encoder
    made it.
    """
    if not isinstance(query, str):
        raise InputError(f"the query is {query!r}; wanted a text")
    if isinstance(hits, bool) or not isinstance(hits, int) or hits < 1:
        raise InputError(f"hits is {hits!r}; wanted a whole number above 0")
    folder = Path(index)
    opened = _open(real_path(folder), index_commit(folder))
    if encoder is None:
        encoder = maker_name(folder)
    if isinstance(encoder, str):
        source = find_queries(encoder)
        refuse_mismatch(folder, source.identity, name=source.name)
        encoder = _load(canonical_name(encoder), source.identity)
    else:
        refuse_mismatch(folder, encoder.identity)
    [vector] = encoder.encode_queries([query])
    found = opened.search(vector, hits)
    readable = encoder.readable
    return Hits((_hit(match, vector, readable) for match in found), query=query, encoder=encoder.identity)


@functools.lru_cache(maxsize=4)
def _open(folder: Path, commit: str) -> ImpactIndex:
    """Open an index; `commit` has it opened anew once it has changed."""
    return ImpactIndex(folder)


@functools.lru_cache(maxsize=1)
def _load(name: str, identity: str) -> QuerySide:
    """Load an encoder; `identity` has it loaded anew once its weights have changed."""
    return build_queries(find_queries(name))


def _hit(match: Match, query: dict[str, int], readable: Callable[[str], str]) -> Hit:
    terms = [
        MatchedTerm(
            term=term,
            shown=shown_term(term, readable),
            query_impact=query[term],
            document_impact=impact,
        )
        for term, impact in match.impacts.items()
    ]
    best_first = sorted(terms, key=lambda matched: (-matched.product, matched.term))
    return Hit(docid=match.docid, score=match.score, text=match.text, terms=tuple(best_first))


def _row(rank: int, hit: Hit, has_texts: bool) -> str:
    terms = ", ".join(
        f"{matched.shown} {matched.query_impact}×{matched.document_impact}"
        for matched in hit.terms[:SHOWN_TERMS]
    )
    if len(hit.terms) > SHOWN_TERMS:
        terms += f" and {len(hit.terms) - SHOWN_TERMS} more"
    cells = [str(rank), hit.docid, f"{hit.score:.0f}", terms]
    if has_texts:
        text = hit.text
        if len(text) > SHOWN_TEXT:
            text = f"{text[:SHOWN_TEXT]}…"
        cells.append(text)
    return f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"
