"""Shares of a score: each matched term's impacts, and the tokens behind its weights.

The score is the inner product of two integer vectors, so the products of the matched terms sum to it exactly.
A term's weight is the maximum over the text's tokens (arXiv 2504.10816, eq. 1): one token stands behind it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from csplade_pyserini.errors import CheckError
from csplade_pyserini.interface import AttributedText, QuerySide
from csplade_pyserini.lucene.matching import ImpactIndex, Match, equals_score

TOLERATED_IMPACT = 1
"""Difference that rounding on another device explains. More means another text."""


@dataclass(frozen=True, kw_only=True)
class TermShare:
    """One term's part in a score."""

    term: str
    """The term as Lucene has it: a raw tokenizer string."""
    shown: str
    """The term as people read it."""
    query_impact: int
    document_impact: int
    """0 if the document lacks the term."""
    product: int
    share: float
    """Part of the score, 0 to 1."""
    query_position: int | None
    """Position, from 0, of the query's token that gave the term its weight."""
    document_position: int | None
    """Position of the document's token, from 0; None without the document's text."""
    expands_query: bool
    """Whether the term is no word of the query's text."""
    expands_document: bool | None
    """Whether the term is no word of the document's text; None without that text."""


@dataclass(frozen=True, kw_only=True)
class ExplainedHit:
    """A document and its score, taken apart."""

    docid: str
    rank: int | None
    """Rank from 1; None if the document was asked for by its docid."""
    score: int
    """Sum of the products."""
    lucene_score: float
    matched: tuple[TermShare, ...]
    """Terms that both have, largest product first."""
    unmatched: tuple[TermShare, ...]
    """Terms of the query that the document lacks, heaviest first."""
    document: AttributedText | None
    """None without the document's text."""
    text_has_changed: bool
    """Whether the text has other impacts than the index. Then its positions are a guess."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A query, its vector, and some of its hits."""

    encoder: str
    """Identity: name, card hash, weight fingerprint."""
    query: AttributedText
    hits: tuple[ExplainedHit, ...]


def explain_hits(
    encoder: QuerySide,
    index: ImpactIndex,
    query: str,
    *,
    hits: int = 3,
    docid: str | None = None,
    find_texts: Callable[[Iterable[str]], Mapping[str, str]] | None = None,
) -> Explanation:
    """Take apart the scores of the best `hits` documents, or of the document `docid`.

    find_texts: gives documents' texts by docid, as they were encoded. Texts that it lacks are taken from the
    index if records are stored there. Raises InputError if the index has no such document, and CheckError if
    the products do not sum to Lucene's score.
    """
    attributed = encoder.attribute(query, side="query")
    ranks: Sequence[int | None] = [None]
    if docid is None:
        matches = index.search(attributed.vector, hits)
        ranks = range(1, len(matches) + 1)
    else:
        matches = [index.find(attributed.vector, docid)]
    texts: Mapping[str, str] = {}
    if find_texts is not None:
        texts = find_texts([match.docid for match in matches])
    explained = []
    for rank, match in zip(ranks, matches, strict=True):
        document = _attributed_document(encoder, texts.get(match.docid) or match.text)
        explained.append(_explain(encoder, attributed, match, document, rank))
    return Explanation(encoder=encoder.identity, query=attributed, hits=tuple(explained))


def is_expansion(term: str, text: AttributedText, readable: Callable[[str], str]) -> bool:
    """Whether a term is none of the text's tokens.

    Case and the mark of a word's beginning do not count.
    """
    return _surface(term, readable) not in {_surface(token, readable) for token in text.tokens}


def shown_term(term: str, readable: Callable[[str], str]) -> str:
    """Return a term as people read it. A term of white space alone stays raw."""
    return readable(term).strip() or term


def _surface(term: str, readable: Callable[[str], str]) -> str:
    return shown_term(term, readable).casefold()


def _attributed_document(encoder: QuerySide, text: str) -> AttributedText | None:
    if not text:
        return None
    return encoder.attribute(text, side="document")


def _explain(
    encoder: QuerySide,
    query: AttributedText,
    match: Match,
    document: AttributedText | None,
    rank: int | None,
) -> ExplainedHit:
    products = {term: impact * match.impacts.get(term, 0) for term, impact in query.vector.items()}
    score = sum(products.values())
    if not equals_score(score, match.score):
        raise CheckError(
            f"document {match.docid}: the products sum to {score}, Lucene's score is {match.score}"
        )
    shares = {term: _share(term, score, query, match, document, encoder.readable) for term in products}
    best_first = sorted(match.impacts, key=lambda term: (-products[term], term))
    return ExplainedHit(
        docid=match.docid,
        rank=rank,
        score=score,
        lucene_score=match.score,
        matched=tuple(shares[term] for term in best_first),
        unmatched=tuple(share for term, share in shares.items() if term not in match.impacts),
        document=document,
        text_has_changed=_has_changed(document, match.impacts),
    )


def _share(
    term: str,
    score: int,
    query: AttributedText,
    match: Match,
    document: AttributedText | None,
    readable: Callable[[str], str],
) -> TermShare:
    query_impact = query.vector[term]
    document_impact = match.impacts.get(term, 0)
    product = query_impact * document_impact
    document_position = None
    expands_document = None
    if document is not None:
        document_position = document.positions.get(term)
        expands_document = is_expansion(term, document, readable)
    return TermShare(
        term=term,
        shown=shown_term(term, readable),
        query_impact=query_impact,
        document_impact=document_impact,
        product=product,
        share=product / (score or 1),  # a score of 0 has products of 0 only
        query_position=query.positions.get(term),
        document_position=document_position,
        expands_query=is_expansion(term, query, readable),
        expands_document=expands_document,
    )


def _has_changed(document: AttributedText | None, impacts: Mapping[str, int]) -> bool:
    if document is None:
        return False
    vector = document.vector
    return any(abs(vector.get(term, 0) - impact) > TOLERATED_IMPACT for term, impact in impacts.items())
