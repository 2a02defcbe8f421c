"""BEIR's 13 public sets of the paper, or those named, next to BM25: a table of nDCG@10 and R@100, and their average.

python run_scripts/beir.py --encoder csplade-bi-8b
python run_scripts/beir.py --encoder csplade-tiny --datasets nfcorpus scifact

Each set is a `python -m csplade_pyserini.reproduce` of its own under --output. Run again to resume; a set that failed stops the
script with its exit code. CQADupStack's twelve are one set, cqadupstack, whose score is their average.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from csplade_pyserini.command_line import positive, run
from csplade_pyserini.errors import InputError
from csplade_pyserini.reproduction.records import read_record
from csplade_pyserini.reproduction.steps import folder_name
from csplade_pyserini.reproduction.test_collections import TestCollection, find_collections, known_collections

METRICS = ("nDCG@10", "R@100")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", required=True)
    parser.add_argument(
        "--datasets",
        nargs="+",
        default=["beir"],
        metavar="SET",
        help="sets, such as nfcorpus (default: the paper's 13)",
    )
    parser.add_argument("--output", type=Path, default=Path("runs/beir"), metavar="DIR")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--dry-run", action="store_true", help="print the commands and do nothing")
    args = parser.parse_args(argv)
    code, rows = 0, {}
    for name in args.datasets:
        collections = collections_of(name)
        for collection in collections:
            folder = args.output / collection.folder
            words = [
                "--collection",
                collection.name,
                "--encoder",
                args.encoder,
                "--output",
                str(folder),
                "--threads",
                str(args.threads),
            ]
            command = [
                sys.executable,
                "-m",
                "csplade_pyserini.reproduce",
                *words,
                *(["--dry-run"] if args.dry_run else []),
            ]
            code = max(code, subprocess.run(command, check=False).returncode)
            if code > 1 or (code and not (folder / folder_name(args.encoder) / "record.json").is_file()):
                return code
        if not args.dry_run:
            groups = [collections] if name == "cqadupstack" else [[collection] for collection in collections]
            rows |= {name if len(group) > 1 else group[0].name: scores_of(group, args) for group in groups}
    if rows:
        print_table(args.encoder, rows)
    return code


def collections_of(name: str) -> list[TestCollection]:
    """One of BEIR's sets, or several. Raises InputError on an unknown one."""
    full = name if name == "cqadupstack" or name.startswith("beir") else f"beir/{name}"
    collections = find_collections(full)
    if any(collection not in known_collections() for collection in collections):
        known = sorted(
            {
                word
                for collection in known_collections()
                for word in (collection.name, *collection.aliases)
                if "beir/" in word
            }
        )
        raise InputError(f"unknown set {name!r}; known: {', '.join(known)}, cqadupstack")
    return collections


def scores_of(group: Sequence[TestCollection], args: argparse.Namespace) -> dict[str, tuple[float, ...]]:
    """Of BM25 and the encoder: every metric, averaged over the group."""
    found = {}
    for system, folder in (("BM25", "bm25"), (args.encoder, folder_name(args.encoder))):
        records = [read_record(args.output / collection.folder / folder) for collection in group]
        scores = [next(iter(record.scores.values())) for record in records]
        found[system] = tuple(statistics.mean(row[metric] for row in scores) for metric in METRICS)
    return found


def print_table(encoder: str, rows: dict[str, dict[str, tuple[float, ...]]]) -> None:
    """A row a set and, of several, their average."""
    if len(rows) > 1:
        systems = ("BM25", encoder)
        means = {
            system: tuple(map(statistics.mean, zip(*(row[system] for row in rows.values()), strict=True)))
            for system in systems
        }
        rows = rows | {f"average of {len(rows)}": means}
    width = max(map(len, rows))
    print(
        f"{'':<{width}}  "
        + "  ".join(f"{system + ' ' + metric:>22}" for metric in METRICS for system in ("BM25", encoder))
    )
    for name, row in rows.items():
        cells = [row[system][number] for number in range(len(METRICS)) for system in ("BM25", encoder)]
        print(f"{name:<{width}}  " + "  ".join(f"{cell:>22.4f}" for cell in cells))


if __name__ == "__main__":
    run(main)
