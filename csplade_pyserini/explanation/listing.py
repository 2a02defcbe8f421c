"""Explanations and vectors as text tables for a terminal."""

from collections.abc import Callable, Iterator, Sequence

from csplade_pyserini.explanation.shares import ExplainedHit, Explanation, TermShare, is_expansion, shown_term
from csplade_pyserini.interface import AttributedText

EXPANSION = "+"
"""Mark before a term that is no word of the text."""
LINE_WIDTH = 110
_HEAD = ("product", "share", "impacts", "term", "query token", "document token", "")
_LEFT_COLUMNS = {3, 4, 5, 6}


def explanation_lines(explanation: Explanation, *, raw: bool, terms: int) -> Iterator[str]:
    """Lines of an explanation.

    raw: show terms as Lucene has them. terms: number of terms shown of each hit; 0 shows all.
    """
    query = explanation.query
    yield f"query: {query.text.strip()}"
    yield (
        f"{len(query.tokens)} tokens, {len(query.vector)} terms; "
        f"{EXPANSION} before a term that is no word of the text"
    )
    if not explanation.hits:
        yield "no document has any of the query's terms"
    for hit in explanation.hits:
        yield ""
        yield from _head_lines(query, hit)
        yield from _matched_lines(query, hit, raw=raw, terms=terms)
        if hit.unmatched:
            yield "no match:"
            yield from _wrapped([_unmatched(share, raw) for share in hit.unmatched])


def _head_lines(query: AttributedText, hit: ExplainedHit) -> Iterator[str]:
    rank = f"{hit.rank}. " if hit.rank else ""
    yield f"{rank}{hit.docid}: {hit.score}"
    yield f"Lucene's score is {hit.lucene_score:.10g}; {len(hit.matched)} of {len(query.vector)} terms match"
    if hit.document is None:
        yield "the document's text is not at hand: --corpus names where it is"
    elif hit.text_has_changed:
        yield (
            "the text at hand does not have the impacts that the index has: "
            "which of its tokens gave what is a guess"
        )


def _matched_lines(query: AttributedText, hit: ExplainedHit, *, raw: bool, terms: int) -> Iterator[str]:
    shown = hit.matched[: terms or None]
    rows = [_row(query, hit.document, share, raw) for share in shown]
    yield from table_lines(_HEAD, rows, left=_LEFT_COLUMNS)
    rest = hit.matched[len(shown) :]
    if rest:
        yield f"{len(rest)} more terms: {sum(share.product for share in rest)}"


def _row(query: AttributedText, document: AttributedText | None, share: TermShare, raw: bool) -> list[str]:
    return [
        str(share.product),
        f"{100 * share.share:.1f} %",
        f"{share.query_impact} x {share.document_impact}",
        _marked(share.expands_query, _name(share, raw)),
        _token(query, share.query_position, raw),
        _token(document, share.document_position, raw),
        "expansion" if share.expands_document else "",
    ]


def _unmatched(share: TermShare, raw: bool) -> str:
    return f"{_marked(share.expands_query, _name(share, raw))} {share.query_impact}"


def vector_lines(text: AttributedText, readable: Callable[[str], str], *, terms: int) -> Iterator[str]:
    """Lines of a text's heaviest terms, with the token behind each."""
    best = list(text.vector.items())[:terms]
    rows = []
    for term, impact in best:
        name = _marked(is_expansion(term, text, readable), shown_term(term, readable))
        rows.append([str(impact), name, term, _token(text, text.positions[term], raw=False)])
    yield from table_lines(["impact", "term", "raw", "token"], rows, left={1, 2, 3})
    if len(best) < len(text.vector):
        yield f"{len(text.vector) - len(best)} more terms"


def table_lines(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: set[int]) -> Iterator[str]:
    """Lines of a table. left: columns that are aligned left, not right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            if column in left:
                cells.append(cell.ljust(width))
            else:
                cells.append(cell.rjust(width))
        yield "  ".join(cells).rstrip()


def _name(share: TermShare, raw: bool) -> str:
    return share.term if raw else share.shown


def _marked(expands: bool, name: str) -> str:
    mark = EXPANSION if expands else " "
    return f"{mark}{name}"


def _token(text: AttributedText | None, position: int | None, raw: bool) -> str:
    """Position and characters of a token: `3 heart`."""
    if text is None or position is None:
        return ""
    token = text.tokens[position]
    if raw:
        return f"{position} {token}"
    start, end = text.spans[position]
    return f"{position} {text.text[start:end].strip() or token}"


def _wrapped(words: Sequence[str]) -> Iterator[str]:
    """Lines of words with commas between, at most LINE_WIDTH characters each."""
    line = ""
    for word in words:
        if line and len(line) + len(word) + 2 > LINE_WIDTH:
            yield f"  {line},"
            line = ""
        if line:
            line += ", "
        line += word
    if line:
        yield f"  {line}"
