"""Run BEIR's 13 public sets of the paper, or named ones, next to BM25, and print nDCG@10 and R@100.

python run_scripts/beir.py --encoder csplade-bi-8b
python run_scripts/beir.py --encoder csplade-tiny --datasets nfcorpus scifact

Each set is one `python -m csplade_pyserini.reproduce` in a folder under --output. Run the script again to
resume. If a set fails, the script ends with its exit code. CQADupStack's twelve forums count as one set,
cqadupstack, with their average score.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from csplade_pyserini.command_line import positive, run
from csplade_pyserini.errors import InputError
from csplade_pyserini.reproduction.catalogue import TestCollection, find_collections, known_collections
from csplade_pyserini.reproduction.records import read_record
from csplade_pyserini.reproduction.steps import folder_name

METRICS = ("nDCG@10", "R@100")
Scores = dict[str, tuple[float, ...]]
"""Values of METRICS by system: BM25 and the encoder."""


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    code = 0
    rows: dict[str, Scores] = {}
    for name in args.datasets:
        collections = collections_of(name)
        for collection in collections:
            returned = reproduce(collection, args)
            code = max(code, returned)
            folder = args.output / collection.folder / folder_name(args.encoder)
            # Exit code 1 with a record: a score is not the expected one, and the other sets still run.
            if returned > 1 or (returned and not (folder / "record.json").is_file()):
                return code
        if not args.dry_run:
            rows |= scored_rows(name, collections, args)
    if rows:
        print_table(args.encoder, rows)
    return code


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--encoder", required=True)
    parser.add_argument(
        "--datasets", nargs="+", default=["beir"], metavar="SET",
        help="sets, such as nfcorpus (default: the paper's 13)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("runs/beir"), metavar="DIR")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--dry-run", action="store_true", help="print the commands and do nothing")
    return parser.parse_args(argv)


def collections_of(name: str) -> list[TestCollection]:
    """Return one of BEIR's sets, or several. Raises InputError for an unknown one."""
    full = f"beir/{name}"
    if name == "cqadupstack" or name.startswith("beir"):
        full = name
    collections = find_collections(full)
    if any(collection not in known_collections() for collection in collections):
        raise InputError(f"unknown set {name!r}; known: {', '.join(known_names())}, cqadupstack")
    return collections


def known_names() -> list[str]:
    """Return the names and aliases of all BEIR sets."""
    names: set[str] = set()
    for collection in known_collections():
        names.update(word for word in (collection.name, *collection.aliases) if "beir/" in word)
    return sorted(names)


def reproduce(collection: TestCollection, args: argparse.Namespace) -> int:
    """Run `reproduce` on one collection, and return its exit code."""
    command = [
        sys.executable, "-m", "csplade_pyserini.reproduce",
        "--collection", collection.name, "--encoder", args.encoder,
        "--output", str(args.output / collection.folder), "--threads", str(args.threads),
    ]  # fmt: skip
    if args.dry_run:
        command.append("--dry-run")
    return subprocess.run(command, check=False).returncode


def scored_rows(
    name: str, collections: Sequence[TestCollection], args: argparse.Namespace
) -> dict[str, Scores]:
    """Return one row per collection, or one row for all forums of CQADupStack."""
    if name == "cqadupstack":
        return {name: scores_of(collections, args)}
    return {collection.name: scores_of([collection], args) for collection in collections}


def scores_of(group: Sequence[TestCollection], args: argparse.Namespace) -> Scores:
    """Return the scores of BM25 and the encoder, averaged over a group of collections."""
    found = {}
    for system, folder in (("BM25", "bm25"), (args.encoder, folder_name(args.encoder))):
        records = [read_record(args.output / collection.folder / folder) for collection in group]
        scores = [next(iter(record.scores.values())) for record in records]
        found[system] = tuple(statistics.mean(row[metric] for row in scores) for metric in METRICS)
    return found


def print_table(encoder: str, rows: dict[str, Scores]) -> None:
    """Print one row per set, and the average of several sets."""
    systems = ("BM25", encoder)
    if len(rows) > 1:
        rows = rows | {f"average of {len(rows)}": averages(systems, rows)}
    width = max(map(len, rows))
    titles = [f"{system} {metric}" for metric in METRICS for system in systems]
    print(f"{'':<{width}}  " + "  ".join(f"{title:>22}" for title in titles))
    for name, row in rows.items():
        cells = [row[system][number] for number in range(len(METRICS)) for system in systems]
        print(f"{name:<{width}}  " + "  ".join(f"{cell:>22.4f}" for cell in cells))


def averages(systems: Sequence[str], rows: dict[str, Scores]) -> Scores:
    """Return each system's mean of every metric."""
    means = {}
    for system in systems:
        columns = zip(*(row[system] for row in rows.values()), strict=True)
        means[system] = tuple(map(statistics.mean, columns))
    return means


if __name__ == "__main__":
    run(main)
