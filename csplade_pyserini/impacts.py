"""Weights to impacts: the strings that are Lucene terms, and the integers that are their impacts.

Lucene sees a vector as text of repeated terms, cut at white space. So a term has to be one word of at
most 255 UTF-16 units; everything here keeps that law. No torch, no Java.
"""

import hashlib
from collections.abc import Container, Iterable, Sequence

Vector = dict[str, int]
"""Impacts by term, heaviest first; impacts are plain ints, at least 1."""
LUCENE_MAX_TERM_LENGTH = 255
"""Lucene's WhitespaceTokenizer cuts longer words (anserini issue 1843); counted in UTF-16 units."""
_EMPTY_TERM = "[CSPLADE-EMPTY]"
_KEPT_HEAD = 100
"""Characters that a shortened term keeps before its hash."""


def to_term(token: str) -> str:
    """Return the Lucene term of a tokenizer's string: the string itself if Lucene keeps it whole.

    Byte-level BPE strings (`Ġthe`) always are kept. White space in a sentencepiece vocabulary or an added
    token is written as `\\u000a`. A string that is too long keeps its head and gets a hash.
    """
    term = "".join(map(_to_visible, token)) or "\\empty"
    if len(term.encode("utf-16-le")) // 2 <= LUCENE_MAX_TERM_LENGTH:
        return term
    return _with_hash(term, token)


def distinct_term(term: str, text: str, taken: Container[str]) -> str:
    """Return a term that is not among those taken: itself, or its head and a hash of its text."""
    while term in taken:
        text = f"{text} "
        term = _with_hash(term, text)
    return term


def _with_hash(term: str, text: str) -> str:
    return f"{term[:_KEPT_HEAD]}\\{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _to_visible(character: str) -> str:
    if character.isspace() or ord(character) < 32:
        return f"\\u{ord(character):04x}"
    return character


def to_terms(tokens: Sequence[str | None]) -> list[str | None]:
    """Return the terms of a vocabulary by token id; None stays None (an id without a string).

    Raises ValueError if two tokens would share a term.
    """
    terms: list[str | None] = []
    owners: dict[str, int] = {}
    for token_id, token in enumerate(tokens):
        if token is None:
            terms.append(None)
            continue
        term = to_term(token)
        if owners.setdefault(term, token_id) != token_id:
            raise ValueError(f"tokens {owners[term]} and {token_id} would share the term {term!r}")
        terms.append(term)
    return terms


def empty_term(terms: Iterable[str | None]) -> str:
    """Return the reserved term of documents without any term, so that Lucene keeps them.

    The vocabulary does not have it, so no query ever holds it.
    """
    taken = set(terms)
    term = _EMPTY_TERM
    while term in taken:
        term = f"[{term}]"
    return term


def is_empty_term(term: str) -> bool:
    """Whether a term is the reserved one, of whatever vocabulary."""
    return term.strip("[]") == _EMPTY_TERM.strip("[]")


def to_vector(token_ids: Sequence[int], impacts: Sequence[int], terms: Sequence[str | None]) -> Vector:
    """Make the vector of token ids and impacts: heaviest first, ties by token id.

    Raises ValueError on an impact below 1 and on a token id without a term.
    """
    pairs = sorted(zip(impacts, token_ids, strict=True), key=lambda pair: (-pair[0], pair[1]))
    vector: Vector = {}
    for impact, token_id in pairs:
        term = terms[token_id]
        if impact < 1 or term is None:
            raise ValueError(f"token {token_id} ({term!r}) has impact {impact}; wanted a term and at least 1")
        vector[term] = int(impact)
    return vector


def dot(query: Vector, document: Vector) -> int:
    """Score of a document for a query: the inner product of their impacts."""
    return sum(impact * document.get(term, 0) for term, impact in query.items())
