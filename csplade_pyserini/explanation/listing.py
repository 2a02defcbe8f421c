"""Explanations and vectors as text: tables for a terminal."""

from collections.abc import Callable, Iterator, Sequence

from csplade_pyserini.explanation.shares import ExplainedHit, Explanation, TermShare, is_expansion, shown_term
from csplade_pyserini.model import AttributedText

EXPANSION = "+"
"""Before a term that is no word of the text."""
LINE_WIDTH = 110


def explanation_lines(explanation: Explanation, *, raw: bool, terms: int) -> Iterator[str]:
    """The hits of an explanation. raw: terms as Lucene has them. terms: how many are shown of each hit; 0: all."""
    query = explanation.query
    yield f"query: {query.text.strip()}"
    yield f"{len(query.tokens)} tokens, {len(query.vector)} terms; {EXPANSION} before a term that is no word of the text"
    if not explanation.hits:
        yield "no document has any of the query's terms"
    for hit in explanation.hits:
        yield ""
        yield from _hit_lines(query, hit, raw=raw, terms=terms)


def _hit_lines(query: AttributedText, hit: ExplainedHit, *, raw: bool, terms: int) -> Iterator[str]:
    place = f"{hit.rank}. " if hit.rank else ""
    yield f"{place}{hit.docid}: {hit.score}"
    yield f"Lucene's score is {hit.lucene_score:.10g}; {len(hit.matched)} of {len(query.vector)} terms match"
    if hit.document is None:
        yield "the document's text is not at hand: --corpus names where it is"
    elif hit.text_has_changed:
        yield "the text at hand does not have the impacts that the index has: which of its tokens gave what is a guess"
    shown = hit.matched[:terms] if terms else hit.matched
    rows = [
        [
            str(share.product), f"{100 * share.share:.1f} %", f"{share.query_impact} x {share.document_impact}",
            _marked(share.expands_query, _name(share, raw)), _token(query, share.query_position, raw),
            _token(hit.document, share.document_position, raw) if hit.document else "",
            "" if not share.expands_document else "expansion",
        ]
        for share in shown
    ]  # fmt: skip
    yield from table_lines(
        ["product", "share", "impacts", "term", "query token", "document token", ""], rows, left={3, 4, 5, 6}
    )
    if len(shown) < len(hit.matched):
        rest = hit.matched[len(shown) :]
        yield f"{len(rest)} more terms: {sum(share.product for share in rest)}"
    if hit.unmatched:
        yield "no match:"
        yield from _wrapped(
            [
                f"{_marked(share.expands_query, _name(share, raw))} {share.query_impact}"
                for share in hit.unmatched
            ]
        )


def vector_lines(text: AttributedText, readable: Callable[[str], str], *, terms: int) -> Iterator[str]:
    """The heaviest terms of a text's vector, with the token behind each."""
    best = list(text.vector.items())[:terms]
    rows = [
        [
            str(impact),
            _marked(is_expansion(term, text, readable), shown_term(term, readable)),
            term,
            _token(text, text.positions[term], False),
        ]
        for term, impact in best
    ]
    yield from table_lines(["impact", "term", "raw", "token"], rows, left={1, 2, 3})
    if len(best) < len(text.vector):
        yield f"{len(text.vector) - len(best)} more terms"


def table_lines(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: set[int]) -> Iterator[str]:
    """A table in columns of equal width; `left`: the columns that are not numbers."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = [
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _name(share: TermShare, raw: bool) -> str:
    return share.term if raw else share.shown


def _marked(expands: bool, name: str) -> str:
    return f"{EXPANSION if expands else ' '}{name}"


def _token(text: AttributedText | None, position: int | None, raw: bool) -> str:
    """`3 heart`: position and piece of a token."""
    if text is None or position is None:
        return ""
    start, end = text.spans[position]
    return f"{position} {text.tokens[position] if raw else text.text[start:end].strip() or text.tokens[position]}"


def _wrapped(words: Sequence[str]) -> Iterator[str]:
    line = ""
    for word in words:
        if line and len(line) + len(word) + 2 > LINE_WIDTH:
            yield f"  {line},"
            line = ""
        line = f"{line}, {word}" if line else word
    if line:
        yield f"  {line}"
