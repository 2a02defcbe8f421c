"""Weights to impacts: which strings are Lucene terms, and which integers are their impacts.

Lucene sees a vector as text of repeated terms, cut at white space. A term therefore has to be one
word of at most 255 UTF-16 units for Lucene; everything here keeps that law. No torch, no Java.
"""

import hashlib
from collections.abc import Iterable, Sequence

LUCENE_MAX_TERM_LENGTH = 255
"""Lucene's WhitespaceTokenizer cuts longer words (anserini issue 1843); counted in UTF-16 units."""
_EMPTY_TERM = "[CSPLADE-EMPTY]"


def to_term(token: str) -> str:
    """The Lucene term of a tokenizer's string: the string itself wherever Lucene keeps it whole.

    Byte-level BPE strings (`Ġthe`) always are. White space that a sentencepiece vocabulary or an
    added token holds is written as `\\u000a`, and what is too long keeps its head and a hash.
    """
    term = "".join(f"\\u{ord(c):04x}" if c.isspace() or ord(c) < 32 else c for c in token) or "\\empty"
    if len(term.encode("utf-16-le")) // 2 <= LUCENE_MAX_TERM_LENGTH:
        return term
    return f"{term[:100]}\\{hashlib.sha256(token.encode()).hexdigest()[:16]}"


def to_terms(tokens: Sequence[str | None]) -> list[str | None]:
    """The terms of a whole vocabulary, by token id; None stays None (an id without a string).

    Raises ValueError where two tokens would share a term.
    """
    terms = [None if token is None else to_term(token) for token in tokens]
    owner: dict[str, int] = {}
    for token_id, term in enumerate(terms):
        if term is not None and owner.setdefault(term, token_id) != token_id:
            raise ValueError(f"tokens {owner[term]} and {token_id} would share the term {term!r}")
    return terms


def empty_term(terms: Iterable[str | None]) -> str:
    """The one reserved term that stands in documents without any, so that Lucene keeps them.

    It is no term of the vocabulary, so no query ever holds it.
    """
    taken, term = set(terms), _EMPTY_TERM
    while term in taken:
        term = f"[{term}]"
    return term


def to_vector(
    token_ids: Sequence[int], impacts: Sequence[int], terms: Sequence[str | None]
) -> dict[str, int]:
    """`{term: impact}`, heaviest first, ties by token id. Impacts are plain ints, at least 1.

    Raises ValueError on an impact below 1 and on a token id without a term.
    """
    vector: dict[str, int] = {}
    for impact, token_id in sorted(
        zip(impacts, token_ids, strict=True), key=lambda pair: (-pair[0], pair[1])
    ):
        term = terms[token_id]
        if impact < 1 or term is None:
            raise ValueError(f"token {token_id} ({term!r}) has impact {impact}; wanted a term and at least 1")
        vector[term] = int(impact)
    return vector


def dot(query: dict[str, int], document: dict[str, int]) -> int:
    """The score of a document for a query: the inner product of their impacts."""
    return sum(impact * document.get(term, 0) for term, impact in query.items())
