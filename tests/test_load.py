"""Many threads at once get the answers of one: pyjnius mixes them (registration/receivers.py)."""

import importlib.util
import json
import os
import socket
from pathlib import Path

import pytest
from programs import SAMPLE, run_python

from csplade_pyserini.lucene.stock import bm25_index_command

pytestmark = pytest.mark.jvm
ROOT = Path(__file__).parents[1]
ROUNDS = os.environ.get("CSPLADE_LOAD_ROUNDS", "8")
"""Number of times that every topic is asked; `make soak` asks for 40."""
THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pyserini.search.lucene import LuceneImpactSearcher
from csplade_pyserini.collections.topics import read_topics
searcher = LuceneImpactSearcher(sys.argv[1], "csplade-tiny")
rounds = range(int(sys.argv[3]))
queries = [f"{text} {number}" for number in rounds for text in read_topics(sys.argv[2]).values()]

def one(query):
    return [(hit.docid, hit.score) for hit in searcher.search(query)]

def many(batch):
    found = searcher.batch_search(batch, [str(number) for number in range(len(batch))], threads=2)
    return [[(hit.docid, hit.score) for hit in found[str(number)]] for number in range(len(batch))]

batches = [queries[start : start + 8] for start in range(0, len(queries), 8)]
alone, together = [one(query) for query in queries], [many(batch) for batch in batches]
with ThreadPoolExecutor(8) as pool:
    singles = [pool.submit(one, query) for query in queries]
    several = [pool.submit(many, batch) for batch in batches]
    assert [future.result() for future in singles] == alone
    assert [future.result() for future in several] == together
print(len(alone), "queries")
"""


def test_threads_that_share_a_searcher_get_what_one_thread_gets(sample_index):
    done = run_python("-c", THREADS, sample_index, SAMPLE / "topics.tsv", ROUNDS)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith(" queries\n")


@pytest.fixture(scope="module")
def answers(sample_index, sample_vectors, tmp_path_factory) -> dict:
    """Questions to every kind of searcher from eight threads, and how many answers were wrong."""
    folder = tmp_path_factory.mktemp("threads")
    (folder / "corpus").mkdir()
    (folder / "corpus" / "corpus.jsonl").symlink_to(SAMPLE / "corpus.jsonl")
    built = run_python(
        *bm25_index_command(folder / "corpus", folder / "texts", threads=1, store_raw=True)[1:]
    )
    assert built.returncode == 0, built.stderr
    [vectors] = sample_vectors.iterdir()
    program = Path(__file__).with_name("searchers_in_threads.py")
    done = run_python(program, sample_index, folder / "texts", vectors, folder, "2")
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_searchers_of_every_kind_answer_many_threads_as_one(answers):
    """BM25, impact, dense and fused, single and in batches, documents and readers; one process, one JVM."""
    assert answers["wrong"] == {}
    assert answers["asked"] >= 500  # more where dense searchers open, which wants a network since 2.4.0


def test_threads_encode_at_the_same_time_with_any_encoder(answers):
    """Four threads, a tenth of a second for each query: 40 a second; one after the other it would be 10."""
    assert answers["slow"] > 20


def test_a_server_that_does_not_answer_counts_as_wrong():
    spec = importlib.util.spec_from_file_location("load", ROOT / "experiments" / "bench" / "load.py")
    load = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(load)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))  # and never accepts
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/?query="
        found = load.answer(address, "a query", {})
    assert found is None
    assert not load.Truth({}, {}).is_right("a query", found)


def test_the_server_and_batch_search_give_no_wrong_answer_under_load():
    """A short run of the script behind docs/speed.md, too short to say anything about memory."""
    pytest.importorskip("faiss", reason="Pyserini's servers need faiss-cpu")
    done = run_python(
        ROOT / "experiments" / "bench" / "load.py", "--queries", "640", "--seconds", "6", "--growth", "1000"
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count(" 0 wrong") == 2
