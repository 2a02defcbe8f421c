"""Many threads at once get the answers of one: pyjnius itself mixes queries (registration/java.py)."""

import os
from pathlib import Path

import pytest
from programs import SAMPLE, run_python

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


def test_the_server_and_batch_search_give_no_wrong_answer_under_load():
    """A short run of the script behind docs/speed.md, too short to say anything about memory."""
    pytest.importorskip("faiss", reason="Pyserini's servers need faiss-cpu")
    done = run_python(
        ROOT / "experiments" / "bench" / "load.py", "--queries", "640", "--seconds", "6", "--growth", "1000"
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count(" 0 wrong") == 2
