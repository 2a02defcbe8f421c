"""An explanation as one HTML page: tokens shaded by what they gave to the score, their terms on hover, bars for the terms."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from csplade_pyserini.explanation.shares import ExplainedHit, Explanation, TermShare
from csplade_pyserini.files.pages import escaped, write_page
from csplade_pyserini.model import AttributedText

BARS = 12
"""Terms shown at once; the others unfold."""
TOOLTIP_TERMS = 8
EMPTY = "·"
"""Stands for a token without characters, BOS or EOS."""
STYLE = """
h1 { font-size: 1.6rem; margin-bottom: .25rem; }
section { margin: 2rem 0; padding: 1rem 1.25rem; border: 1px solid #ddd; border-radius: .5rem; }
h2 { font-size: 1.15rem; margin: 0 0 .5rem; display: flex; justify-content: space-between; }
h3 { font-size: .85rem; color: #666; margin: 1rem 0 .25rem; }
.text { line-height: 1.9; white-space: pre-wrap; overflow-wrap: anywhere; } .cut { color: #aaa; }
.token { position: relative; border-radius: .2rem; padding: .1rem 0; background: rgb(255 150 40 / calc(var(--part) * 85%)); }
.token[data-terms] { cursor: help; } .token[data-terms]:hover { outline: 2px solid #b50; }
.token[data-terms]:hover::after { content: attr(data-terms); position: absolute; left: 0; top: 1.9em; z-index: 1; white-space: pre;
  background: #222; color: #fff; font: 12px/1.5 ui-monospace, monospace; padding: .4rem .6rem; border-radius: .3rem; }
.bars { display: grid; grid-template-columns: max-content 1fr max-content max-content; gap: .15rem .75rem;
  align-items: center; font-size: 13px; }
.bar { height: .9rem; background: #38c; border-radius: .2rem; min-width: 1px; } .bar.expansion { background: #c6a; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
summary { cursor: pointer; color: #666; font-size: 13px; margin: .4rem 0; }
.key { display: inline-block; width: .9rem; height: .9rem; border-radius: .2rem; vertical-align: -.1rem; margin-right: .25rem; }
.key.exact { background: #38c; } .key.expansion { background: #c6a; } .key.shaded { background: rgb(255 150 40 / 70%); }
"""


def write_explanation(path: Path, explanation: Explanation, *, index: str, raw: bool = False) -> None:
    """Write the page. raw: terms as Lucene has them. Raises InputError where it cannot be written."""
    query = explanation.query
    parts = [
        f"<h1>{escaped(query.text.strip())}</h1>",
        f'<p class="note">{escaped(explanation.encoder)} on {escaped(index)}: {len(query.tokens)} tokens, {len(query.vector)} terms</p>',
        '<p class="note"><span class="key shaded"></span>tokens by what they gave to the score; point at one for its terms<br>'
        '<span class="key exact"></span>words of the query <span class="key expansion"></span>expansions: terms not among them</p>',
    ]
    if not explanation.hits:
        parts.append("<p>No document has any of the query's terms.</p>")
    parts += [_hit(query, hit, raw) for hit in explanation.hits]
    write_page(path, f"Why: {query.text.strip()}", parts, style=STYLE)


def _hit(query: AttributedText, hit: ExplainedHit, raw: bool) -> str:
    place = f"{hit.rank}. " if hit.rank else ""
    parts = [
        f"<section><h2><span>{place}{escaped(hit.docid)}</span><span>{hit.score:,}</span></h2>",
        "<h3>query</h3>",
        _shaded(query, hit, lambda share: share.query_position, raw),
    ]
    if hit.document is None:
        parts.append(
            '<p class="note">The document\'s text is not at hand: <code>--corpus</code> names where it is.</p>'
        )
    else:
        parts += ["<h3>document</h3>", _shaded(hit.document, hit, lambda share: share.document_position, raw)]
    if hit.text_has_changed:
        parts.append(
            '<p class="note">This text does not have the impacts that the index has: its shades are a guess.</p>'
        )
    parts.append(f"<h3>score: query impact x document impact of {len(hit.matched)} terms</h3>")
    largest = max((share.product for share in hit.matched), default=1)
    parts.append(_bars(hit.matched[:BARS], largest, raw))
    if len(hit.matched) > BARS:
        rest = hit.matched[BARS:]
        total = sum(share.product for share in rest)
        parts.append(
            f"<details><summary>{len(rest)} more terms: {total:,}</summary>{_bars(rest, largest, raw)}</details>"
        )
    if hit.unmatched:
        names = ", ".join(f"{_name(share, raw)} {share.query_impact}" for share in hit.unmatched)
        parts.append(
            f"<details><summary>{len(hit.unmatched)} terms of the query without a match</summary>{escaped(names)}</details>"
        )
    return "\n".join([*parts, "</section>"])


def _bars(shares: Iterable[TermShare], largest: int, raw: bool) -> str:
    rows = [
        f'<span>{escaped(_name(share, raw))}</span><span class="bar{" expansion" if share.expands_query else ""}" '
        f'style="width:{100 * share.product / largest:.2f}%"></span>'
        f'<span class="number">{share.query_impact} x {share.document_impact}</span>'
        f'<span class="number">{100 * share.share:.1f} %</span>'
        for share in shares
    ]
    return f'<div class="bars">{"".join(rows)}</div>'


def _shaded(
    text: AttributedText, hit: ExplainedHit, position: Callable[[TermShare], int | None], raw: bool
) -> str:
    """The text, each token as dark as its part of the score; what was cut off behind it in grey."""
    given: dict[int, list[TermShare]] = defaultdict(list)
    for share in hit.matched:
        at = position(share)
        if at is not None:
            given[at].append(share)
    units = _units(text)
    sums = [sum(share.share for at in tokens for share in given[at]) for _, _, tokens in units]
    most, parts, shown_until = max(sums, default=0.0) or 1.0, [], 0
    for (start, end, tokens), total in zip(units, sums, strict=True):
        parts.append(escaped(text.text[shown_until:start]))
        terms = sorted((share for at in tokens for share in given[at]), key=lambda share: -share.product)
        tooltip = f' data-terms="{escaped(_tooltip(terms, total, raw))}"' if terms else ""
        parts.append(
            f'<span class="token" style="--part:{total / most:.4f}"{tooltip}>{escaped(text.text[start:end] or EMPTY)}</span>'
        )
        shown_until = end
    cut = text.text[shown_until:]
    parts.append(f'<span class="cut">{escaped(cut)}</span>' if cut.strip() else "")
    return f'<div class="text">{"".join(parts)}</div>'


def _units(text: AttributedText) -> list[tuple[int, int, list[int]]]:
    """Tokens by the characters they stand for: those that share a character (bytes of one) are one unit."""
    units: list[tuple[int, int, list[int]]] = []
    for at, (start, end) in enumerate(text.spans):
        if units and start < units[-1][1]:
            first, last, tokens = units[-1]
            units[-1] = (first, max(last, end), [*tokens, at])
        else:
            units.append((start, end, [at]))
    return units


def _tooltip(shares: Sequence[TermShare], total: float, raw: bool) -> str:
    lines = [
        f"{_name(share, raw)}  {share.query_impact} x {share.document_impact} = {share.product:,}"
        for share in shares[:TOOLTIP_TERMS]
    ]
    more = [f"{len(shares) - TOOLTIP_TERMS} more"] if len(shares) > TOOLTIP_TERMS else []
    return "\n".join([*lines, *more, f"{100 * total:.1f} % of the score"])


def _name(share: TermShare, raw: bool) -> str:
    return share.term if raw else share.shown
