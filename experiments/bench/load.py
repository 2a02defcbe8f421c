"""Check many queries at once: batch_search with several threads, and Pyserini's REST server under load.

    python experiments/bench/load.py [--queries 10000] [--threads 4] [--clients 8] [--seconds 120] \\
        [--growth 250] [--shared]

Every answer's docids and scores are compared with inner products of the impacts, computed here without
Lucene. The texts that the server gives are compared with the corpus. The process's own resident memory is
read after a tenth of the work and at the end. The exit code is 1 after a wrong answer, or if memory grew by
more megabytes than --growth. A server that dies or does not answer counts as wrong. --shared leaves the
server pyjnius's own methods, which threads share, and shows why they are replaced.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from csplade_pyserini.command_line import positive
from csplade_pyserini.files.lines import read_lines
from csplade_pyserini.lucene.stock import bm25_index_command
from csplade_pyserini.model import SparseEncoder, Vector, load_encoder
from csplade_pyserini.reproduction.catalogue import SAMPLE

try:
    import psutil
except ImportError as error:
    raise SystemExit("psutil is not installed: pip install 'csplade_pyserini[experiments]'") from error

HITS = 10
BATCH = 64
GROWTH_MB = 250
"""A JVM's heap and caches settle within this, if a tenth of the work fills most of them."""
START_SECONDS = 120
"""Longest time that the server may take to start."""
Hits = list[tuple[str, float]]
SHARING_SERVER = """
import runpy
from csplade_pyserini.registration import patches
patches._AFTER_LOADING["pyserini.pyclass"].clear()
runpy.run_module("pyserini.server.rest", run_name="__main__", alter_sys=True)
"""


class Truth(NamedTuple):
    """The right answers, computed without Lucene."""

    rows: dict[str, int]
    """Row number of each docid."""
    scores: dict[str, NDArray[np.int64]]
    """Inner products of each query with all documents."""

    def is_right(self, query: str, hits: Hits | None) -> bool:
        """Return whether these are the best hits, in order, each once and with its own score."""
        if hits is None:
            return False
        docids = [docid for docid, _ in hits]
        if len(set(docids)) < len(docids) or not all(docid in self.rows for docid in docids):
            return False
        scores = self.scores[query]
        best = np.sort(scores[scores > 0])[::-1][:HITS].tolist()
        own = [scores[self.rows[docid]] for docid in docids]
        return bool(own == best == [score for _, score in hits])


class Outcome(NamedTuple):
    """The result of many queries."""

    what: str
    queries: int
    wrong: int
    seconds: float
    memory: int
    """Megabytes after a tenth of the work."""
    growth: int
    """Additional megabytes at the end."""


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    encoder = load_encoder(args.encoder)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vectors = build(args.encoder, folder)
        queries = list(random_queries(args.queries))
        # Float sums depend on a batch's shape, and so do impacts halfway between two integers. So each side's
        # truth is encoded in that side's batches.
        batch = inner_products(lambda texts: together(encoder, texts), vectors, queries)
        good = report(search_in_batches(folder / "index", encoder, batch, args.threads), args.growth)
        single = inner_products(lambda texts: one_by_one(encoder, texts), vectors, queries)
        good &= report(ask_server(folder, args, single), args.growth)
    return int(not good)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--encoder", default="csplade-tiny")
    parser.add_argument(
        "--queries", type=positive, default=10_000, help="queries for batch_search (default 10000)"
    )
    parser.add_argument("--threads", type=positive, default=4, help="threads of batch_search (default 4)")
    parser.add_argument("--clients", type=positive, default=8, help="concurrent clients (default 8)")
    parser.add_argument(
        "--seconds", type=positive, default=120, help="seconds that the clients ask for (default 120)"
    )
    parser.add_argument(
        "--growth", type=positive, default=GROWTH_MB, metavar="MB",
        help=f"most megabytes that memory may grow by (default {GROWTH_MB})",
    )  # fmt: skip
    parser.add_argument(
        "--shared",
        action="store_true",
        help="let the server's threads share Java methods as pyjnius has them",
    )
    return parser.parse_args(argv)


def together(encoder: SparseEncoder, texts: list[str]) -> list[Vector]:
    return encoder.encode_queries(texts, batch_tokens=sys.maxsize)


def one_by_one(encoder: SparseEncoder, texts: list[str]) -> list[Vector]:
    return [encoder.encode(text) for text in texts]


def sample() -> Iterator[dict[str, str]]:
    """Yield the sample's documents."""
    yield from map(json.loads, read_lines(SAMPLE / "corpus.jsonl"))


def build(encoder: str, folder: Path) -> dict[str, Vector]:
    """Build the sample's impact index and the index of its texts, and return the vectors by docid."""
    (folder / "corpus").mkdir()
    corpus = Path(shutil.copy(SAMPLE / "corpus.jsonl", folder / "corpus"))
    vectors = folder / "vectors"
    call("csplade_pyserini.encode", "--encoder", encoder, "--corpus", corpus, "--output", vectors)
    call("csplade_pyserini.index", "--input", vectors, "--index", folder / "index")
    quiet(bm25_index_command(corpus.parent, folder / "texts", threads=1, store_raw=True))
    found = {}
    for file in vectors.iterdir():
        for record in map(json.loads, read_lines(file)):
            found[record["id"]] = record["vector"]
    return found


def call(module: str, *words: object) -> None:
    quiet([sys.executable, "-m", module, *map(str, words)])


def quiet(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def random_queries(number: int) -> Iterator[str]:
    """Yield different queries of two to six words from the sample's texts."""
    chance = random.Random(0)
    words = [word for record in sample() for word in record["contents"].split()]
    for query in range(number):
        yield f"{' '.join(chance.choices(words, k=chance.randint(2, 6)))} {query}"


def inner_products(
    encode: Callable[[list[str]], list[Vector]], vectors: dict[str, Vector], queries: list[str]
) -> Truth:
    """Return the inner products of each query with each document."""
    columns = {term: column for column, term in enumerate(sorted(set().union(*vectors.values())))}
    documents = np.zeros((len(vectors), len(columns)), dtype=np.int64)
    for row, vector in enumerate(vectors.values()):
        documents[row, [columns[term] for term in vector]] = list(vector.values())
    scores = {}
    for start in tqdm(range(0, len(queries), BATCH), desc="inner products", unit="batch"):
        batch = queries[start : start + BATCH]
        for query, vector in zip(batch, encode(batch), strict=True):
            known = {columns[term]: impact for term, impact in vector.items() if term in columns}
            scores[query] = documents[:, list(known)] @ np.array(list(known.values()), dtype=np.int64)
    return Truth({docid: row for row, docid in enumerate(vectors)}, scores)


class Memory:
    """A process's resident memory after a tenth of its work and later."""

    def __init__(self, process: int | None = None) -> None:
        self._process = psutil.Process(process)
        self.first = 0

    def look(self, part: float) -> None:
        """Remember the megabytes, once a tenth is done."""
        if part >= 0.1 and not self.first:
            self.first = self.megabytes()

    def megabytes(self) -> int:
        return int(self._process.memory_info().rss / 2**20)

    def growth(self) -> int:
        """Return the additional megabytes since a tenth was done."""
        return self.megabytes() - self.first


def search_in_batches(index: Path, encoder: SparseEncoder, truth: Truth, threads: int) -> Outcome:
    """Search for all queries by batch_search."""
    from pyserini.search.lucene import LuceneImpactSearcher

    searcher = LuceneImpactSearcher(str(index), encoder)
    queries = list(truth.scores)
    memory = Memory()
    wrong = 0
    start = time.perf_counter()
    for first in tqdm(range(0, len(queries), BATCH), desc="batch_search", unit="batch"):
        batch = queries[first : first + BATCH]
        found = searcher.batch_search(batch, batch, k=HITS, threads=threads)
        for query in batch:
            hits = [(hit.docid, hit.score) for hit in found[query]]
            wrong += not truth.is_right(query, hits)
        memory.look((first + len(batch)) / len(queries))
    seconds = time.perf_counter() - start
    what = f"batch_search, {threads} threads"
    return Outcome(what, len(queries), wrong, seconds, memory.first, memory.growth())


class Client(threading.Thread):
    """A client that asks the server one query after the other."""

    def __init__(self, number: int, address: str, truth: Truth, texts: dict[str, str], end: float) -> None:
        super().__init__(daemon=True)
        self.chance = random.Random(number)
        self.address = address
        self.truth = truth
        self.texts = texts
        self.end = end
        self.asked = 0
        self.wrong = 0

    def run(self) -> None:
        queries = list(self.truth.scores)
        while time.perf_counter() < self.end:
            query = self.chance.choice(queries)
            self.wrong += not self.truth.is_right(query, answer(self.address, query, self.texts))
            self.asked += 1


def ask_server(folder: Path, args: argparse.Namespace, truth: Truth) -> Outcome:
    """Ask the REST server by several clients at once."""
    texts = {record["id"]: record["contents"] for record in sample()}
    with rest_server(folder, args.encoder, shared=args.shared) as (server, port):
        address = f"http://127.0.0.1:{port}/v1/impacts/search?hits={HITS}&query="
        answer(address, "the first one opens the index", texts)
        memory = Memory(server.pid)
        start = time.perf_counter()
        end = start + args.seconds
        clients = [Client(number, address, truth, texts, end) for number in range(args.clients)]
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            if server.poll() is not None:
                asked = sum(client.asked for client in clients)
                raise RuntimeError(
                    f"the server ended with exit code {server.returncode} after {asked} queries"
                )
            memory.look((time.perf_counter() - start) / args.seconds)
            time.sleep(0.1)
        seconds = time.perf_counter() - start
        growth = memory.growth()
    what = f"REST, {args.clients} clients"
    if args.shared:
        what += ", shared methods"
    asked = sum(client.asked for client in clients)
    wrong = sum(client.wrong for client in clients)
    return Outcome(what, asked, wrong, seconds, memory.first, growth)


@contextmanager
def rest_server(
    folder: Path, encoder: str, *, shared: bool
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Run Pyserini's REST server, and yield its process and port."""
    config = folder / "server.yaml"
    impacts = f"path: {folder / 'index'}, index_type: impact, encoder: {encoder}, base_index: texts"
    config.write_text(f"indexes:\n  impacts: {{{impacts}}}\n  texts: {folder / 'texts'}\n")
    port = free_port()
    program = ["-m", "pyserini.server.rest"]
    if shared:
        program = ["-c", SHARING_SERVER]
    words = ["--host", "127.0.0.1", "--port", str(port), "--config", str(config), "--no-prebuilt-indexes"]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen([sys.executable, *program, *words], stdout=log, stderr=log)
    try:
        wait_for_port(port, server)
        yield server, port
    finally:
        server.terminate()
        server.wait(timeout=60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def answer(address: str, query: str, texts: dict[str, str]) -> Hits | None:
    """Return the server's hits.

    Returns None after an error, after a minute without an answer, or for a document with another's text.
    """
    try:
        with urllib.request.urlopen(address + urllib.parse.quote(query), timeout=60) as page:
            candidates: list[dict[str, Any]] = json.load(page)["candidates"]
        hits = [(found["docid"], found["score"]) for found in candidates]
        foreign = [found["docid"] for found in candidates if found["doc"] != texts[found["docid"]]]
    except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
        print(f"no answer: {error}", file=sys.stderr)
        return None
    if foreign:
        print(f"not the texts of {', '.join(foreign)}", file=sys.stderr)
        return None
    return hits


def wait_for_port(port: int, server: "subprocess.Popen[bytes]") -> None:
    """Wait until the server listens. Raises RuntimeError if it does not start."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError("the server did not start")


def report(outcome: Outcome, limit: int) -> bool:
    """Print an outcome. Returns whether there were queries, no wrong answer and little growth."""
    print(
        f"{outcome.what}: {outcome.queries} queries, {outcome.queries / outcome.seconds:.0f} a second, "
        f"{outcome.wrong} wrong; {outcome.memory} MB after a tenth, {outcome.growth:+d} MB at the end "
        f"(at most {limit:+d} wanted)",
        flush=True,
    )
    return bool(outcome.queries) and not outcome.wrong and outcome.growth <= limit


if __name__ == "__main__":
    raise SystemExit(main())
