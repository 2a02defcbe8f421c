"""The unmodified Pyserini commands with an encoder of ours, each once in a new interpreter, as users run it.

One collection and one index are made once and looked at often. Further runs are forks (see programs.py).
"""

import json
import pickle
from pathlib import Path

import pytest
from programs import SAMPLE, new_python, run_python

from csplade_pyserini import load_encoder
from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.impacts import dot

pytestmark = pytest.mark.jvm
ENCODER = "csplade-tiny"
TOPICS = SAMPLE / "topics.tsv"


def succeed(*words, python=run_python, **environment):
    result = python(*words, **environment)
    assert result.returncode == 0, result.stderr
    return result


def read_collection(folder: Path) -> dict[str, dict[str, int]]:
    lines = [
        line for file in sorted(folder.iterdir()) for line in file.read_text(encoding="utf-8").splitlines()
    ]
    return {record["id"]: record["vector"] for record in map(json.loads, lines)}


def read_run(path: Path) -> dict[str, dict[str, float]]:
    run: dict[str, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        qid, _, docid, _, score, _ = line.split()
        run.setdefault(qid, {})[docid] = float(score)
    return run


def search(index, output, *words, encoder=ENCODER, topics=TOPICS, python=run_python):
    command = (
        "-m",
        "pyserini.search.lucene",
        "--index",
        index,
        "--topics",
        topics,
        "--output",
        output,
        "--encoder",
        encoder,
    )
    return succeed(*command, *words, python=python)


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(ENCODER)


@pytest.fixture(scope="module")
def documents() -> dict[str, str]:
    records = map(json.loads, (SAMPLE / "corpus.jsonl").read_text(encoding="utf-8").splitlines())
    return {record["id"]: record["contents"] for record in records}


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    """Collection that the stock `pyserini.encode` makes of the sample."""
    folder = tmp_path_factory.mktemp("stock") / "vectors"
    succeed(
        "-m", "pyserini.encode", "input", "--corpus", SAMPLE / "corpus.jsonl", "--fields", "text",
        "output", "--embeddings", folder, "encoder", "--encoder", ENCODER, "--fields", "text",
        "--batch-size", "32",
        python=new_python,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def index(collection) -> Path:
    """Index that the stock `pyserini.index.lucene` makes of it."""
    folder = collection.with_name("index")
    succeed(
        "-m", "pyserini.index.lucene", "--collection", "JsonVectorCollection", "--input", collection,
        "--index", folder,
        "--generator", "DefaultLuceneDocumentGenerator", "--threads", "2", "--impact", "--pretokenized",
        python=new_python,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def run(index) -> dict[str, dict[str, float]]:
    """The run of the stock search, one query at a time, without --impact."""
    output = index.with_name("run.txt")
    result = search(index, output, "--hits", "300", python=new_python)
    assert "--encoder csplade-tiny implies --impact" in result.stderr
    return read_run(output)


def differences(one: dict[str, int], other: dict[str, int]) -> set[int]:
    return {abs(one.get(term, 0) - other.get(term, 0)) for term in one.keys() | other.keys()}


def test_a_document_has_one_vector_from_every_side(collection, encoder, documents, sample_vectors):
    """From `pyserini.encode`, `encode` and Python; at most one unit apart, at rounding boundaries."""
    stock, ours = read_collection(collection), read_collection(sample_vectors)
    python = dict(zip(documents, encoder.encode_documents(list(documents.values())), strict=True))
    assert stock.keys() == ours.keys() == python.keys()
    for docid in python:
        assert differences(ours[docid], python[docid]) <= {0, 1}
        assert differences(stock[docid], python[docid]) <= {0, 1}
    changed = sum(d > 0 for docid in python for d in differences(stock[docid], python[docid]))
    assert changed <= len(python) / 50


def test_lucenes_score_is_the_dot_product_of_the_integers(run, collection, encoder):
    """For every hit of every topic, through the stock indexer."""
    topics, vectors = read_topics(str(TOPICS)), read_collection(collection)
    assert len(run) == len(topics) == 50
    for (qid, text), query in zip(topics.items(), encoder.encode_queries(list(topics.values())), strict=True):
        assert len(run[qid]) > 10, text
        for docid, score in run[qid].items():
            # Queries were encoded alone there and together here: at most a unit at a few rounding boundaries.
            assert score == pytest.approx(dot(query, vectors[docid]), abs=0.002 * score + 1)


def test_lucenes_score_is_exact_for_random_queries_and_no_document_is_forgotten(index, collection, tmp_path):
    """50 queries of random terms and impacts, as a query file: to the last unit, and every match is a hit."""
    import random

    rng, vectors = random.Random(0), read_collection(collection)
    terms = sorted({term for vector in vectors.values() for term in vector})
    queries = {
        f"q{i}": {term: rng.randint(1, 300) for term in rng.sample(terms, rng.randint(1, 60))}
        for i in range(50)
    }
    lines = [json.dumps({"contents": f"text of {qid}", "vector": vector}) for qid, vector in queries.items()]
    (tmp_path / "queries.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "topics.tsv").write_text("".join(f"{qid}\ttext of {qid}\n" for qid in queries))
    search(
        index,
        tmp_path / "run.txt",
        "--impact",
        "--min-idf",
        "-1",
        encoder=tmp_path / "queries.jsonl",
        topics=tmp_path / "topics.tsv",
    )
    found = read_run(tmp_path / "run.txt")
    for qid, query in queries.items():
        expected = {docid: score for docid, vector in vectors.items() if (score := dot(query, vector))}
        assert found.get(qid, {}) == pytest.approx(
            expected, abs=0.01
        )  # Anserini moves ties apart by 1e-6 steps


@pytest.mark.parametrize("words", [("--batch-size", "32", "--threads", "2"), ("--impact",)])
def test_batched_search_gives_the_run_of_one_by_one_search(run, index, tmp_path, words):
    search(index, tmp_path / "run.txt", "--hits", "300", *words)
    batched = read_run(tmp_path / "run.txt")
    assert batched.keys() == run.keys()
    for qid in run:
        assert batched[qid].keys() == run[qid].keys()
        assert batched[qid] == pytest.approx(run[qid], rel=0.002, abs=1)


def test_a_query_file_gives_the_run_of_its_encoder(run, index, tmp_path):
    succeed(
        "-m",
        "csplade_pyserini.encode_queries",
        "--encoder",
        ENCODER,
        "--topics",
        TOPICS,
        "--output",
        tmp_path / "q.jsonl",
        python=new_python,
    )
    result = search(index, tmp_path / "run.txt", "--hits", "300", encoder=tmp_path / "q.jsonl")
    assert "implies --impact" in result.stderr
    found = read_run(tmp_path / "run.txt")
    for qid in run:
        assert found[qid] == pytest.approx({docid: run[qid][docid] for docid in found[qid]}, rel=0.002, abs=1)


def test_encode_query_writes_each_term_as_often_as_its_impact(encoder, tmp_path):
    (tmp_path / "topics.tsv").write_text("7\theart attack symptoms\n")
    succeed(
        "-m",
        "pyserini.encode.query",
        "--topics",
        tmp_path / "topics.tsv",
        "--encoder",
        ENCODER,
        "--output",
        tmp_path / "out.tsv",
        python=new_python,
    )
    qid, _, words = (tmp_path / "out.tsv").read_text(encoding="utf-8").rstrip("\n").partition("\t")
    [vector] = encoder.encode_queries(["heart attack symptoms"])
    assert qid == "7"
    assert {term: words.split(" ").count(term) for term in words.split(" ")} == vector


def test_pyserinis_trec_eval_runs_on_our_java(run, index):
    result = succeed(
        "-m",
        "pyserini.eval.trec_eval",
        "-c",
        "-m",
        "ndcg_cut.10",
        SAMPLE / "qrels.txt",
        index.with_name("run.txt"),
        python=new_python,
    )
    metric, _, score = result.stdout.split()
    assert metric == "ndcg_cut_10"
    assert float(score) > 0.4  # csplade-tiny is trained; a random ranking scores 0.03


def test_the_index_knows_its_encoder(index, checkpoint_folder, tmp_path):
    """Stock commands leave manifests too; another encoder's queries are refused, or meant."""
    command = (
        "-m", "pyserini.search.lucene", "--index", index, "--topics", TOPICS,
        "--output", tmp_path / "run.txt", "--encoder", checkpoint_folder,
    )  # fmt: skip
    refused = run_python(*command)
    assert refused.returncode == 2
    [sentence] = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert "was encoded by csplade-tiny@" in sentence
    assert "the queries by in-memory-llama@" in sentence
    assert not (tmp_path / "run.txt").exists()
    succeed(*command, CSPLADE_ALLOW_MISMATCH="1")
    assert (tmp_path / "run.txt").exists()

    stock = run_python(*command[:-1], "naver/splade-v3", "--impact")
    assert stock.returncode == 2
    assert "the queries by naver/splade-v3" in stock.stderr


PYTHON_API = """
import json, sys
from pyserini.search.lucene import LuceneImpactSearcher
from csplade_pyserini import load_encoder
by_name = LuceneImpactSearcher(sys.argv[1], "csplade-tiny")
by_object = LuceneImpactSearcher(sys.argv[1], load_encoder("csplade-tiny"))
for searcher in (by_name, by_object):
    print(json.dumps({hit.docid: hit.score for hit in searcher.search("heart attack symptoms", k=10)}))
    found = searcher.batch_search(["heart attack symptoms", ""], ["a", "b"], k=10)
    print(json.dumps({hit.docid: hit.score for hit in found["a"]}))
"""


def test_the_python_api_takes_a_name_or_an_encoder(run, index):
    hits = [
        json.loads(line)
        for line in succeed("-c", PYTHON_API, index).stdout.splitlines()
        if line.startswith("{")
    ]
    assert len(hits) == 4
    for found in hits:
        assert len(found) == 10
        assert found == pytest.approx({docid: run["1"][docid] for docid in found}, rel=0.002, abs=1)


ONE_PASS = """
import sys
from pyserini.search.lucene import LuceneImpactSearcher
from csplade_pyserini import load_encoder
encoder = load_encoder("csplade-tiny")
passes = []
count = lambda module, args, kwargs, output: passes.append(len(kwargs["input_ids"]))
encoder.model.base_model.register_forward_hook(count, with_kwargs=True)
searcher = LuceneImpactSearcher(sys.argv[1], encoder)
queries = [f"query {i} " + "heart attack " * i for i in range(32)]
searcher.batch_search(queries, [str(i) for i in range(32)], k=5, threads=2)
print(passes)
"""


def test_a_batch_of_queries_is_one_forward_pass(index):
    assert succeed("-c", ONE_PASS, index).stdout.splitlines()[-1] == "[32]"


def test_numeric_qids_behave_with_remove_query(tmp_path):
    """As in ArguAna: the query is a document of the corpus, and must not be its own hit."""
    corpus = [
        json.loads(line) for line in (SAMPLE / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    ][:20]
    (tmp_path / "corpus.jsonl").write_text(
        "".join(json.dumps({"id": i, "contents": d["contents"]}) + "\n" for i, d in enumerate(corpus))
    )
    (tmp_path / "topics.tsv").write_text("".join(f"{i}\t{d['contents']}\n" for i, d in enumerate(corpus[:5])))
    succeed(
        "-m",
        "csplade_pyserini.encode",
        "--encoder",
        ENCODER,
        "--corpus",
        tmp_path / "corpus.jsonl",
        "--output",
        tmp_path / "vectors",
    )
    succeed("-m", "csplade_pyserini.index", "--input", tmp_path / "vectors", "--index", tmp_path / "index")
    for words in ((), ("--batch-size", "2", "--threads", "2")):
        search(tmp_path / "index", tmp_path / "kept.txt", *words, topics=tmp_path / "topics.tsv")
        search(
            tmp_path / "index",
            tmp_path / "removed.txt",
            "--remove-query",
            *words,
            topics=tmp_path / "topics.tsv",
        )
        kept, removed = read_run(tmp_path / "kept.txt"), read_run(tmp_path / "removed.txt")
        assert all(max(hits, key=hits.get) == qid for qid, hits in kept.items())
        assert removed == {qid: {d: s for d, s in hits.items() if d != qid} for qid, hits in kept.items()}


def test_more_than_1024_query_terms_do_not_kill_the_batch(checkpoint_folder, tmp_path):
    """Lucene's own limit is 1,024 clauses. The encoder is one whose `encode_queries` is replaced."""
    terms = [f"t{i}" for i in range(3000)]
    collection = tmp_path / "vectors"
    collection.mkdir()
    records = [
        {"id": "a", "contents": "", "vector": dict.fromkeys(terms, 2)},
        {"id": "b", "contents": "", "vector": {"t0": 1}},
    ]
    (collection / "docs.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    succeed(
        "-m", "pyserini.index.lucene", "--collection", "JsonVectorCollection", "--input", collection,
        "--index", tmp_path / "index",
        "--generator", "DefaultLuceneDocumentGenerator", "--threads", "1", "--impact", "--pretokenized",
    )  # fmt: skip
    program = """
import sys
from pyserini.search.lucene import LuceneImpactSearcher
from csplade_pyserini import load_encoder
encoder = load_encoder(sys.argv[2])
vectors = {"long": {f"t{i}": 3 for i in range(3000)}, "short": {"t0": 5}}
encoder.encode_queries = lambda texts, **_: [vectors[text] for text in texts]
searcher = LuceneImpactSearcher(sys.argv[1], encoder)
for qid, hits in sorted(searcher.batch_search(["long", "short"], ["1", "2"], k=10).items()):
    print(qid, [(hit.docid, round(hit.score)) for hit in hits])
"""
    result = succeed("-c", program, tmp_path / "index", checkpoint_folder)
    assert result.stdout.splitlines() == ["1 [('a', 18000), ('b', 3)]", "2 [('a', 10), ('b', 5)]"]


@pytest.mark.parametrize("encoder", [ENCODER, f"{ENCODER}-lookup"])
def test_hybrid_search_fuses_our_scores_with_dense_ones(encoder, index, documents, tmp_path):
    """alpha 0 leaves the impact scores as they are."""
    faiss = pytest.importorskip("faiss", reason="Pyserini's hybrid search needs faiss-cpu")
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    dense, topics = tmp_path / "dense", read_topics(str(TOPICS))
    dense.mkdir()
    flat = faiss.IndexFlatIP(8)
    flat.add(rng.standard_normal((len(documents), 8), dtype=np.float32))
    faiss.write_index(flat, str(dense / "index"))
    (dense / "docid").write_text("\n".join(documents) + "\n")
    (tmp_path / "encoded").mkdir()
    rows = {
        "id": list(topics),
        "text": list(topics.values()),
        "embedding": list(rng.standard_normal((50, 8), dtype=np.float32)),
    }
    with (tmp_path / "encoded" / "embedding.pkl").open("wb") as file:
        pickle.dump(pd.DataFrame(rows), file)
    result = succeed(
        "-m", "pyserini.search.hybrid", "dense", "--index", dense, "--encoded-queries", tmp_path / "encoded",
        "sparse", "--index", index, "--encoder", encoder, "fusion", "--alpha", "0", "--hits", "300",
        "--weight-on-dense",
        "run", "--topics", TOPICS, "--output", tmp_path / "run.txt", "--hits", "5", "--batch-size", "16",
        "--threads", "2",
        python=new_python,
    )  # fmt: skip
    assert "implies --impact" in result.stderr
    search(index, tmp_path / "sparse.txt", "--hits", "300", encoder=encoder)
    run = read_run(tmp_path / "sparse.txt")
    fused = read_run(tmp_path / "run.txt")
    assert fused.keys() == read_topics(str(TOPICS)).keys()
    for qid, own in run.items():
        hits = fused[qid]
        least = min(own.values())  # for Pyserini the score of a document without one
        assert hits == pytest.approx({docid: own.get(docid, least) for docid in hits}, rel=0.002, abs=1)
        assert set(list(own)[:1]) <= set(hits)
