"""Measure documents per second of our index from postings against Pyserini's own indexing.

    python experiments/bench/index.py [--documents 100000 --terms 200 --threads 2]

The vectors are random: terms drawn from 30,000 by Zipf's law, impacts log-normal around 60. We index them
twice: as `encode` wrote them, and without the manifest, as files of another program. All indexes end with one
segment. They must hold the same numbers of documents, terms and impacts. For random queries they must give
the same run of 1,000 hits each, byte for byte.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from csplade_pyserini.collections.manifests import (
    CollectionManifest,
    IndexManifest,
    manifest_path,
    write_manifest,
)
from csplade_pyserini.collections.vectors import describe_file, record_line
from csplade_pyserini.lucene.indexing import IndexJob, build_index

WANTED = 6.0
"""Wanted ratio of documents per second."""
VOCABULARY = 30_000
FILES = 8


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        collection = folder / "collection"
        write_collection(collection, args.documents, args.terms)
        size = sum(file.stat().st_size for file in collection.iterdir())
        print(
            f"{args.documents} documents, {args.terms} terms each on average, {size:,} bytes of JSON, "
            f"{args.threads} threads"
        )
        job = IndexJob(
            collection=collection, index=folder / "ours", threads=args.threads, without_manifest=True
        )
        stock_job = dataclasses.replace(job, index=folder / "pyserini", stock=True)
        ours, our_seconds = timed_index(job)
        stock, stock_seconds = timed_index(stock_job)
        manifest_path(collection).unlink()
        foreign, foreign_seconds = timed_index(dataclasses.replace(job, index=folder / "foreign"))
        write_queries(folder, args.queries)
        stock_run = search(folder, stock_job.index)
        for name, built in (("ours", ours), ("foreign", foreign)):
            if not same_index(built, stock, search(folder, folder / name), stock_run):
                return 1
    print(
        f"the same {len(stock_run.splitlines()):,} hits of {args.queries} queries, docids, order and scores"
    )
    print("times Pyserini's documents per second:")
    for name, seconds in (("ours", our_seconds), ("foreign", foreign_seconds)):
        print(f"{name:<9} {stock_seconds / seconds:.2f} (at least {WANTED:.1f} wanted)")
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--terms", type=int, default=200, help="average number of terms in a document")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="folder to work in (default: a temporary folder)")
    return parser.parse_args(argv)


def timed_index(job: IndexJob) -> tuple[IndexManifest, float]:
    """Build an index, print its speed and size, and return its manifest and the seconds."""
    start = time.perf_counter()
    built = build_index(job)
    seconds = time.perf_counter() - start
    print(
        f"{job.index.name:<9} {seconds:7.1f} s  {built.documents / seconds:8.0f} documents/s  "
        f"{built.postings:,} postings  {built.bytes:,} bytes  "
        f"{built.bytes / built.postings:.3f} bytes per posting"
    )
    return built, seconds


def same_index(ours: IndexManifest, stock: IndexManifest, our_run: str, stock_run: str) -> bool:
    """Compare counts and runs. A difference is reported on stderr."""
    for name in ("documents", "postings", "terms", "impacts"):
        if getattr(ours, name) != getattr(stock, name):
            print(
                f"the indexes differ: {name} {getattr(ours, name)}, Pyserini's {getattr(stock, name)}",
                file=sys.stderr,
            )
            return False
    if our_run != stock_run:
        print("the indexes differ: their runs are not the same", file=sys.stderr)
        return False
    return True


def write_collection(folder: Path, documents: int, terms: int) -> None:
    """Write JSONL files and their manifest, as `encode` does."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng(0)
    share = 1 / np.arange(1, VOCABULARY + 1)
    share /= share.sum()
    names = [f"\u0120t{number}" for number in range(VOCABULARY)]
    for number in range(FILES):
        with (folder / f"shard-{number}.jsonl").open("w", encoding="utf-8") as file:
            for document in range(number, documents, FILES):
                count = max(1, int(chance.normal(terms, terms / 4)))
                # Twice as many are drawn as wanted: the heavy head of the distribution repeats itself.
                ids = np.unique(chance.choice(VOCABULARY, size=2 * count, p=share))[:VOCABULARY]
                ids = chance.permutation(ids)[:count]
                impacts = np.clip(chance.lognormal(4.1, 0.5, len(ids)), 1, 500).astype(int)
                vector = dict(zip((names[i] for i in ids), impacts.tolist(), strict=True))
                file.write(record_line(f"d{document}", "", vector))
    files = tuple(describe_file(file) for file in sorted(folder.iterdir()))
    manifest = CollectionManifest(encoder="random", card={}, arguments={}, versions={}, files=files)
    write_manifest(manifest, folder)


def write_queries(folder: Path, queries: int) -> None:
    """Write topics, and their vectors for Pyserini's precomputed query encoder."""
    chance = np.random.default_rng(1)
    with (
        (folder / "topics.tsv").open("w") as topics,
        (folder / "queries.jsonl").open("w", encoding="utf-8") as vectors,
    ):
        for number in range(1, queries + 1):
            topics.write(f"{number}\tquery {number}\n")
            ids = chance.choice(VOCABULARY, size=20, replace=False)
            vector = {f"\u0120t{term}": int(chance.integers(1, 200)) for term in ids}
            record = {"contents": f"query {number}", "vector": vector}
            vectors.write(json.dumps(record, ensure_ascii=False) + "\n")


def search(folder: Path, index: Path) -> str:
    """Search with Pyserini's own command, and return its run."""
    run = folder / f"{index.name}.run.txt"
    command = [
        sys.executable, "-m", "pyserini.search.lucene", "--index", index, "--topics", folder / "topics.tsv",
        "--output", run, "--impact", "--encoder", folder / "queries.jsonl", "--hits", "1000",
        "--batch-size", "32", "--threads", "2",
    ]  # fmt: skip
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return run.read_text(encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
