"""Documents per second of our index from postings against Pyserini's own indexing of the same collection.

    python run_scripts/bench/index.py [--documents 100000 --terms 200 --threads 2]

Random vectors: terms drawn as Zipf's law has it out of 30,000, impacts log-normal around 60. Both sides end with one segment,
have to hold as many documents, terms and impacts, and to give the same run of 1,000 hits for each of random queries, byte for byte.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from csplade_pyserini.collections.encoding import to_record
from csplade_pyserini.collections.manifests import CollectionManifest, write_manifest
from csplade_pyserini.lucene.indexing import IndexJob, build_index
from csplade_pyserini.stock_manifests import describe_file

WANTED = 6.0
VOCABULARY = 30_000
FILES = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--terms", type=int, default=200, help="of a document, on average")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        write_collection(folder / "collection", args.documents, args.terms)
        size = sum(file.stat().st_size for file in (folder / "collection").iterdir())
        print(
            f"{args.documents} documents, {args.terms} terms each on average, {size:,} bytes of JSON, {args.threads} threads"
        )
        built, seconds = {}, {}
        for side, stock in (("ours", False), ("pyserini", True)):
            start = time.perf_counter()
            index = folder / side
            built[side] = build_index(
                IndexJob(collection=folder / "collection", index=index, threads=args.threads, stock=stock)
            )
            seconds[side] = time.perf_counter() - start
            print(
                f"{side:<9} {seconds[side]:7.1f} s  {args.documents / seconds[side]:8.0f} documents/s  {built[side].postings:,} postings  "
                f"{built[side].bytes:,} bytes  {built[side].bytes / built[side].postings:.3f} bytes per posting"
            )
        write_queries(folder, args.queries)
        runs = {side: search(folder, folder / side) for side in built}
    finally:
        shutil.rmtree(folder)
    for name in ("documents", "postings", "terms", "impacts"):
        ours, theirs = (getattr(built[side], name) for side in ("ours", "pyserini"))
        if ours != theirs:
            print(f"the indexes differ: {name} {ours}, Pyserini's {theirs}", file=sys.stderr)
            return 1
    if runs["ours"] != runs["pyserini"]:
        print("the indexes differ: their runs are not the same", file=sys.stderr)
        return 1
    print(
        f"the same {len(runs['ours'].splitlines()):,} hits of {args.queries} queries, docids, order and scores"
    )
    ratio = seconds["pyserini"] / seconds["ours"]
    print(f"ours / pyserini: {ratio:.2f} times the documents per second (at least {WANTED:.1f} wanted)")
    return 0 if ratio >= WANTED else 1


def write_collection(folder: Path, documents: int, terms: int) -> None:
    """JSONL files and their manifest, as `encode` writes them."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng(0)
    share = 1 / np.arange(1, VOCABULARY + 1)
    share /= share.sum()
    names = [f"\u0120t{number}" for number in range(VOCABULARY)]
    for number in range(FILES):
        with (folder / f"shard-{number}.jsonl").open("w", encoding="utf-8") as file:
            for document in range(number, documents, FILES):
                count = max(1, int(chance.normal(terms, terms / 4)))
                # Repeats fall away, so more are drawn than are wanted; the heavy head makes them many.
                ids = np.unique(chance.choice(VOCABULARY, size=2 * count, p=share))[:VOCABULARY]
                ids = chance.permutation(ids)[:count]
                impacts = np.clip(chance.lognormal(4.1, 0.5, len(ids)), 1, 500).astype(int)
                vector = dict(zip((names[i] for i in ids), impacts.tolist(), strict=True))
                file.write(to_record(f"d{document}", "", vector))
    shards = tuple(describe_file(file) for file in sorted(folder.iterdir()))
    write_manifest(
        CollectionManifest(encoder="random", card={}, arguments={}, versions={}, shards=shards), folder
    )


def write_queries(folder: Path, queries: int) -> None:
    """Topics, and their vectors for Pyserini's precomputed query encoder."""
    chance = np.random.default_rng(1)
    with (
        (folder / "topics.tsv").open("w") as topics,
        (folder / "queries.jsonl").open("w", encoding="utf-8") as vectors,
    ):
        for number in range(1, queries + 1):
            topics.write(f"{number}\tquery {number}\n")
            ids = chance.choice(VOCABULARY, size=20, replace=False)
            vector = {f"\u0120t{term}": int(chance.integers(1, 200)) for term in ids}
            vectors.write(
                json.dumps({"contents": f"query {number}", "vector": vector}, ensure_ascii=False) + "\n"
            )


def search(folder: Path, index: Path) -> str:
    """The run of Pyserini's own command."""
    run = folder / f"{index.name}.run.txt"
    command = [
        sys.executable, "-m", "pyserini.search.lucene", "--index", index, "--topics", folder / "topics.tsv", "--output", run,
        "--impact", "--encoder", folder / "queries.jsonl", "--hits", "1000", "--batch-size", "32", "--threads", "2",
    ]  # fmt: skip
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return run.read_text(encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
