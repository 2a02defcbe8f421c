"""The adapter over SmolLM2-135M that ships, on the sample, which it was not trained on."""

import itertools
import os

import pytest
from programs import SAMPLE, run_python

from csplade_pyserini import load_encoder
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.topics import read_qrels, read_topics
from csplade_pyserini.impacts import dot

pytestmark = pytest.mark.smol
DOCUMENTS = 60
FOUND_FIRST = {"csplade-bi-smol": 6 / 12}
"""Share of topics with a relevant best document, of the sample's first; measured here on 2026-11-24."""


@pytest.mark.parametrize("name", FOUND_FIRST)
def test_a_shipped_adapter_finds_relevant_documents(name):
    documents = list(itertools.islice(open_corpus(str(SAMPLE / "corpus.jsonl")).documents(), DOCUMENTS))
    qrels, topics = read_qrels(str(SAMPLE / "qrels.txt")), read_topics(str(SAMPLE / "topics.tsv"))
    relevant = {qid: {d.docid for d in documents if qrels[qid].get(d.docid, 0) > 0} for qid in qrels}
    asked = {qid: topics[qid] for qid in relevant if relevant[qid]}
    encoder = load_encoder(name)
    vectors = dict(
        zip((d.docid for d in documents), encoder.encode_documents([d.text for d in documents]), strict=True)
    )
    queries = dict(zip(asked, encoder.encode_queries(list(asked.values())), strict=True))
    found = [
        max(vectors, key=lambda docid: dot(query, vectors[docid])) in relevant[qid]
        for qid, query in queries.items()
    ]
    assert len(found) >= 10
    assert sum(found) / len(found) == pytest.approx(FOUND_FIRST[name], abs=1.5 / len(found))


@pytest.mark.jvm
@pytest.mark.skipif(
    os.environ.get("CSPLADE_REPRODUCE_ALL") != "1",
    reason="takes minutes: make reproduce-all, or CSPLADE_REPRODUCE_ALL=1",
)
def test_it_reaches_its_model_cards_score(tmp_path):
    words = ("--collection", "sample", "--encoder", "csplade-bi-smol", "--output", tmp_path)
    done = run_python("-m", "csplade_pyserini.reproduce", *words)
    assert done.returncode == 0, done.stderr
    assert "csplade-bi-smol on sample: as expected (measured: " in done.stderr
    assert "0.7030" in done.stdout
