"""report.html: a run's scores, sizes and times as one page that needs no network."""

import itertools
import json
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from csplade_pyserini.files.lines import read_lines
from csplade_pyserini.files.pages import escaped, table, write_page
from csplade_pyserini.reproduction.records import Record, described
from csplade_pyserini.reproduction.score_tables import ScoreTable
from csplade_pyserini.reproduction.steps import System, shown
from csplade_pyserini.reproduction.test_collections import TestCollection

READ = 20_000
"""Documents of a collection that the histograms are made of: the first ones."""
BINS = 40
WIDTH, HEIGHT, MARGIN = 640, 200, 28
STYLE = """
svg { display: block; margin: .5rem 0; } rect.up { fill: #2a7; } rect.down { fill: #c53; } rect.bar { fill: #47a; }
text { font-size: 11px; fill: #555; } line { stroke: #999; }
"""


def write_report(
    path: Path,
    collection: TestCollection,
    systems: Sequence[System],
    records: Sequence[Record],
    tables: Sequence[ScoreTable],
) -> None:
    """Write the page. systems, records: the baseline, then the encoder."""
    baseline, ours = records
    parts = [f"<h1>{escaped(ours.system)} on {escaped(collection.name)}</h1>", _about(ours)]
    for topics in collection.topics:
        key = collection.key(topics)
        parts += [f"<h2>{escaped(key)}</h2>", _scores(key, topics.metrics, records, tables)]
        metric = topics.metrics[0]
        parts += [
            _differences(metric, ours.topics[key][metric], baseline.topics[key][metric], baseline.system)
        ]
    parts += ["<h2>Index and times</h2>", _sizes(records), _times(records)]
    parts += _histograms(systems[-1].folder)
    parts += ["<h2>Commands</h2>", f"<pre>{escaped(_commands(systems))}</pre>"]
    write_page(path, f"{ours.system} on {collection.name}", parts, style=STYLE)


def _about(record: Record) -> str:
    return f'<p class="note">{escaped(record.date)}; {escaped(described(record.versions))}; {escaped(described(record.hardware))}</p>'


def _scores(key: str, metrics: Sequence[str], records: Sequence[Record], tables: Sequence[ScoreTable]) -> str:
    """Systems that were run here, then what was measured before or is reported by others, never mixed."""
    here = [
        [record.system, *(f"{record.scores[key][metric]:.4f}" for metric in metrics)] for record in records
    ]
    others = [
        [
            known.encoder,
            *(
                f"{known.scores[key][metric]:.4f}" if metric in known.scores[key] else ""
                for metric in metrics
            ),
            source,
        ]
        for known in tables
        if key in known.scores
        for source in [f"{known.origin}: {known.source}"]
    ]
    parts = [table(["run here", *metrics], here)]
    if others:
        parts.append(table(["elsewhere or before", *metrics, "from"], others, kind="last-left"))
    return "".join(parts)


def _differences(metric: str, ours: dict[str, float], baseline: dict[str, float], name: str) -> str:
    """Topics by how much better or worse they are than the baseline's: a bar each."""
    found = sorted(
        ((ours.get(qid, 0.0) - baseline.get(qid, 0.0), qid) for qid in ours | baseline), reverse=True
    )
    better, worse = sum(d > 0 for d, _ in found), sum(d < 0 for d, _ in found)
    largest = max((abs(d) for d, _ in found), default=0) or 1
    step, middle = (WIDTH - MARGIN) / max(1, len(found)), HEIGHT / 2
    bars = []
    for number, (difference, qid) in enumerate(found):
        tall = abs(difference) / largest * (middle - 4)
        top, kind = (middle - tall, "up") if difference > 0 else (middle, "down")
        bars.append(
            f'<rect class="{kind}" x="{MARGIN + number * step:.1f}" y="{top:.1f}" width="{max(step - 0.5, 0.5):.1f}" height="{tall:.1f}">'
            f"<title>{escaped(qid)}: {difference:+.4f}</title></rect>"
        )
    axis = f'<line x1="{MARGIN}" x2="{WIDTH}" y1="{middle}" y2="{middle}"/><text x="0" y="12">{largest:+.2f}</text>'
    note = f"{metric} of each topic minus {name}'s: {better} better, {worse} worse, {len(found) - better - worse} equal"
    return f'<p>{escaped(note)}</p><svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}">{axis}{"".join(bars)}</svg>'


def _sizes(records: Sequence[Record]) -> str:
    rows = [
        [record.system, f"{record.index_bytes:,}", f"{record.index_bytes / 1e9:.3f}", *_postings(record)] for record in records
    ]  # fmt: skip
    return table(["index", "bytes", "GB", "documents", "terms a document", "bytes a posting"], rows)


def _postings(record: Record) -> list[str]:
    if not record.postings:
        return ["", "", ""]
    return [f"{record.documents:,}", f"{record.terms_per_document:.1f}", f"{record.bytes_per_posting:.2f}"]


def _times(records: Sequence[Record]) -> str:
    """Of every command, its start and its model's or JVM's included; of searches, what that is for each topic."""
    rows = []
    for record in records:
        for step, seconds in record.seconds.items():
            topics = len(next(iter(record.topics.get(step.partition(" ")[2], {"": {}}).values())))
            rows.append(
                [record.system, step, f"{seconds:,.1f}", f"{1000 * seconds / topics:,.1f}" if topics else ""]
            )
    return table(["command", "step", "seconds", "ms a topic"], rows)


def _histograms(folder: Path) -> list[str]:
    """Active terms and impacts of the encoder's documents and queries."""
    parts = []
    for title, files in (
        ("documents", sorted((folder / "vectors").glob("*.jsonl"))),
        ("queries", sorted(folder.glob("queries*.jsonl"))),
    ):
        lines = itertools.islice(itertools.chain.from_iterable(map(read_lines, files)), READ)
        vectors = [json.loads(line)["vector"] for line in lines]
        if vectors:
            terms = [len(vector) for vector in vectors]
            parts.append(
                f"<h2>Vectors of {len(vectors):,} {title}</h2><p>{statistics.mean(terms):.1f} terms on average</p>"
            )
            parts.append(_histogram(terms, "active terms"))
            parts.append(_histogram([impact for vector in vectors for impact in vector.values()], "impact"))
    return parts


def _histogram(values: Sequence[int], label: str) -> str:
    least, most = min(values), max(values)
    size = max(1, -(-(most - least + 1) // BINS))
    counts = Counter((value - least) // size for value in values)
    tallest, step = max(counts.values()), (WIDTH - MARGIN) / (1 + (most - least) // size)
    bars = [
        f'<rect class="bar" x="{MARGIN + number * step:.1f}" y="{HEIGHT - MARGIN - tall:.1f}" width="{step - 1:.1f}" height="{tall:.1f}">'
        f"<title>{least + number * size} to {least + (number + 1) * size - 1}: {count:,}</title></rect>"
        for number, count in sorted(counts.items())
        for tall in [count / tallest * (HEIGHT - 2 * MARGIN)]
    ]
    scale = f'<text x="{MARGIN}" y="{HEIGHT - 10}">{least}</text><text x="{WIDTH - 40}" y="{HEIGHT - 10}">{most if most > least else ""}</text>'
    scale += f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}">{escaped(label)}</text><text x="0" y="12">{tallest:,}</text>'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}">{"".join(bars)}{scale}</svg>'


def _commands(systems: Sequence[System]) -> str:
    return "\n".join(shown(step.command) for system in systems for step in system.steps)
