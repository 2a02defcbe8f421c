"""Files that version 0.1.0 made are resumed, searched and explained by this one.

tests/made_by_0_1_0 holds an encoder, a random Llama of 9,000 weights. Its output for twelve documents of the
sample lies beside it: vectors, index, queries, run and explanation, and `half`, the first of two shards. They
were made on 2026-11-26 by commit 00ba96b.
"""

import json
import shutil
from pathlib import Path

import pytest
from programs import run_python

from csplade_pyserini import encode, encode_queries, index
from csplade_pyserini.collections.manifests import read_collection_manifest, read_index_manifest
from csplade_pyserini.collections.shards import read_progress

CUT = 0.3
"""How far other terms at the cut move a score: 0.1.0 cut queries of 16 terms on rounded weights."""
MADE = Path(__file__).with_name("made_by_0_1_0")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A copy of the files, as the current folder: manifests name the corpus by its relative path."""
    copy = shutil.copytree(MADE, tmp_path / "made")
    monkeypatch.chdir(copy)
    return copy


def vectors(collection: Path) -> dict[str, dict[str, int]]:
    lines = [line for file in sorted(collection.iterdir()) for line in file.read_text().splitlines()]
    return {record["id"]: record["vector"] for record in map(json.loads, lines)}


def assert_close(found: dict[str, int], wanted: dict[str, int]) -> None:
    """Equal, but for impacts that another processor rounds to the next integer, and for ties at the cut.

    0.1.0 cut the top terms on rounded weights, so it took others of those with the least impact.
    """
    assert len(found) == len(wanted)
    for term in found.keys() & wanted.keys():
        assert abs(found[term] - wanted[term]) <= 1, term
    for one, other in ((found, wanted), (wanted, found)):
        for term in one.keys() - other.keys():
            assert abs(one[term] - min(other.values())) <= 1, term


def test_its_manifests_and_progress_are_read(folder):
    manifest = read_collection_manifest(folder / "vectors")
    assert (manifest.documents, len(manifest.files), manifest.empties) == (12, 3, 0)
    assert read_index_manifest(folder / "index").documents == 12
    progress = read_progress(folder / "half.partial" / "shard-0000-of-0002.json")
    assert progress.is_whole
    assert progress.encoder == manifest.encoder


def test_its_collection_and_index_are_whole_already(folder, capsys):
    words = ["--encoder", "encoder", "--corpus", "corpus.jsonl", "--output", "vectors"]
    assert encode.main([*words, "--documents-per-file", "5"]) == 0
    assert "vectors is whole already: 12 documents" in capsys.readouterr().err
    assert index.main(["--input", "vectors", "--index", "index"]) == 0
    assert "index is whole already: 12 documents" in capsys.readouterr().err


def test_its_shard_and_one_of_ours_make_the_collection(folder):
    before = {file.name: file.read_bytes() for file in (folder / "half").iterdir()}
    words = ["--encoder", "encoder", "--corpus", "corpus.jsonl", "--output", "half", "--shard-num", "2"]
    assert encode.main([*words, "--shard-id", "1", "--documents-per-file", "3"]) == 0
    assert read_collection_manifest(folder / "half").documents == 12
    for name, content in before.items():
        assert (folder / "half" / name).read_bytes() == content
    ours = vectors(folder / "half")
    whole = vectors(folder / "vectors")
    assert list(ours) == list(whole)
    for docid, vector in whole.items():
        assert_close(ours[docid], vector)


def test_its_queries_have_the_same_vectors(folder):
    words = ["--encoder", "encoder", "--topics", "topics.tsv", "--output", "again.jsonl"]
    assert encode_queries.main(words) == 0
    before = map(json.loads, (folder / "queries.jsonl").read_text().splitlines())
    again = map(json.loads, (folder / "again.jsonl").read_text().splitlines())
    for old, new in zip(before, again, strict=True):
        assert old["contents"] == new["contents"]
        assert_close(new["vector"], old["vector"])


@pytest.mark.jvm
def test_its_index_is_searched(folder):
    """By the stock command, with the encoder and with the query file that 0.1.0 wrote."""
    before = read_run(folder / "run.txt")
    for encoder in ("encoder", "queries.jsonl"):
        words = ["--index", "index", "--topics", "topics.tsv", "--output", f"{encoder}.txt", "--hits", "5"]
        done = run_python("-m", "pyserini.search.lucene", *words, "--encoder", encoder)
        assert done.returncode == 0, done.stderr
        found = read_run(folder / f"{encoder}.txt")
        assert found.keys() == before.keys()
        slack = 0.002
        if encoder == "encoder":
            slack = CUT
        for qid_and_docid, score in before.items():
            assert found[qid_and_docid] == pytest.approx(score, rel=slack)


@pytest.mark.jvm
def test_its_index_is_explained(folder):
    words = ["--encoder", "encoder", "--index", "index", "--query", "heart attack", "--hits", "2"]
    done = run_python("-m", "csplade_pyserini.explain", *words, "--corpus", "corpus.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    before = json.loads((folder / "explained.json").read_text())
    found = json.loads(done.stdout)
    assert found["encoder"] == before["encoder"]
    for old, new in zip(before["hits"], found["hits"], strict=True):
        assert old["docid"] == new["docid"]
        assert new["score"] == pytest.approx(old["score"], rel=CUT)
        before_terms = {share["term"] for share in old["matched"]}
        assert len(before_terms & {share["term"] for share in new["matched"]}) >= len(before_terms) - 2


def read_run(file: Path) -> dict[tuple[str, str], float]:
    rows = [line.split() for line in file.read_text().splitlines()]
    return {(qid, docid): float(score) for qid, _, docid, _, score, _ in rows}
