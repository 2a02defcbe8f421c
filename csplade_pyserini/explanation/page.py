"""An explanation as one HTML page: shaded tokens, and a bar for each term.

A token is as dark as its part of the score, and shows its terms when pointed at.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from csplade_pyserini.explanation.shares import ExplainedHit, Explanation, TermShare
from csplade_pyserini.files.pages import escaped, write_page
from csplade_pyserini.interface import AttributedText

BARS = 12
"""Terms shown at once; the others unfold on a click."""
TOOLTIP_TERMS = 8
EMPTY = "·"
"""Sign for a token without characters: BOS or EOS."""
STYLE = """
h1 { font-size: 1.6rem; margin-bottom: .25rem; }
section { margin: 2rem 0; padding: 1rem 1.25rem; border: 1px solid #ddd; border-radius: .5rem; }
h2 { font-size: 1.15rem; margin: 0 0 .5rem; display: flex; justify-content: space-between; }
h3 { font-size: .85rem; color: #666; margin: 1rem 0 .25rem; }
.text { line-height: 1.9; white-space: pre-wrap; overflow-wrap: anywhere; } .cut { color: #aaa; }
.token { position: relative; border-radius: .2rem; padding: .1rem 0;
  background: rgb(255 150 40 / calc(var(--part) * 85%)); }
.token[data-terms] { cursor: help; } .token[data-terms]:hover { outline: 2px solid #b50; }
.token[data-terms]:hover::after { content: attr(data-terms); position: absolute; left: 0; top: 1.9em;
  z-index: 1; white-space: pre; background: #222; color: #fff; font: 12px/1.5 ui-monospace, monospace;
  padding: .4rem .6rem; border-radius: .3rem; }
.bars { display: grid; grid-template-columns: max-content 1fr max-content max-content; gap: .15rem .75rem;
  align-items: center; font-size: 13px; }
.bar { height: .9rem; background: #38c; border-radius: .2rem; min-width: 1px; }
.bar.expansion { background: #c6a; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
summary { cursor: pointer; color: #666; font-size: 13px; margin: .4rem 0; }
.key { display: inline-block; width: .9rem; height: .9rem; border-radius: .2rem; vertical-align: -.1rem;
  margin-right: .25rem; }
.key.exact { background: #38c; } .key.expansion { background: #c6a; }
.key.shaded { background: rgb(255 150 40 / 70%); }
"""


class _Unit(NamedTuple):
    """Tokens that stand for characters `start` to `end` of a text, `end` excluded."""

    start: int
    end: int
    tokens: list[int]


def write_explanation(path: Path, explanation: Explanation, *, index: str, raw: bool = False) -> None:
    """Write the page. raw: show terms as Lucene has them. Raises InputError if it cannot be written."""
    query = explanation.query
    parts = [
        f"<h1>{escaped(query.text.strip())}</h1>",
        f'<p class="note">{escaped(explanation.encoder)} on {escaped(index)}: '
        f"{len(query.tokens)} tokens, {len(query.vector)} terms</p>",
        '<p class="note"><span class="key shaded"></span>tokens by what they gave to the score; '
        "point at one for its terms<br>"
        '<span class="key exact"></span>words of the query '
        '<span class="key expansion"></span>expansions: terms not among them</p>',
    ]
    if not explanation.hits:
        parts.append("<p>No document has any of the query's terms.</p>")
    parts += [_hit(query, hit, raw) for hit in explanation.hits]
    write_page(path, f"Why: {query.text.strip()}", parts, style=STYLE)


def _hit(query: AttributedText, hit: ExplainedHit, raw: bool) -> str:
    rank = f"{hit.rank}. " if hit.rank else ""
    parts = [
        f"<section><h2><span>{rank}{escaped(hit.docid)}</span><span>{hit.score:,}</span></h2>",
        "<h3>query</h3>",
        _shaded(query, _shares_at(hit, lambda share: share.query_position), raw),
        *_document_parts(hit, raw),
        f"<h3>score: query impact x document impact of {len(hit.matched)} terms</h3>",
        *_matched_parts(hit, raw),
    ]
    if hit.unmatched:
        names = ", ".join(f"{_name(share, raw)} {share.query_impact}" for share in hit.unmatched)
        parts.append(_folded(f"{len(hit.unmatched)} terms of the query without a match", escaped(names)))
    return "\n".join([*parts, "</section>"])


def _document_parts(hit: ExplainedHit, raw: bool) -> list[str]:
    """The document's text, shaded, or a note that it is missing."""
    if hit.document is None:
        return [_note("The document's text is not at hand: <code>--corpus</code> names where it is.")]
    parts = [
        "<h3>document</h3>",
        _shaded(hit.document, _shares_at(hit, lambda share: share.document_position), raw),
    ]
    if hit.text_has_changed:
        parts.append(_note("This text does not have the impacts that the index has: its shades are a guess."))
    return parts


def _matched_parts(hit: ExplainedHit, raw: bool) -> list[str]:
    """Bars of the matched terms, all but the first BARS folded."""
    largest = max((share.product for share in hit.matched), default=1)
    parts = [_bars(hit.matched[:BARS], largest, raw)]
    rest = hit.matched[BARS:]
    if rest:
        total = sum(share.product for share in rest)
        parts.append(_folded(f"{len(rest)} more terms: {total:,}", _bars(rest, largest, raw)))
    return parts


def _note(sentence: str) -> str:
    return f'<p class="note">{sentence}</p>'


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>{content}</details>"


def _bars(shares: Iterable[TermShare], largest: int, raw: bool) -> str:
    """Draw one bar per term; largest: product of the longest bar."""
    rows = [_bar(share, largest, raw) for share in shares]
    return f'<div class="bars">{"".join(rows)}</div>'


def _bar(share: TermShare, largest: int, raw: bool) -> str:
    kind = "bar expansion" if share.expands_query else "bar"
    return (
        f"<span>{escaped(_name(share, raw))}</span>"
        f'<span class="{kind}" style="width:{100 * share.product / largest:.2f}%"></span>'
        f'<span class="number">{share.query_impact} x {share.document_impact}</span>'
        f'<span class="number">{100 * share.share:.1f} %</span>'
    )


def _shares_at(
    hit: ExplainedHit, position: Callable[[TermShare], int | None]
) -> Mapping[int, Sequence[TermShare]]:
    """Group the matched terms by the position of the token behind them."""
    shares: dict[int, list[TermShare]] = {}
    for share in hit.matched:
        at = position(share)
        if at is not None:
            shares.setdefault(at, []).append(share)
    return shares


def _shaded(text: AttributedText, shares_at: Mapping[int, Sequence[TermShare]], raw: bool) -> str:
    """Shade each token by its part of the score; text that was cut off is grey."""
    units = _units(text)
    terms = [_terms_of(unit, shares_at) for unit in units]
    totals = [sum(share.share for share in shares) for shares in terms]
    most = max(totals, default=0.0) or 1.0
    parts = []
    shown_until = 0
    for unit, shares, total in zip(units, terms, totals, strict=True):
        parts.append(escaped(text.text[shown_until : unit.start]))
        characters = text.text[unit.start : unit.end] or EMPTY
        tooltip = ""
        if shares:
            tooltip = f' data-terms="{escaped(_tooltip(shares, total, raw))}"'
        parts.append(
            f'<span class="token" style="--part:{total / most:.4f}"{tooltip}>{escaped(characters)}</span>'
        )
        shown_until = unit.end
    cut = text.text[shown_until:]
    if cut.strip():
        parts.append(f'<span class="cut">{escaped(cut)}</span>')
    return f'<div class="text">{"".join(parts)}</div>'


def _terms_of(unit: _Unit, shares_at: Mapping[int, Sequence[TermShare]]) -> list[TermShare]:
    """Terms of all tokens of a unit, largest product first."""
    shares: list[TermShare] = []
    for position in unit.tokens:
        shares += shares_at.get(position, [])
    return sorted(shares, key=lambda share: -share.product)


def _units(text: AttributedText) -> list[_Unit]:
    """Units of a text: one token, or several that share a character, as its bytes do."""
    units: list[_Unit] = []
    for position, (start, end) in enumerate(text.spans):
        if not units or start >= units[-1].end:
            units.append(_Unit(start, end, [position]))
            continue
        last = units.pop()
        units.append(_Unit(last.start, max(last.end, end), [*last.tokens, position]))
    return units


def _tooltip(shares: Sequence[TermShare], total: float, raw: bool) -> str:
    lines = [
        f"{_name(share, raw)}  {share.query_impact} x {share.document_impact} = {share.product:,}"
        for share in shares[:TOOLTIP_TERMS]
    ]
    if len(shares) > TOOLTIP_TERMS:
        lines.append(f"{len(shares) - TOOLTIP_TERMS} more")
    lines.append(f"{100 * total:.1f} % of the score")
    return "\n".join(lines)


def _name(share: TermShare, raw: bool) -> str:
    return share.term if raw else share.shown
