"""docs/reproductions.md out of the tables in run_scripts/expected; or the tables' entry for a run that is done.

python run_scripts/reproductions.py                                           # what `make docs` runs
python run_scripts/reproductions.py --record runs/nfcorpus/csplade-tiny       # TOML for run_scripts/expected/measured.toml
"""

import argparse
import string
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import markdown

from csplade_pyserini.collections.files import whole_file
from csplade_pyserini.command_line import run
from csplade_pyserini.reproduction.collections import find_collections, known_collections
from csplade_pyserini.reproduction.expected import ScoreTable, read_expected
from csplade_pyserini.reproduction.records import Record, read_record

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "reproductions.md"
POOL = "run_scripts/collections/msmarco-pool.toml"
POOL_KEYS = ("msmarco-pool/dl19", "msmarco-pool/dl20")
TOLERANCE, TOLERANCES = 0.002, {"BM25": 0.0001}
"""Another machine's float arithmetic moves an impact by one now and then; BM25 has none of that."""
SHOWN_VERSIONS = ("pyserini", "torch", "transformers")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=PAGE, metavar="FILE")
    parser.add_argument("--record", type=Path, metavar="DIR", help="print this run's entry instead")
    args = parser.parse_args(argv)
    if args.record:
        print(entry(read_record(args.record)), end="")
        return 0
    tables = read_expected()
    words = {
        "measured": measured(tables),
        "commands": commands(tables),
        "msmarco": msmarco(tables),
        "beir": beir(tables),
    }
    template = string.Template((HERE / "reproductions.md").read_text(encoding="utf-8"))
    with whole_file(args.output) as file:
        file.write(template.substitute(words))
    print(args.output, file=sys.stderr)
    return 0


def entry(record: Record) -> str:
    """A run's scores and sizes as they stand in the tables."""
    versions = ", ".join(
        f"{name} {record.versions[name]}" for name in SHOWN_VERSIONS if name in record.versions
    )
    place = record.hardware.get("gpus", "CPU")
    commit = subprocess.run(
        ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout
    source = f"commit {commit.strip()}, {versions}, {place}, {record.date}"
    lines = ["[[expected]]", f'encoder = "{record.system}"', 'origin = "measured"', f'source = "{source}"']
    lines.append(f"tolerance = {TOLERANCES.get(record.system, TOLERANCE)}")
    for key, scores in record.scores.items():
        lines += [
            f'[expected.scores."{key}"]',
            *(f'"{metric}" = {value:.4f}' for metric, value in scores.items()),
        ]
    for key in record.scores:
        sizes: dict[str, float] = {"index_bytes": record.index_bytes}
        if record.postings:
            sizes["bytes_per_posting"] = round(record.bytes_per_posting, 2)
            sizes["terms_per_document"] = round(record.terms_per_document, 1)
        if key in record.query_terms:
            sizes["terms_per_query"] = round(record.query_terms[key], 1)
        lines += [f'[expected.sizes."{key}"]', *(f"{name} = {value}" for name, value in sizes.items())]
    return "\n".join(lines) + "\n"


def measured(tables: Sequence[ScoreTable]) -> str:
    """A table a collection, a row an encoder."""
    parts = []
    for key in keys_of(tables, "measured"):
        rows = [table for table in tables if table.origin == "measured" and key in table.scores]
        metrics = list(dict.fromkeys(metric for table in rows for metric in table.scores[key]))
        head = [
            "encoder",
            *metrics,
            "index bytes",
            "GB",
            "bytes a posting",
            "terms a document",
            "terms a query",
            "measured with",
        ]
        lines = []
        for table in rows:
            sizes = table.sizes.get(key, {})
            size = sizes.get("index_bytes")
            lines.append([
                table.encoder, *(score(table, key, metric, 4) for metric in metrics),
                f"{size:,}" if size else "", f"{size / 1e9:.4f}" if size else "",
                *(str(sizes.get(name, "")) for name in ("bytes_per_posting", "terms_per_document", "terms_per_query")), table.source,
            ])  # fmt: skip
        parts += [f"### {title(key)}", "", markdown.table(head, lines), ""]
    return "\n".join(parts).strip()


def title(key: str) -> str:
    return f"{key}: a pool of 30,005 passages, not the full corpus" if key in POOL_KEYS else key


def commands(tables: Sequence[ScoreTable]) -> str:
    """A command for every row above but BM25's, which every command runs too."""
    lines = []
    for key in keys_of(tables, "measured"):
        name = collection_of(key)
        for table in tables:
            if table.origin == "measured" and key in table.scores and table.encoder != "BM25":
                output = f"runs/{Path(name).stem if name == POOL else name.replace('/', '-')}"
                lines.append(
                    f"python -m csplade_pyserini.reproduce --collection {name} --encoder {table.encoder} --output {output}"
                )
    return "\n".join(dict.fromkeys(lines))


def collection_of(key: str) -> str:
    """What --collection takes for a key of the tables."""
    return (
        POOL if key in POOL_KEYS else next(c.name for c in known_collections() if key in map(c.key, c.topics))
    )


def keys_of(tables: Sequence[ScoreTable], origin: str) -> list[str]:
    return list(dict.fromkeys(key for table in tables if table.origin == origin for key in table.scores))


def msmarco(tables: Sequence[ScoreTable]) -> str:
    """What papers and regressions give for MS MARCO's 8.8M passages."""
    [collection] = find_collections("msmarco-v1-passage")
    columns = [(collection.key(topics), metric) for topics in collection.topics for metric in topics.metrics]
    rows = [
        [
            table.encoder,
            *(score(table, key, metric, 3) for key, metric in columns),
            f"{table.index_gb or ''}",
            whence(table),
        ]
        for table in tables
        if table.origin != "measured" and any(key in table.scores for key, _ in columns)
    ]
    return markdown.table(
        ["encoder", *(f"{key.partition('/')[2]} {metric}" for key, metric in columns), "index GB", "from"],
        rows,
    )


def beir(tables: Sequence[ScoreTable]) -> str:
    """nDCG@10 of the paper's 13, a column a source, and their average where a source has all."""
    collections = find_collections("beir")
    sources = [
        table
        for table in tables
        if table.origin != "measured" and any(key.startswith("beir/") for key in table.scores)
    ]
    rows = []
    for collection in collections:
        rows.append(
            [
                collection.name,
                *(score(table, collection.key(collection.topics[0]), "nDCG@10", 3) for table in sources),
            ]
        )
    averages = []
    for table in sources:
        values = [
            table.scores.get(collection.key(collection.topics[0]), {}).get("nDCG@10")
            for collection in collections
        ]
        averages.append(f"{sum(values) / len(values):.3f}" if None not in values else "")
    rows.append([f"average of {len(collections)}", *averages])
    names = [f"{table.encoder} ({table.origin})" for table in sources]
    notes = "\n".join(f"- {table.encoder}, {whence(table)}" for table in sources)
    return f"{markdown.table(['', *names], rows)}\n\n{notes}"


def whence(table: ScoreTable) -> str:
    return f"{table.origin}: {table.source}"


def score(table: ScoreTable, key: str, metric: str, digits: int) -> str:
    value = table.scores.get(key, {}).get(metric)
    return "" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    run(main)
