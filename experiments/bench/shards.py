"""Measure an index of 1, 2 and 4 shards: time to index, time to search.

    python experiments/bench/shards.py [--documents 50000 --queries 100 --hits 1000 --shards 1 2 4]

The vectors are those of search.py. Every number of shards has to give the same docids, scores and order. The
sides take turns, and the fastest of three rounds counts.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from search import QUERY_TERMS, ROUNDS, random_vectors, write_collection

from csplade_pyserini.impacts import Vector
from csplade_pyserini.lucene.bulk import ImpactSearcher
from csplade_pyserini.lucene.indexing import IndexJob, build_index

Found = dict[str, list[tuple[str, float]]]


class Cost(NamedTuple):
    """Seconds of one number of shards."""

    indexing: float
    """Wall-clock seconds to index."""
    cpu: float
    """CPU seconds to search."""
    wall: float
    """Wall-clock seconds to search."""


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    drawn = random_vectors(args.queries, QUERY_TERMS, np.random.default_rng(1))
    queries = {f"q{number}": query for number, query in enumerate(drawn)}
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        write_collection(folder / "vectors", args.documents)
        costs = measure(folder, args, queries)
    first, *others = costs.items()
    print(f"{args.documents} documents, {args.queries} queries, k = {args.hits}, {args.threads} threads")
    for number, cost in costs.items():
        milliseconds = 1000 / args.queries
        print(
            f"shards {number:<3} {cost.indexing:7.1f} s to index  "
            f"{cost.cpu * milliseconds:7.2f} CPU ms and {cost.wall * milliseconds:7.2f} ms a query"
        )
    for number, cost in others:
        print(
            f"{number} shards / {first[0]}: {cost.indexing / first[1].indexing:.2f} of the time to index, "
            f"{cost.cpu / first[1].cpu:.2f} of the CPU time and {cost.wall / first[1].wall:.2f} of the "
            f"time to search"
        )
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--hits", type=int, default=1000)
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--threads", type=int, default=2, help="processes that index; threads that search")
    parser.add_argument("--folder", type=Path, help="folder to work in (default: a temporary folder)")
    return parser.parse_args(argv)


def measure(folder: Path, args: argparse.Namespace, queries: Mapping[str, Vector]) -> dict[int, Cost]:
    """Index and search with each number of shards. Raises RuntimeError if runs differ."""
    index_seconds = {}
    for number in args.shards:
        start = time.perf_counter()
        build_index(
            IndexJob(
                collection=folder / "vectors", index=folder / str(number), shards=number, threads=args.threads
            )
        )
        index_seconds[number] = time.perf_counter() - start
    searchers = {number: ImpactSearcher(folder / str(number)) for number in args.shards}
    rounds: dict[int, list[tuple[float, float]]] = {number: [] for number in args.shards}
    for _ in range(ROUNDS):
        runs: list[Found] = []
        for number, searcher in searchers.items():
            begin_cpu = time.process_time()
            begin = time.perf_counter()
            runs.append(searcher.run(queries, args.hits, args.threads))
            rounds[number].append((time.process_time() - begin_cpu, time.perf_counter() - begin))
        if any(run != runs[0] for run in runs):
            raise RuntimeError("the runs differ")
    return {
        number: Cost(index_seconds[number], min(cpu for cpu, _ in taken), min(wall for _, wall in taken))
        for number, taken in rounds.items()
    }


if __name__ == "__main__":
    raise SystemExit(main())
