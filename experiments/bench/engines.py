"""Measure milliseconds a query and bytes a document of Lucene and the embedded engines.

    python experiments/bench/engines.py [--vectors DIR --queries FILE.jsonl] [--folder work]

Without --vectors, csplade-tiny encodes the built-in sample. Queries go one by one, for 10 hits and for 1000.
The fastest of three rounds counts. Every engine has a process of its own. The scores have to be Lucene's.
"""

import argparse
import importlib.util
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from csplade_pyserini import encode, encode_queries, export, index
from csplade_pyserini.collections.manifests import read_collection_manifest
from csplade_pyserini.collections.query_files import vectors_of_file
from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.command_line import run
from csplade_pyserini.engines.catalogue import FOLDERS
from csplade_pyserini.engines.searching import Run, query_vectors, read_identity, search
from csplade_pyserini.engines.target import Place
from csplade_pyserini.files.pages import markdown_table
from csplade_pyserini.impacts import Vector
from csplade_pyserini.lucene.bulk import ImpactSearcher
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.lucene.stock import size_in_bytes
from csplade_pyserini.reproduction.catalogue import SAMPLE

LUCENE = "lucene"
PACKAGES = {"qdrant": "qdrant_edge", "milvus": "milvus_lite"}
"""Embedded engines, with the Python package of each."""
DEPTHS = (10, 1000)
ROUNDS = 3


class Cost(NamedTuple):
    """Times and hits of one engine."""

    milliseconds: dict[int, float]
    """Milliseconds a query, by number of hits."""
    run: Run


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        vectors, queries = args.vectors, args.queries
        if vectors is None:
            vectors, queries = encode_sample(folder)
        documents = read_collection_manifest(vectors).documents
        rows = []
        costs: dict[str, Cost] = {}
        installed = [name for name, package in PACKAGES.items() if importlib.util.find_spec(package)]
        for engine in [LUCENE, *installed]:
            place = folder / engine
            in_a_process(load, engine, vectors, place)
            cost = costs[engine] = in_a_process(measure, engine, place, queries, args.topics)
            times = [f"{cost.milliseconds[depth]:.2f}" for depth in DEPTHS]
            size = f"{size_in_bytes(place) / documents:,.0f}"
            rows.append([engine, *times, size, same(costs, engine)])
        heads = [f"ms a query, k = {depth}" for depth in DEPTHS]
        print(f"{vectors}: {documents} documents, {len(read_topics(args.topics))} queries, one by one\n")
        print(markdown_table(["engine", *heads, "bytes a document", "Lucene's scores"], rows))
    return int(any(row[-1] != "yes" for row in rows))


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--vectors", type=Path, metavar="DIR", help="vectors that encode wrote")
    parser.add_argument(
        "--queries", type=Path, metavar="FILE.jsonl", help="their queries, from encode_queries"
    )
    parser.add_argument("--topics", default=str(SAMPLE / "topics.tsv"), metavar="FILE.tsv")
    parser.add_argument("--folder", type=Path, help="folder to work in, kept (default: a temporary folder)")
    args = parser.parse_args(argv)
    if (args.vectors is None) != (args.queries is None):
        parser.error("--vectors and --queries go together")
    return args


def encode_sample(folder: Path) -> tuple[Path, Path]:
    """Encode the sample and its topics; return the vectors and the query file."""
    vectors, queries = folder / "vectors", folder / "queries.jsonl"
    encoder = ["--encoder", "csplade-tiny"]
    encode.main([*encoder, "--corpus", str(SAMPLE / "corpus.jsonl"), "--output", str(vectors)])
    encode_queries.main([*encoder, "--topics", str(SAMPLE / "topics.tsv"), "--output", str(queries)])
    return vectors, queries


def in_a_process[T](function: Callable[..., T], *args: object) -> T:
    """Call a function in a process of its own: Milvus keeps its folder locked until the process ends."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def load(engine: str, vectors: Path, place: Path) -> None:
    """Fill an engine's folder, unless it is whole."""
    if engine == LUCENE:
        index.main(["--input", str(vectors), "--index", str(place)])
    else:
        export.main(["--input", str(vectors), "--to", engine, "--output", str(place)])


def measure(engine: str, place: Path, queries: Path, topics: str) -> Cost:
    """Search by one engine, in a process of its own."""
    asked = vectors_of_file(queries, read_topics(topics))
    if engine == LUCENE:
        prepare_java()
        with ImpactSearcher(place) as searcher:
            milliseconds, last = timed(lambda one, hits: searcher.run(one, hits, 1), asked)
    else:
        target = FOLDERS[engine](Place(folder=place))
        identity = read_identity(target)
        asked, dimensions = query_vectors(str(queries), read_topics(topics), identity, place)

        def ask(one: Mapping[str, Vector], hits: int) -> Run:
            return search(target, one, dimensions, hits=hits, batch_size=1, scale=identity.scale)

        milliseconds, last = timed(ask, asked)
        target.close()
    return Cost(milliseconds, last)


def timed(
    ask: Callable[[Mapping[str, Vector], int], Run], asked: Mapping[str, Vector]
) -> tuple[dict[int, float], Run]:
    """Milliseconds a query by number of hits, and the run of the most hits."""
    milliseconds: dict[int, float] = {}
    last: Run = {}
    for hits in DEPTHS:
        rounds = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            last = {qid: ask({qid: vector}, hits)[qid] for qid, vector in asked.items()}
            rounds.append(1000 * (time.perf_counter() - start) / len(asked))
        milliseconds[hits] = min(rounds)
    return milliseconds, last


def same(costs: Mapping[str, Cost], engine: str) -> str:
    """Whether an engine's scores are Lucene's, rank by rank. Anserini takes millionths off those that tie."""
    wanted, found = (
        {qid: [round(score) for _, score in hits] for qid, hits in costs[name].run.items()}
        for name in (LUCENE, engine)
    )
    return "yes" if found == wanted else "no"


if __name__ == "__main__":
    run(main)
