"""The index made of postings is the one that Anserini makes of repeated words, and holds every record."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from programs import run_python, start_python

from csplade_pyserini.collections.index_shards import index_folders
from csplade_pyserini.collections.manifests import manifest_path, read_index_manifest

pytestmark = pytest.mark.jvm

READ = """
import json, sys
from pyserini.index.lucene import LuceneIndexReader
for index in sys.argv[1:]:
    reader = LuceneIndexReader(index)
    stats = reader.stats()
    terms = {term.term: [term.df, term.cf] for term in reader.terms()}
    raw = {docid: reader.doc_raw(docid) for docid in ("d0", "d7")} if "raw" in index else {}
    segments = reader.reader.leaves().size()
    print(json.dumps({"stats": stats, "terms": terms, "raw": raw, "segments": segments}, sort_keys=True))
"""


def write_collection(folder: Path, documents: int, *, files: int = 3, first: int = 0) -> Path:
    """Random vectors over terms of every kind; no manifest, as if someone else had made it."""
    chance = random.Random(documents)
    terms = [f"Ġterm{number}" for number in range(300)] + [
        "a|b",
        "é",
        "😀",
        "a\u00a0b",
        "Ġ",
        "x" * 255,
        '"',
        "\\",
    ]
    folder.mkdir(parents=True)
    for number in range(files):
        with (folder / f"docs-{number}.jsonl").open("w", encoding="utf-8") as file:
            for document in range(number, documents, files):
                vector = {
                    term: chance.randint(1, 400) for term in chance.sample(terms, chance.randint(1, 40))
                }
                record = {"id": f"d{first + document}", "contents": "", "vector": vector}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return folder


def index(collection: Path, target: Path, *options: object) -> subprocess.CompletedProcess[str]:
    return run_python("-m", "csplade_pyserini.index", "--input", collection, "--index", target, *options)


def counts(*indexes: Path) -> list[dict]:
    result = run_python("-c", READ, *indexes)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> dict[str, Path]:
    """A collection and its two indexes, with raw records."""
    folder = tmp_path_factory.mktemp("both")
    places = {
        "collection": write_collection(folder / "vectors", 500),
        "ours": folder / "raw-ours",
        "stock": folder / "raw-stock",
    }
    for name, options in (("ours", []), ("stock", ["--stock"])):
        built = index(places["collection"], places[name], "--store-raw", *options)
        assert built.returncode == 0, built.stderr
    return places


def test_both_indexes_hold_the_same_terms_counts_and_raw_records_in_one_segment(both):
    ours, stock = counts(both["ours"], both["stock"])
    assert ours == stock
    assert ours["segments"] == 1
    assert ours["stats"]["documents"] == 500


def test_the_manifest_says_what_pyserini_counts(both):
    [ours] = counts(both["ours"])
    manifest = read_index_manifest(both["ours"])
    assert manifest.documents == ours["stats"]["documents"]
    assert manifest.terms == ours["stats"]["unique_terms"]
    assert manifest.impacts == ours["stats"]["total_terms"]
    assert manifest.postings == sum(df for df, _ in ours["terms"].values())


def test_both_indexes_give_the_same_run_to_the_last_hit(both, tmp_path):
    chance = random.Random(1)
    [ours] = counts(both["ours"])
    topics, queries = tmp_path / "topics.tsv", tmp_path / "queries.jsonl"
    with topics.open("w") as tsv, queries.open("w", encoding="utf-8") as jsonl:
        for number in range(1, 41):
            tsv.write(f"{number}\tquery {number}\n")
            vector = {term: chance.randint(1, 100) for term in chance.sample(sorted(ours["terms"]), 12)}
            jsonl.write(
                json.dumps({"contents": f"query {number}", "vector": vector}, ensure_ascii=False) + "\n"
            )
    runs = []
    for name in ("ours", "stock"):
        run = tmp_path / f"{name}.txt"
        result = run_python(
            "-m", "pyserini.search.lucene", "--index", both[name], "--topics", topics, "--output", run,
            "--impact",
            "--encoder", queries, "--hits", "1000", "--batch-size", "8",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        runs.append(run.read_text())
    assert runs[0] == runs[1]
    assert len(runs[0].splitlines()) > 1000


def test_without_optimize_the_documents_are_the_same(both, tmp_path):
    built = index(both["collection"], tmp_path / "index", "--no-optimize")
    assert built.returncode == 0, built.stderr
    [whole], [segments] = counts(both["ours"]), counts(tmp_path / "index")
    assert segments["terms"] == whole["terms"]
    assert segments["segments"] == 3


def test_a_collection_of_empty_vectors_alone_is_an_index_without_terms(tmp_path):
    (tmp_path / "vectors").mkdir()
    lines = "".join(f'{{"id": "d{number}", "vector": {{}}}}\n' for number in range(3))
    (tmp_path / "vectors" / "docs.jsonl").write_text(lines)
    result = index(tmp_path / "vectors", tmp_path / "index")
    assert result.returncode == 0, result.stderr
    assert "3 of 3 records have an empty vector; no query finds them" in result.stderr
    manifest = read_index_manifest(tmp_path / "index")
    assert (manifest.documents, manifest.postings, manifest.terms, manifest.impacts) == (3, 0, 0, 0)


def test_a_record_with_an_empty_vector_is_kept_and_reported(tmp_path):
    collection = write_collection(tmp_path / "vectors", 30)
    with (collection / "docs-1.jsonl").open("a") as file:
        file.write('{"id": "empty", "vector": {}}\n')
    result = index(collection, tmp_path / "index")
    assert result.returncode == 0, result.stderr
    assert "1 of 31 records have an empty vector" in result.stderr
    assert counts(tmp_path / "index")[0]["stats"]["documents"] == 31


@pytest.mark.parametrize("shards", [1, 3])
def test_a_killed_build_goes_on_with_the_parts_that_are_whole(tmp_path, shards):
    collection = write_collection(tmp_path / "vectors", 3000)
    command = [
        "-m",
        "csplade_pyserini.index",
        "--input",
        collection,
        "--index",
        tmp_path / "index",
        "--threads",
        "1",
        "--shards",
        shards,
    ]
    process = start_python(*command, new_group=True)
    part = tmp_path / "index.partial" / "part-00000"
    while not part.is_dir() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "index").exists()
    done = len([folder for folder in part.parent.glob("part-?????") if folder.is_dir()])
    result = index(collection, tmp_path / "index", "--shards", shards)
    assert result.returncode == 0, result.stderr
    assert f"{done} of 3 parts are indexed already" in result.stderr
    assert read_index_manifest(tmp_path / "index").documents == 3000
    assert len(index_folders(tmp_path / "index")) == shards
    assert not (tmp_path / "index.partial").exists()


def test_an_index_that_is_whole_is_not_built_again_and_one_of_another_collection_is_kept(both, tmp_path):
    again = index(both["collection"], both["ours"])
    assert again.returncode == 0
    assert "is whole already: 500 documents" in again.stderr
    other = index(write_collection(tmp_path / "vectors", 10), both["ours"])
    assert other.returncode == 2
    assert f"{both['ours']} exists and is not the index of {tmp_path / 'vectors'}" in other.stderr


def test_a_collection_that_changed_since_its_manifest_is_refused(sample_vectors, tmp_path):
    shutil.copytree(sample_vectors, tmp_path / "v")
    shutil.copy(manifest_path(sample_vectors), manifest_path(tmp_path / "v"))
    [shard] = (tmp_path / "v").iterdir()
    shard.write_bytes(shard.read_bytes()[:-20])
    result = index(tmp_path / "v", tmp_path / "index")
    assert result.returncode == 1
    assert "has changed since it was written" in result.stderr
    assert not manifest_path(tmp_path / "index").exists()
