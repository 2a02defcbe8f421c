"""Write docs/reproductions.md from the tables of expected scores, or print one run's entry for them.

python tools/reproductions.py                                       # what `make docs` runs
python tools/reproductions.py --record runs/nfcorpus/csplade-tiny   # TOML for measured.toml
"""

import argparse
import string
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from csplade_pyserini.command_line import run
from csplade_pyserini.files.pages import markdown_table
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.reproduction.catalogue import find_collections, known_collections
from csplade_pyserini.reproduction.records import Record, read_record
from csplade_pyserini.reproduction.score_tables import ScoreTable, read_expected

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "reproductions.md"
POOL_KEYS = ("msmarco-pool/dl19", "msmarco-pool/dl20")
FILES = {
    **dict.fromkeys(POOL_KEYS, "run_scripts/collections/msmarco-pool.toml"),
    **dict.fromkeys(("cranfield", "vaswani"), "run_scripts/collections/classic.toml"),
}
"""Files of collections that the package does not know by name, by the keys of their topics."""
TOLERANCE = 0.002
"""Another machine's float arithmetic moves an impact by one now and then."""
TOLERANCES = {"BM25": 0.0001}
"""Systems without float arithmetic of that kind."""
SHOWN_VERSIONS = ("pyserini", "torch", "transformers")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
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


# ---------------------------------------------------------------- one run's entry


def entry(record: Record) -> str:
    """Return a run's scores and sizes as TOML for the tables."""
    lines = [
        "[[expected]]",
        f'encoder = "{record.system}"',
        'origin = "measured"',
        f'source = "{source_of(record)}"',
        f"tolerance = {TOLERANCES.get(record.system, TOLERANCE)}",
    ]
    for key, scores in record.scores.items():
        lines.append(f'[expected.scores."{key}"]')
        lines += [f'"{metric}" = {value:.4f}' for metric, value in scores.items()]
    for key in record.scores:
        lines.append(f'[expected.sizes."{key}"]')
        lines += [f"{name} = {value}" for name, value in sizes_of(record, key).items()]
    return "\n".join(lines) + "\n"


def source_of(record: Record) -> str:
    """Return the commit, versions, device and date of a run."""
    command = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    shown = [name for name in SHOWN_VERSIONS if name in record.versions]
    versions = ", ".join(f"{name} {record.versions[name]}" for name in shown)
    device = record.hardware.get("gpus", "CPU")
    return f"commit {commit}, {versions}, {device}, {record.date}"


def sizes_of(record: Record, key: str) -> dict[str, float]:
    """Return the sizes that a run knows for a set of topics."""
    sizes: dict[str, float] = {"index_bytes": record.index_bytes}
    if record.postings:
        sizes["bytes_per_posting"] = round(record.bytes_per_posting, 2)
        sizes["terms_per_document"] = round(record.terms_per_document, 1)
    if key in record.query_terms:
        sizes["terms_per_query"] = round(record.query_terms[key], 1)
    return sizes


# ---------------------------------------------------------------- the page's tables


def measured(tables: Sequence[ScoreTable]) -> str:
    """Return one table per set of topics, with one row per encoder."""
    parts = []
    for key in measured_keys(tables):
        rows = [table for table in tables if table.origin == "measured" and key in table.scores]
        metrics = list(dict.fromkeys(metric for table in rows for metric in table.scores[key]))
        head = [
            "encoder", *metrics, "index bytes", "GB", "bytes a posting", "terms a document", "terms a query",
            "measured with",
        ]  # fmt: skip
        lines = [measured_row(table, key, metrics) for table in rows]
        parts += [f"### {title(key)}", "", markdown_table(head, lines), ""]
    return "\n".join(parts).strip()


def measured_row(table: ScoreTable, key: str, metrics: Sequence[str]) -> list[str]:
    """Return an encoder's row. A size that is not known stays empty."""
    sizes = table.sizes.get(key, {})
    size = ["", ""]
    if "index_bytes" in sizes:
        size = [f"{sizes['index_bytes']:,}", f"{sizes['index_bytes'] / 1e9:.4f}"]
    names = ("bytes_per_posting", "terms_per_document", "terms_per_query")
    averages = [str(sizes.get(name, "")) for name in names]
    scores = [score(table, key, metric, 4) for metric in metrics]
    return [table.encoder, *scores, *size, *averages, table.source]


def title(key: str) -> str:
    if key in POOL_KEYS:
        return f"{key}: a pool of 30,005 passages, not the full corpus"
    return key


def commands(tables: Sequence[ScoreTable]) -> str:
    """Return a command for every row except BM25's, which every command runs too."""
    lines = []
    for key in measured_keys(tables):
        name = collection_of(key)
        output = f"runs/{name.replace('/', '-')}"
        if key in FILES:
            output = f"runs/{Path(name).stem}"
        for table in tables:
            if table.origin == "measured" and key in table.scores and table.encoder != "BM25":
                lines.append(
                    f"python -m csplade_pyserini.reproduce --collection {name} "
                    f"--encoder {table.encoder} --output {output}"
                )
    return "\n".join(dict.fromkeys(lines))


def collection_of(key: str) -> str:
    """Return the --collection for a key of the tables."""
    if key in FILES:
        return FILES[key]
    for collection in known_collections():
        if key in map(collection.key, collection.topics):
            return collection.name
    raise LookupError(f"no collection has the topics {key}")


def measured_keys(tables: Sequence[ScoreTable]) -> list[str]:
    """Return the sets of topics with measured scores, in the tables' order."""
    return list(dict.fromkeys(key for table in tables if table.origin == "measured" for key in table.scores))


def msmarco(tables: Sequence[ScoreTable]) -> str:
    """Return what papers and regressions report for MS MARCO's 8.8M passages."""
    [collection] = find_collections("msmarco-v1-passage")
    columns = [(collection.key(topics), metric) for topics in collection.topics for metric in topics.metrics]
    rows = []
    for table in tables:
        if table.origin != "measured" and any(key in table.scores for key, _ in columns):
            scores = [score(table, key, metric, 3) for key, metric in columns]
            rows.append([table.encoder, *scores, f"{table.index_gb or ''}", origin_of(table)])
    names = [f"{key.partition('/')[2]} {metric}" for key, metric in columns]
    return markdown_table(["encoder", *names, "index GB", "from"], rows)


def beir(tables: Sequence[ScoreTable]) -> str:
    """Return nDCG@10 on the paper's 13 sets, with one column per source."""
    collections = find_collections("beir")
    keys = [collection.key(collection.topics[0]) for collection in collections]
    sources = []
    for table in tables:
        if table.origin != "measured" and any(key.startswith("beir/") for key in table.scores):
            sources.append(table)
    rows = []
    for collection, key in zip(collections, keys, strict=True):
        rows.append([collection.name, *(score(table, key, "nDCG@10", 3) for table in sources)])
    rows.append([f"average of {len(collections)}", *(average(table, keys) for table in sources)])
    names = [f"{table.encoder} ({table.origin})" for table in sources]
    notes = "\n".join(f"- {table.encoder}, {origin_of(table)}" for table in sources)
    return f"{markdown_table(['', *names], rows)}\n\n{notes}"


def average(table: ScoreTable, keys: Sequence[str]) -> str:
    """Return a source's mean nDCG@10, or nothing if it lacks a set."""
    values = []
    for key in keys:
        value = table.scores.get(key, {}).get("nDCG@10")
        if value is None:
            return ""
        values.append(value)
    return f"{sum(values) / len(values):.3f}"


def origin_of(table: ScoreTable) -> str:
    return f"{table.origin}: {table.source}"


def score(table: ScoreTable, key: str, metric: str, digits: int) -> str:
    """Return a score, or nothing if the table lacks it."""
    value = table.scores.get(key, {}).get(metric)
    if value is None:
        return ""
    return f"{value:.{digits}f}"


if __name__ == "__main__":
    run(main)
