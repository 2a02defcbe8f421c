"""Measure a batch search's CPU time against Pyserini's own way of making hits, with Qdrant's engine beside.

    python experiments/bench/search.py [--documents 200000 --queries 200 --hits 1000 --folder work]

The vectors are random: terms drawn by Zipf's law, impacts by a gamma distribution. Both sides take turns in
one process and write run files, which have to be the same, byte for byte. With the extra [qdrant] the same
vectors and queries go to Qdrant embedded in a folder. The last line is the time to open the index.
"""

import argparse
import importlib.util
import itertools
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from csplade_pyserini.collections.vectors import record_line
from csplade_pyserini.engines.qdrant import QdrantEdge
from csplade_pyserini.engines.target import Document, Identity, Place, Query
from csplade_pyserini.impacts import Vector
from csplade_pyserini.lucene.bulk import BulkSearcher
from csplade_pyserini.lucene.indexing import IndexJob, build_index
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.registration import register

WANTED = 0.5
"""Wanted ratio of CPU times."""
VOCABULARY = 49_152
TERMS = 166
QUERY_TERMS = 42
BATCH = 32
ROUNDS = 3
"""Rounds, of which the fastest counts: Java compiles what is slow in the first."""
QDRANT_BATCH = 1_000


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        index = folder / "index"
        collection = folder / "vectors"
        if not collection.is_dir():
            write_collection(collection, args.documents)
        build_index(IndexJob(collection=collection, index=index, threads=args.threads))
        queries = random_vectors(args.queries, QUERY_TERMS, np.random.default_rng(1))
        ratio = compare(index, {f"q{i}": query for i, query in enumerate(queries)}, args.hits, folder)
        if importlib.util.find_spec("qdrant_edge"):
            search_qdrant(folder / "qdrant", args.documents, queries, args.hits)
    print(f"one call a batch / one call a hit: {ratio:.2f} of the CPU time (at most {WANTED} wanted)")
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--hits", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2, help="processes that index")
    parser.add_argument("--folder", type=Path, help="folder to work in, kept (default: a temporary folder)")
    return parser.parse_args(argv)


def random_vectors(number: int, terms: int, chance: np.random.Generator) -> list[Vector]:
    """Draw vectors; terms that are drawn twice count once."""
    share = np.arange(1, VOCABULARY + 1) ** -0.8
    bounds = np.cumsum(share / share.sum())
    vectors = []
    for _ in range(number):
        ids = np.unique(np.searchsorted(bounds, chance.random(terms)).clip(max=VOCABULARY - 1))
        impacts = np.maximum(1, chance.gamma(2, 30, len(ids))).astype(int)
        vectors.append({f"t{i}": impact for i, impact in zip(ids.tolist(), impacts.tolist(), strict=True)})
    return vectors


def write_collection(folder: Path, documents: int) -> None:
    """Write vectors as another program would."""
    chance = np.random.default_rng(7)
    folder.mkdir(parents=True)
    with (folder / "docs.jsonl").open("w", encoding="utf-8") as file:
        for number in range(documents):
            [vector] = random_vectors(1, TERMS, chance)
            file.write(record_line(f"doc{number}", "", vector))


def compare(index: Path, queries: Mapping[str, Vector], hits: int, folder: Path) -> float:
    """Search both ways; return the ratio of CPU times. Raises RuntimeError if runs differ."""
    prepare_java()
    register()
    from pyserini.output_writer import OutputFormat, get_output_writer
    from pyserini.search.lucene import LuceneImpactSearcher

    class Encoder:
        """Encoder that looks queries up."""

        def encode(self, query: str, **_: object) -> Vector:
            """Return a query's vector."""
            return queries[query]

    start = time.perf_counter()
    searcher = LuceneImpactSearcher(str(index), Encoder(), min_idf=-1)
    opened = time.perf_counter() - start
    bulk_searcher = BulkSearcher(searcher.object.reader)
    start = time.perf_counter()
    LuceneImpactSearcher._compute_idf.__wrapped__(str(index))
    walked = time.perf_counter() - start

    def stock(batch: Sequence[str]) -> Any:
        return LuceneImpactSearcher.batch_search.__wrapped__(searcher, list(batch), list(batch), hits, 1, {})

    def ours(batch: Sequence[str]) -> Any:
        return bulk_searcher.search([queries[query] for query in batch], batch, hits, 1)

    def run(search: Callable[[Sequence[str]], Any], file: Path) -> float:
        begin = time.process_time()
        with get_output_writer(str(file), OutputFormat.TREC, max_hits=hits, tag="Anserini") as writer:
            for batch in itertools.batched(queries, BATCH):
                found = search(batch)
                for qid in batch:
                    writer.write(qid, found[qid])
        return time.process_time() - begin

    seconds: dict[str, list[float]] = {"stock": [], "ours": []}
    for _ in range(ROUNDS):
        seconds["stock"].append(run(stock, folder / "stock.txt"))
        seconds["ours"].append(run(ours, folder / "ours.txt"))
        if (folder / "stock.txt").read_bytes() != (folder / "ours.txt").read_bytes():
            raise RuntimeError("the two runs differ")
    for name, taken in seconds.items():
        print(f"{name:<6} {1000 * min(taken) / len(queries):8.2f} CPU ms a query, k = {hits}")
    print(f"opening the index {opened:.2f} s; the walk through all terms, left out, {walked:.2f} s")
    return min(seconds["ours"]) / min(seconds["stock"])


def search_qdrant(folder: Path, documents: int, queries: Sequence[Vector], hits: int) -> None:
    """Fill Qdrant with the same vectors, and time the same queries."""
    chance = np.random.default_rng(7)
    target = QdrantEdge(Place(folder=folder))
    if target.identity() is None:
        target.create(Identity(encoder="random", card="", collection=""))
        for first in range(0, documents, QDRANT_BATCH):
            numbers = range(first, min(first + QDRANT_BATCH, documents))
            vectors = [random_vectors(1, TERMS, chance)[0] for _ in numbers]
            target.write(
                [
                    Document(f"doc{number}", *_columns(vector), "", number)
                    for number, vector in zip(numbers, vectors, strict=True)
                ]
            )
        target.finish()
    asked = [Query(ids, list(map(float, impacts))) for ids, impacts in map(_columns, queries)]
    seconds = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        for batch in itertools.batched(asked, BATCH):
            target.search(batch, hits)
        seconds.append(time.process_time() - begin)
    target.close()
    print(f"qdrant {1000 * min(seconds) / len(queries):8.2f} CPU ms a query, k = {hits}")


def _columns(vector: Vector) -> tuple[list[int], list[int]]:
    pairs = sorted((int(term[1:]), impact) for term, impact in vector.items())
    return [dimension for dimension, _ in pairs], [impact for _, impact in pairs]


if __name__ == "__main__":
    raise SystemExit(main())
