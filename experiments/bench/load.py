"""Many queries at once: batch_search with several threads, and Pyserini's REST server under concurrent clients.

    python run_scripts/bench/load.py [--queries 10000] [--threads 4] [--clients 8] [--seconds 120] [--growth 250] [--unlocked]

Every answer's scores and docids are compared with the inner products of the impacts, worked out here without Lucene, and the texts that the
server gives with the corpus; memory (the process's own resident memory) is taken after a tenth of the work and at the end. Ends with exit
code 1 on a wrong answer, or where memory grew by more megabytes than --growth says. --unlocked takes the lock on Java out of the server,
and shows what it is for.
"""

import argparse
import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from tqdm import tqdm

from csplade_pyserini.collections.corpus import read_lines
from csplade_pyserini.command_line import positive
from csplade_pyserini.lucene.stock import bm25_index_command
from csplade_pyserini.model import SparseEncoder, Vector, load_encoder
from csplade_pyserini.reproduction.collections import SAMPLE

HITS = 10
BATCH = 64
GROWTH_MB = 250
"""A JVM's heap and caches settle within that, if a tenth of the work is enough to fill most of them."""
START_SECONDS = 120
Hits = list[tuple[str, float]]
UNLOCKED_SERVER = """
import contextlib, runpy
from csplade_pyserini import registration
registration._java = contextlib.nullcontext()
runpy.run_module("pyserini.server.rest", run_name="__main__", alter_sys=True)
"""


class Truth(NamedTuple):
    """What the answers should be, without Lucene."""

    rows: dict[str, int]
    """Of each docid, its number."""
    scores: dict[str, np.ndarray]
    """Of each query, the inner products with all documents."""

    def is_right(self, query: str, hits: Hits | None) -> bool:
        """Whether hits are the best of a query, in order, none twice, each with its own score."""
        if hits is None:
            return False
        scores = self.scores[query]
        best = np.sort(scores[scores > 0])[::-1][:HITS]
        own = [scores[self.rows[docid]] if docid in self.rows else -1 for docid, _ in hits]
        return own == best.tolist() == [score for _, score in hits] and len(
            {docid for docid, _ in hits}
        ) == len(hits)


class Outcome(NamedTuple):
    """What came of many queries."""

    what: str
    queries: int
    wrong: int
    seconds: float
    memory: tuple[int, int]
    """Megabytes after a tenth of them, and how many more at the end."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="csplade-tiny")
    parser.add_argument(
        "--queries", type=positive, default=10_000, help="queries for batch_search (default 10000)"
    )
    parser.add_argument("--threads", type=positive, default=4, help="threads of batch_search (default 4)")
    parser.add_argument(
        "--clients", type=positive, default=8, help="clients of the server at a time (default 8)"
    )
    parser.add_argument("--seconds", type=positive, default=120, help="how long they ask (default 120)")
    parser.add_argument(
        "--growth",
        type=positive,
        default=GROWTH_MB,
        metavar="MB",
        help=f"memory may grow by so much (default {GROWTH_MB})",
    )
    parser.add_argument(
        "--unlocked", action="store_true", help="let the server call Java from several threads at once"
    )
    args = parser.parse_args()
    encoder = load_encoder(args.encoder)
    with tempfile.TemporaryDirectory() as folder:
        vectors = build(args.encoder, Path(folder))
        queries = list(random_queries(args.queries))
        # Sums of floats depend on the shape of a batch, and impacts at the edge of two integers with them: each side as it encodes.
        together = inner_products(
            lambda batch: encoder.encode_queries(batch, batch_tokens=sys.maxsize), vectors, queries
        )
        good = report(
            args.growth, *search_in_batches(Path(folder) / "index", encoder, together, args.threads)
        )
        one_by_one = inner_products(
            lambda batch: [encoder.encode(query) for query in batch], vectors, queries
        )
        good &= report(
            args.growth,
            *ask_server(Path(folder), args.encoder, one_by_one, args.clients, args.seconds, args.unlocked),
        )
    return 0 if good else 1


def sample() -> Iterator[dict[str, str]]:
    """The sample's documents."""
    return map(json.loads, read_lines(SAMPLE / "corpus.jsonl"))


def build(encoder: str, folder: Path) -> dict[str, Vector]:
    """The sample's impact index and the index of its texts, in folders `index` and `texts`. Its vectors, by docid."""
    (folder / "corpus").mkdir()
    corpus = Path(shutil.copy(SAMPLE / "corpus.jsonl", folder / "corpus"))
    encode = ["encode", "--encoder", encoder, "--corpus", corpus, "--output", folder / "vectors"]
    index = ["index", "--input", folder / "vectors", "--index", folder / "index"]
    commands = [
        [sys.executable, "-m", f"csplade_pyserini.{verb}", *map(str, words)]
        for verb, *words in (encode, index)
    ]
    for command in (
        *commands,
        bm25_index_command(corpus.parent, folder / "texts", threads=1, store_raw=True),
    ):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    records = (json.loads(line) for file in (folder / "vectors").iterdir() for line in read_lines(file))
    return {record["id"]: record["vector"] for record in records}


def random_queries(number: int) -> Iterator[str]:
    """Different queries of two to six words of the sample's texts."""
    chance = random.Random(0)
    words = [word for record in sample() for word in record["contents"].split()]
    for query in range(number):
        yield f"{' '.join(chance.choices(words, k=chance.randint(2, 6)))} {query}"


def inner_products(
    encode: Callable[[list[str]], list[Vector]], vectors: dict[str, Vector], queries: list[str]
) -> Truth:
    """Of each query with each document."""
    columns = {term: column for column, term in enumerate(sorted(set().union(*vectors.values())))}
    documents = np.zeros((len(vectors), len(columns)), dtype=np.int64)
    for row, vector in enumerate(vectors.values()):
        documents[row, [columns[term] for term in vector]] = list(vector.values())
    scores = {}
    for start in tqdm(range(0, len(queries), BATCH), desc="inner products", unit="batch"):
        batch = queries[start : start + BATCH]
        for query, vector in zip(batch, encode(batch), strict=True):
            known = {term: impact for term, impact in vector.items() if term in columns}
            scores[query] = documents[:, [columns[term] for term in known]] @ np.array(
                list(known.values()), dtype=np.int64
            )
    return Truth({docid: row for row, docid in enumerate(vectors)}, scores)


class Memory:
    """A process's resident memory after a tenth of its work, and how much it has grown by since."""

    def __init__(self, process: int | None = None) -> None:
        self._process, self._first = psutil.Process(process), 0

    def look(self, part: float) -> None:
        if part >= 0.1 and not self._first:
            self._first = self._megabytes()

    def grown(self) -> tuple[int, int]:
        """Megabytes after a tenth, and how many more there are now."""
        return self._first, self._megabytes() - self._first

    def _megabytes(self) -> int:
        return int(self._process.memory_info().rss / 2**20)


def search_in_batches(index: Path, encoder: SparseEncoder, wanted: Truth, threads: int) -> Outcome:
    """All queries through batch_search."""
    from pyserini.search.lucene import LuceneImpactSearcher

    searcher, queries, wrong, memory = (
        LuceneImpactSearcher(str(index), encoder),
        list(wanted.scores),
        0,
        Memory(),
    )
    start = time.perf_counter()
    for first in tqdm(range(0, len(queries), BATCH), desc="batch_search", unit="batch"):
        batch = queries[first : first + BATCH]
        found = searcher.batch_search(batch, batch, k=HITS, threads=threads)
        wrong += sum(
            not wanted.is_right(query, [(hit.docid, hit.score) for hit in found[query]]) for query in batch
        )
        memory.look((first + len(batch)) / len(queries))
    return Outcome(
        f"batch_search, {threads} threads", len(queries), wrong, time.perf_counter() - start, memory.grown()
    )


def ask_server(
    folder: Path, encoder: str, wanted: Truth, clients: int, seconds: int, unlocked: bool
) -> Outcome:
    """Clients that ask the REST server, each one query after the other."""
    config = folder / "server.yaml"
    config.write_text(
        f"indexes:\n  impacts: {{path: {folder / 'index'}, index_type: impact, encoder: {encoder}, base_index: texts}}\n"
        f"  texts: {folder / 'texts'}\n"
    )
    texts = {record["id"]: record["contents"] for record in sample()}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["--host", "127.0.0.1", "--port", str(port), "--config", str(config), "--no-prebuilt-indexes"]
    with (folder / "server.log").open("w") as log:
        program = ["-c", UNLOCKED_SERVER] if unlocked else ["-m", "pyserini.server.rest"]
        server = subprocess.Popen([sys.executable, *program, *words], stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}/v1/impacts/search?hits={HITS}&query="
        wait_for_port(port, server)
        answer(address, "the first one opens the index", texts)
        asked, wrong, memory = [0] * clients, [0] * clients, Memory(server.pid)
        start = time.perf_counter()

        def ask(client: int) -> None:
            chance, queries = random.Random(client), list(wanted.scores)
            while time.perf_counter() - start < seconds:
                query = chance.choice(queries)
                wrong[client] += not wanted.is_right(query, answer(address, query, texts))
                asked[client] += 1

        threads = [threading.Thread(target=ask, args=(client,), daemon=True) for client in range(clients)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            if server.poll() is not None:
                raise RuntimeError(
                    f"the server ended with exit code {server.returncode} after {sum(asked)} queries"
                )
            memory.look((time.perf_counter() - start) / seconds)
            time.sleep(0.1)
        return Outcome(
            f"REST, {clients} clients{', unlocked' if unlocked else ''}",
            sum(asked),
            sum(wrong),
            time.perf_counter() - start,
            memory.grown(),
        )
    finally:
        server.terminate()
        server.wait(timeout=60)


def answer(address: str, query: str, texts: dict[str, str]) -> Hits | None:
    """The hits that the server gives; None: an error, no answer in time, or a document with another's text."""
    try:
        with urllib.request.urlopen(address + urllib.parse.quote(query), timeout=60) as page:
            candidates = json.load(page)["candidates"]
        foreign = [found["docid"] for found in candidates if found["doc"] != texts[found["docid"]]]
        if foreign:
            print(f"not the texts of {', '.join(foreign)}", file=sys.stderr)
        return None if foreign else [(found["docid"], found["score"]) for found in candidates]
    except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
        print(f"no answer: {error}", file=sys.stderr)
        return None


def wait_for_port(port: int, server: "subprocess.Popen[bytes]") -> None:
    """Until the server listens. Raises RuntimeError where it does not start."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError("the server did not start")


def report(growth: int, what: str, queries: int, wrong: int, seconds: float, memory: tuple[int, int]) -> bool:
    """Print an outcome; whether all is well, and anything was asked."""
    first, grown = memory
    print(
        f"{what}: {queries} queries, {queries / seconds:.0f} a second, {wrong} wrong; "
        f"{first} MB after a tenth, {grown:+d} MB at the end (at most {growth:+d} wanted)",
        flush=True,
    )
    return bool(queries) and not wrong and grown <= growth


if __name__ == "__main__":
    raise SystemExit(main())
