"""comparison.html: several encoders on one test collection, on one page that needs no network."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from csplade_pyserini.files.pages import escaped, table, write_page
from csplade_pyserini.reproduction.catalogue import TestCollection
from csplade_pyserini.reproduction.records import Record
from csplade_pyserini.reproduction.significance import (
    CORRECTION,
    LEVEL,
    TEST,
    Comparison,
    compare,
    paired_scores,
)

COMPARISON = "comparison.html"
SIDE = 320
"""Width and height of a drawing, in pixels."""
MARGIN = 40
STYLE = """
svg { display: inline-block; margin: .5rem 1rem .5rem 0; }
circle { fill: #47a; fill-opacity: .6; } circle.baseline { fill: #999; }
text { font-size: 11px; fill: #555; } line { stroke: #bbb; }
"""


def write_comparison(
    path: Path, collection: TestCollection, records: Sequence[Record], baseline: Record
) -> None:
    """Write the page: tables, plots of effectiveness against index size and query time, and topics in pairs.

    records: of all systems, the baseline's among them unless it is a run of its own.
    """
    title = f"{len(records)} systems on {collection.name}"
    comparisons = compare(records, baseline)
    parts = [f"<h1>{escaped(title)}</h1>"]
    for topics in collection.topics:
        key = collection.key(topics)
        metric = topics.metrics[0]
        parts.append(f"<h2>{escaped(key)}</h2>")
        parts.append(_scores(key, topics.metrics, records))
        parts += significance_parts([one for one in comparisons if one.key == key], len(comparisons))
        parts += _plots(key, metric, records, baseline)
        parts += [_pairs(key, metric, record, baseline) for record in records if record != baseline]
    write_page(path, title, parts, style=STYLE)


def significance_parts(comparisons: Sequence[Comparison], family: int) -> list[str]:
    """Table of comparisons with a baseline. family: number of comparisons that were corrected together."""
    if not comparisons:
        return []
    rows = [
        [
            one.system,
            one.baseline,
            one.metric,
            f"{one.difference:+.4f}",
            f"{one.wins} / {one.losses} / {one.ties}",
            _shown(one.p),
            _shown(one.corrected) + ("*" if one.is_significant else ""),
        ]
        for one in comparisons
    ]
    columns = ["system", "against", "metric", "difference", "wins / losses / ties", "p", "p corrected"]
    note = f"{TEST}; {CORRECTION}'s correction over {family} comparisons; * below {LEVEL}"
    return [table(columns, rows), f'<p class="note">{escaped(note)}</p>']


def query_milliseconds(record: Record, key: str) -> float | None:
    """Wall time per topic of encoding and searching, programs' start-up included; None if unknown."""
    seconds = [taken for step, taken in record.seconds.items() if step.partition(" ")[2] == key]
    topics = max((len(values) for values in record.topics.get(key, {}).values()), default=0)
    if not seconds or not topics:
        return None
    return 1000 * sum(seconds) / topics


def _shown(p: float | None) -> str:
    return "" if p is None else f"{p:.4f}"


def _scores(key: str, metrics: Sequence[str], records: Sequence[Record]) -> str:
    rows = []
    for record in records:
        milliseconds = query_milliseconds(record, key)
        rows.append(
            [
                record.system,
                *(f"{record.scores[key][metric]:.4f}" for metric in metrics),
                f"{record.index_bytes:,}",
                "" if milliseconds is None else f"{milliseconds:,.1f}",
            ]
        )
    return table(["system", *metrics, "index bytes", "ms per topic"], rows)


def _plots(key: str, metric: str, records: Sequence[Record], baseline: Record) -> list[str]:
    """Plot effectiveness against index size, and against query time."""
    sizes = {record.system: record.index_bytes / 1e6 for record in records}
    times = {record.system: query_milliseconds(record, key) for record in records}
    known = {system: taken for system, taken in times.items() if taken is not None}
    scores = {record.system: record.scores[key][metric] for record in records}
    plots = [_plot(sizes, scores, "index, MB", metric, baseline.system)]
    if known:
        plots.append(_plot(known, scores, "query, ms", metric, baseline.system))
    return plots


def _plot(
    across: Mapping[str, float], up: Mapping[str, float], label: str, metric: str, baseline: str
) -> str:
    """Draw a point with its name for each system. Both axes begin at 0."""
    widest = max(across.values()) or 1.0
    tallest = max((abs(up[system]) for system in across), default=0.0) or 1.0
    shapes = _axes(f"{label} (to {widest:,.1f})", f"{metric} (to {tallest:.4f})")
    for system, value in across.items():
        title = f"{system}: {label} {value:,.1f}, {metric} {up[system]:.4f}"
        x, y = _point(value / widest, up[system] / tallest)
        kind = "baseline" if system == baseline else "system"
        shapes.append(_circle(kind, x, y, 5, title))
        anchor = "end" if x > SIDE / 2 else "start"
        shapes.append(f'<text x="{x:.1f}" y="{y - 8:.1f}" text-anchor="{anchor}">{escaped(system)}</text>')
    return _drawing(shapes)


def _pairs(key: str, metric: str, record: Record, baseline: Record) -> str:
    """Draw a point for each topic: the baseline's score across, the system's up. The diagonal is a tie."""
    pairs = paired_scores(record.topics[key][metric], baseline.topics.get(key, {}).get(metric, {}))
    largest = max((max(map(abs, pair)) for pair in pairs.values()), default=0.0) or 1.0
    shapes = _axes(f"{baseline.system}, {metric}", f"{record.system}, {metric}")
    left, bottom = _point(0, 0)
    right, top = _point(1, 1)
    shapes.append(f'<line x1="{left}" y1="{bottom}" x2="{right}" y2="{top}"/>')
    for qid, (ours, other) in pairs.items():
        x, y = _point(other / largest, ours / largest)
        shapes.append(_circle("system", x, y, 3, f"{qid}: {other:.4f} and {ours:.4f}"))
    return _drawing(shapes)


def _axes(across: str, up: str) -> list[str]:
    left, bottom = _point(0, 0)
    right, top = _point(1, 1)
    return [
        f'<line x1="{left}" y1="{bottom}" x2="{right}" y2="{bottom}"/>',
        f'<line x1="{left}" y1="{bottom}" x2="{left}" y2="{top}"/>',
        f'<text x="{left}" y="{SIDE - 8}">{escaped(across)}</text>',
        f'<text x="4" y="12">{escaped(up)}</text>',
    ]


def _point(across: float, up: float) -> tuple[float, float]:
    """Place of a point on the drawing, from its parts of both axes."""
    inside = SIDE - 2 * MARGIN
    return MARGIN + across * inside, SIDE - MARGIN - up * inside


def _circle(kind: str, x: float, y: float, radius: int, title: str) -> str:
    return (
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">'
        f"<title>{escaped(title)}</title></circle>"
    )


def _drawing(shapes: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {SIDE} {SIDE}" width="{SIDE}">{"".join(shapes)}</svg>'
