"""A score taken apart: each matched term's impacts, its share, and the tokens that gave it its weights.

The score is the inner product of two vectors of integers, so that the products of the matched terms sum to it exactly; a term's
weight is the maximum over the text's tokens (arXiv 2504.10816, eq. 1), so that one token stands behind it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from csplade_pyserini.errors import CheckError
from csplade_pyserini.lucene.matching import ImpactIndex, Match, equals_score
from csplade_pyserini.model import AttributedText, SparseEncoder

TOLERATED_IMPACT = 1
"""Impacts that were rounded on another device may differ by so much; more, and the text is not the one that was indexed."""


@dataclass(frozen=True, kw_only=True)
class TermShare:
    """What one term has to do with a score."""

    term: str
    """As Lucene has it: a raw tokenizer string."""
    shown: str
    """As people read it."""
    query_impact: int
    document_impact: int
    """0: the document lacks the term."""
    product: int
    share: float
    """Of the score, 0 to 1."""
    query_position: int | None
    """The token of the query, from 0, that gave the term its weight."""
    document_position: int | None
    """The token of the document, likewise; None where its text is not at hand."""
    expands_query: bool
    """Whether the term is no word of the query's text."""
    expands_document: bool | None
    """Whether it is no word of the document's text; None where that is not at hand."""


@dataclass(frozen=True, kw_only=True)
class ExplainedHit:
    """A document and its score, taken apart."""

    docid: str
    rank: int | None
    """From 1; None for a document that was asked for by its docid."""
    score: int
    """The sum of the products."""
    lucene_score: float
    matched: tuple[TermShare, ...]
    """Largest product first."""
    unmatched: tuple[TermShare, ...]
    """The query's terms that the document lacks, heaviest first."""
    document: AttributedText | None
    text_has_changed: bool
    """Whether the text at hand has other impacts than the index: then the document's positions mean little."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A query, its vector, and some of its hits."""

    encoder: str
    """Identity: name, card hash, weight fingerprint."""
    query: AttributedText
    hits: tuple[ExplainedHit, ...]


def explain_hits(
    encoder: SparseEncoder,
    index: ImpactIndex,
    query: str,
    *,
    hits: int = 3,
    docid: str | None = None,
    find_texts: Callable[[Iterable[str]], Mapping[str, str]] | None = None,
) -> Explanation:
    """Take apart the scores of the best `hits` documents, or of one document.

    find_texts: the texts of documents, by docid, as they were encoded; what it does not have is looked for in the index, where
    records may be stored. Raises InputError where the index has no such document, CheckError where the sum is not Lucene's score.
    """
    attributed = encoder.attribute(query, side="query")
    matches = (
        index.search(attributed.vector, hits) if docid is None else [index.find(attributed.vector, docid)]
    )
    texts = find_texts([match.docid for match in matches]) if find_texts else {}
    explained = []
    for rank, match in enumerate(matches, start=1):
        text = texts.get(match.docid) or match.text
        document = encoder.attribute(text, side="document") if text else None
        explained.append(_explain(encoder, attributed, match, document, rank if docid is None else None))
    return Explanation(encoder=encoder.identity, query=attributed, hits=tuple(explained))


def is_expansion(term: str, text: AttributedText, readable: Callable[[str], str]) -> bool:
    """Whether a term is none of the text's tokens; case and the mark of a word's beginning do not count."""
    return _surface(term, readable) not in {_surface(token, readable) for token in text.tokens}


def shown_term(term: str, readable: Callable[[str], str]) -> str:
    """A term as people read it; one that is white space alone stays raw."""
    return readable(term).strip() or term


def _surface(term: str, readable: Callable[[str], str]) -> str:
    return shown_term(term, readable).casefold()


def _explain(
    encoder: SparseEncoder,
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

    def share(term: str) -> TermShare:
        return TermShare(
            term=term,
            shown=shown_term(term, encoder.readable),
            query_impact=query.vector[term],
            document_impact=match.impacts.get(term, 0),
            product=products[term],
            share=products[term] / score if score else 0.0,
            query_position=query.positions.get(term),
            document_position=document.positions.get(term) if document else None,
            expands_query=is_expansion(term, query, encoder.readable),
            expands_document=is_expansion(term, document, encoder.readable) if document else None,
        )

    return ExplainedHit(
        docid=match.docid,
        rank=rank,
        score=score,
        lucene_score=match.score,
        matched=tuple(
            share(term) for term in sorted(match.impacts, key=lambda term: (-products[term], term))
        ),
        unmatched=tuple(share(term) for term in query.vector if term not in match.impacts),
        document=document,
        text_has_changed=document is not None
        and any(
            abs(document.vector.get(term, 0) - impact) > TOLERATED_IMPACT
            for term, impact in match.impacts.items()
        ),
    )
