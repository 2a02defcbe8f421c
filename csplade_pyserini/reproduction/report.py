"""report.html: scores, sizes and times of a run. The page needs no network."""

import itertools
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from csplade_pyserini.collections.vectors import read_vectors
from csplade_pyserini.files.pages import escaped, table, write_page
from csplade_pyserini.impacts import Vector
from csplade_pyserini.reproduction.catalogue import TestCollection, TopicSet
from csplade_pyserini.reproduction.comparison import significance_parts
from csplade_pyserini.reproduction.records import Record, described
from csplade_pyserini.reproduction.score_tables import Scores, ScoreTable
from csplade_pyserini.reproduction.significance import compare
from csplade_pyserini.reproduction.steps import System, shown

READ = 20_000
"""Number of vectors in a histogram: the first ones."""
BINS = 40
WIDTH = 640
HEIGHT = 200
MARGIN = 28
STYLE = """
svg { display: block; margin: .5rem 0; }
rect.up { fill: #2a7; } rect.down { fill: #c53; } rect.bar { fill: #47a; }
text { font-size: 11px; fill: #555; } line { stroke: #999; }
"""


def write_report(
    path: Path,
    collection: TestCollection,
    systems: Sequence[System],
    records: Sequence[Record],
    tables: Sequence[ScoreTable],
    *,
    baseline: Record | None = None,
) -> None:
    """Write the page.

    systems, records: BM25, then the encoder. baseline: record that the encoder is tested against; BM25's by
    default.
    """
    ours = records[-1]
    compared = compare([ours], baseline or records[0])
    title = f"{ours.system} on {collection.name}"
    parts = [f"<h1>{escaped(title)}</h1>", _about(ours)]
    for topics in collection.topics:
        key = collection.key(topics)
        parts += _topics_parts(key, topics, records, tables)
        parts += significance_parts([one for one in compared if one.key == key], len(compared))
    parts += ["<h2>Index and times</h2>", _sizes(records), _times(records)]
    parts += _histograms(systems[-1].folder)
    parts += ["<h2>Commands</h2>", f"<pre>{escaped(_commands(systems))}</pre>"]
    write_page(path, title, parts, style=STYLE)


def _about(record: Record) -> str:
    facts = "; ".join([record.date, described(record.versions), described(record.hardware)])
    return f'<p class="note">{escaped(facts)}</p>'


def _topics_parts(
    key: str, topics: TopicSet, records: Sequence[Record], tables: Sequence[ScoreTable]
) -> list[str]:
    """Scores on one set of topics, then the differences in its first metric."""
    baseline, ours = records
    metric = topics.metrics[0]
    return [
        f"<h2>{escaped(key)}</h2>",
        _scores(key, topics.metrics, records, tables),
        _differences(metric, ours.topics[key][metric], baseline.topics[key][metric], baseline.system),
    ]


def _scores(key: str, metrics: Sequence[str], records: Sequence[Record], tables: Sequence[ScoreTable]) -> str:
    """One table of this run's scores, and one of earlier scores and others' reports."""
    here = [[record.system, *_cells(record.scores[key], metrics)] for record in records]
    page = table(["run here", *metrics], here)
    others = []
    for known in tables:
        if key in known.scores:
            source = f"{known.origin}: {known.source}"
            others.append([known.encoder, *_cells(known.scores[key], metrics), source])
    if others:
        page += table(["elsewhere or before", *metrics, "from"], others, kind="last-left")
    return page


def _cells(scores: Scores, metrics: Sequence[str]) -> list[str]:
    """Scores as texts; empty for metrics without a score."""
    return [f"{scores[metric]:.4f}" if metric in scores else "" for metric in metrics]


def _differences(
    metric: str, ours: Mapping[str, float], baseline: Mapping[str, float], baseline_name: str
) -> str:
    """Draw one bar per topic, best first: our score minus the baseline's."""
    found = []
    for qid in {**ours, **baseline}:
        found.append((ours.get(qid, 0.0) - baseline.get(qid, 0.0), qid))
    found.sort(reverse=True)
    differences = [difference for difference, _ in found]
    better = sum(difference > 0 for difference in differences)
    worse = sum(difference < 0 for difference in differences)
    note = (
        f"{metric} of each topic minus {baseline_name}'s: "
        f"{better} better, {worse} worse, {len(found) - better - worse} equal"
    )
    largest = max(map(abs, differences), default=0.0) or 1.0
    return f"<p>{escaped(note)}</p>{_differences_drawing(found, largest)}"


def _differences_drawing(found: Sequence[tuple[float, str]], largest: float) -> str:
    """Draw differences and their qids; largest: the difference of the longest bar."""
    middle = HEIGHT / 2
    step = (WIDTH - MARGIN) / max(1, len(found))
    shapes = [
        f'<line x1="{MARGIN}" x2="{WIDTH}" y1="{middle}" y2="{middle}"/>',
        f'<text x="0" y="12">{largest:+.2f}</text>',
    ]
    for number, (difference, qid) in enumerate(found):
        tall = abs(difference) / largest * (middle - 4)
        kind = "down"
        top = middle
        if difference > 0:
            kind = "up"
            top = middle - tall
        left = MARGIN + number * step
        title = f"{qid}: {difference:+.4f}"
        shapes.append(_bar(kind, left=left, top=top, wide=max(step - 0.5, 0.5), tall=tall, title=title))
    return _drawing(shapes)


def _bar(kind: str, *, left: float, top: float, wide: float, tall: float, title: str) -> str:
    """Draw a bar with a title that shows when it is pointed at."""
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{tall:.1f}">'
        f"<title>{escaped(title)}</title></rect>"
    )


def _drawing(shapes: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}">{"".join(shapes)}</svg>'


def _sizes(records: Sequence[Record]) -> str:
    rows = []
    for record in records:
        gigabytes = record.index_bytes / 1e9
        rows.append([record.system, f"{record.index_bytes:,}", f"{gigabytes:.3f}", *_postings(record)])
    return table(["index", "bytes", "GB", "documents", "terms per document", "bytes per posting"], rows)


def _postings(record: Record) -> list[str]:
    if not record.postings:
        return ["", "", ""]
    return [f"{record.documents:,}", f"{record.terms_per_document:.1f}", f"{record.bytes_per_posting:.2f}"]


def _times(records: Sequence[Record]) -> str:
    """Wall time per command, start-up included; ms per topic for searches."""
    rows = []
    for record in records:
        for step, seconds in record.seconds.items():
            _, _, key = step.partition(" ")
            topics = _number_of_topics(record, key)
            per_topic = f"{1000 * seconds / topics:,.1f}" if topics else ""
            rows.append([record.system, step, f"{seconds:,.1f}", per_topic])
    return table(["command", "step", "seconds", "ms per topic"], rows)


def _number_of_topics(record: Record, key: str) -> int:
    """Number of topics of a key; 0 for steps that have no topics."""
    if key not in record.topics:
        return 0
    first_metric = next(iter(record.topics[key].values()))
    return len(first_metric)


def _histograms(folder: Path) -> list[str]:
    """Histograms of active terms and impacts: the encoder's documents, then its queries."""
    documents = sorted((folder / "vectors").glob("*.jsonl"))
    queries = sorted(folder.glob("queries*.jsonl"))
    parts = []
    for title, files in (("documents", documents), ("queries", queries)):
        vectors = list(itertools.islice(read_vectors(files), READ))
        if vectors:
            parts += _histograms_of(title, vectors)
    return parts


def _histograms_of(title: str, vectors: Sequence[Vector]) -> list[str]:
    terms = [len(vector) for vector in vectors]
    impacts = list(itertools.chain.from_iterable(vector.values() for vector in vectors))
    return [
        f"<h2>Vectors of {len(vectors):,} {title}</h2><p>{statistics.mean(terms):.1f} terms on average</p>",
        _histogram(terms, "active terms"),
        _histogram(impacts, "impact"),
    ]


def _histogram(values: Sequence[int], label: str) -> str:
    """Draw how often values occur, in at most BINS bins of equal width."""
    least = min(values)
    most = max(values)
    size = max(1, -(-(most - least + 1) // BINS))  # rounded up
    counts = Counter((value - least) // size for value in values)
    tallest = max(counts.values())
    step = (WIDTH - MARGIN) / (1 + (most - least) // size)
    shapes = []
    for number, count in sorted(counts.items()):
        left = MARGIN + number * step
        tall = count / tallest * (HEIGHT - 2 * MARGIN)
        first = least + number * size
        title = f"{first} to {first + size - 1}: {count:,}"
        top = HEIGHT - MARGIN - tall
        shapes.append(_bar("bar", left=left, top=top, wide=step - 1, tall=tall, title=title))
    shapes.append(f'<text x="{MARGIN}" y="{HEIGHT - 10}">{least}</text>')
    if most > least:
        shapes.append(f'<text x="{WIDTH - 40}" y="{HEIGHT - 10}">{most}</text>')
    shapes.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}">{escaped(label)}</text>')
    shapes.append(f'<text x="0" y="12">{tallest:,}</text>')
    return _drawing(shapes)


def _commands(systems: Sequence[System]) -> str:
    commands = []
    for system in systems:
        commands += [shown(step.command) for step in system.steps]
    return "\n".join(commands)
