"""Records that stock indexing loses silently (exit code 0, `errors: 0`), and what ours does instead.

Each loss is shown on Pyserini itself.
"""

import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from programs import run_python

pytestmark = pytest.mark.jvm
FILES, DOCUMENTS, TERMS = 2, 10, 3
WHOLE = FILES * DOCUMENTS


def lines(file: int, vector: dict[str, object] | None = None) -> list[str]:
    """Ten records of three terms each."""
    records = [
        {"id": f"f{file}d{number}", "contents": "", "vector": vector or {"a": 1, "b": 2, f"c{number}": 3}}
        for number in range(DOCUMENTS)
    ]
    return [json.dumps(record) + "\n" for record in records]


def append(line: str) -> Callable[[Path], None]:
    def break_it(folder: Path) -> None:
        with (folder / "docs-1.jsonl").open("a") as file:
            file.write(line + "\n")

    return break_it


def insert(line: str) -> Callable[[Path], None]:
    """The line in the middle of a file: what stands behind it is lost with it."""

    def break_it(folder: Path) -> None:
        there = lines(1)
        (folder / "docs-1.jsonl").write_text("".join([*there[:5], line + "\n", *there[5:]]))

    return break_it


def cut(folder: Path) -> None:
    whole = (folder / "docs-1.jsonl").read_text()
    (folder / "docs-1.jsonl").write_text(whole[: whole.index('"f1d7"') + 12])


def cut_gzip(folder: Path) -> None:
    """Incompressible enough that half of the file holds whole records."""
    (folder / "docs-1.jsonl").unlink()
    whole = gzip.compress("".join(lines(1)).encode())
    (folder / "docs-1.jsonl.gz").write_bytes(whole[: len(whole) * 3 // 4])


def leave_temporary_file(folder: Path) -> None:
    (folder / "docs-1.jsonl.tmp").write_text("".join(lines(1)[:4]))


class Loss(NamedTuple):
    break_it: Callable[[Path], None]
    records: int
    """Records that are there, the broken one included."""
    stock: str
    """Fault of Pyserini's index, in Python, of d(ocuments), p(ostings) and t(erms)."""
    ours: str
    """Our error; empty: ours keeps all."""


def vector(value: str) -> str:
    return f'{{"id": "x", "contents": "", "vector": {value}}}'


def last(value: str, stock: str, problem: str) -> Loss:
    """A vector in the last line of a file."""
    return Loss(append(vector(value)), WHOLE + 1, stock, f"docs-1.jsonl:11: {problem}")


LOSSES = {
    "a record without vector": Loss(
        insert('{"id": "x", "contents": ""}'), WHOLE + 1, "d < 20", "docs-1.jsonl:6: no vector"
    ),
    "a record without id": Loss(insert('{"vector": {"a": 1}}'), WHOLE + 1, "d < 20", "docs-1.jsonl:6: no id"),
    "a malformed line": Loss(
        insert('{"id": "x", "vector": {"a": 1]}'), WHOLE + 1, "d < 20", "docs-1.jsonl:6: not JSON"
    ),
    "a truncated last line": Loss(cut, 18, "d < 18", "docs-1.jsonl:8: not JSON"),
    "a truncated gzip": Loss(cut_gzip, WHOLE, "d < 20", "docs-1.jsonl.gz:"),
    "a dense vector": Loss(
        insert(vector("[0.1, 0.2]")), WHOLE + 1, "d < 20", "docs-1.jsonl:6: the vector is list"
    ),
    "a fraction": last(
        '{"lost": 0.9, "half": 1.9}', "'lost' not in t and t['half'] == 1", "the impact of 'lost' is 0.9"
    ),
    "a negative impact": last('{"lost": -1, "b": 1}', "'lost' not in t", "the impact of 'lost' is -1"),
    "a null impact": last('{"lost": null, "b": 1}', "'lost' not in t", "the impact of 'lost' is None"),
    "a term of two words": last(
        '{"two words": 4}', "'two words' not in t and t['two'] == 4", "the term 'two words'"
    ),
    "a term with U+3000": last('{"two\\u3000words": 4}', "t['words'] == 4", "the term"),
    "a term behind white space": last('{"\\u2003a": 4}', "t['a'] == 24", "the term '\\u2003a'"),
    "a term of 256 characters": last(
        f'{{"{"x" * 256}": 1}}', "'x' * 256 not in t and 'x' in t", "the term 'xxxxxxxxxxxxxxxxxxxx'... has"
    ),
    "an empty vector": Loss(append(vector("{}")), WHOLE + 1, "d == 20", ""),
    "a vector of zeros": last('{"a": 0}', "d == 20", "the impact of 'a' is 0"),
    "a temporary file left": Loss(leave_temporary_file, WHOLE + 4, "d == 24", "docid 'f1d0' is also at"),
    "a repeated docid": Loss(append(lines(0)[3].strip()), WHOLE + 1, "d == 21", "docid 'f0d3' is also at"),
}
STOCK = [
    "--collection",
    "JsonVectorCollection",
    "--generator",
    "DefaultLuceneDocumentGenerator",
    "--threads",
    "1",
    "--impact",
    "--pretokenized",
]
BUILD_EACH = """
import json, runpy, sys
for index, words in json.loads(sys.argv[1]).items():
    sys.argv = ["pyserini.index.lucene", "--index", index, *words]
    runpy.run_module("pyserini.index.lucene", run_name="__main__")
    from pyserini.index.lucene import LuceneIndexReader
    reader = LuceneIndexReader(index)
    terms = {term.term: term.cf for term in reader.terms()}
    print("FOUND", json.dumps({"index": index, "documents": reader.stats()["documents"], "terms": terms}))
"""


def build_stock(words_by_index: dict[Path, list[str]]) -> dict[Path, dict]:
    """Build indexes with Pyserini's indexer, all in one process, and count them."""
    done = run_python(
        "-c",
        BUILD_EACH,
        json.dumps({str(index): [*words, *STOCK] for index, words in words_by_index.items()}),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = [
        json.loads(line.removeprefix("FOUND "))
        for line in done.stdout.splitlines()
        if line.startswith("FOUND ")
    ]
    return {Path(result["index"]): result for result in found}


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> Path:
    """A collection for each loss, by its name."""
    folder = tmp_path_factory.mktemp("losses")
    for name, loss in LOSSES.items():
        collection = folder / "collections" / name
        collection.mkdir(parents=True)
        for file in range(FILES):
            (collection / f"docs-{file}.jsonl").write_text("".join(lines(file)))
        loss.break_it(collection)
    return folder


@pytest.fixture(scope="module")
def stock(broken) -> dict[str, dict]:
    """Counts of each index that Pyserini's indexer makes."""
    found = build_stock(
        {broken / "stock" / name: ["--input", str(broken / "collections" / name)] for name in LOSSES}
    )
    return {index.name: result for index, result in found.items()}


def build(collection: Path, index: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return run_python(
        "-m", "csplade_pyserini.index", "--input", collection, "--index", index, "--threads", "1", *words
    )


@pytest.mark.parametrize("name", LOSSES)
def test_pyserini_loses_it_without_a_word(stock, name):
    found = stock[name]
    assert eval(LOSSES[name].stock, {"d": found["documents"], "t": found["terms"]}), found


@pytest.mark.parametrize("name", LOSSES)
def test_ours_stops_or_keeps_it(broken, tmp_path, name):
    loss = LOSSES[name]
    done = build(broken / "collections" / name, tmp_path / "index")
    assert "Traceback" not in done.stderr
    if loss.ours:
        assert done.returncode == 2, done.stderr
        assert loss.ours in done.stderr.splitlines()[-1]
        assert not (tmp_path / "index").exists()
    else:
        assert done.returncode == 0, done.stderr
        assert f"{tmp_path / 'index'}: {loss.records} documents" in done.stderr


def test_pyserinis_shards_leave_documents_out_and_ours_does_not_offer_them(tmp_path):
    collection = tmp_path / "collection"
    collection.mkdir()
    for file in range(40):
        (collection / f"docs-{file:02d}.jsonl").write_text(lines(file)[0])
    shards = {
        tmp_path / f"stock-{i}": ["--input", str(collection), "-shard.count", "4", "-shard.current", str(i)]
        for i in range(4)
    }
    found = build_stock(shards).values()
    assert sum(shard["documents"] for shard in found) < 40
    refused = build(collection, tmp_path / "index", "--shard.count", 4, "--shard.current", 0)
    assert refused.returncode == 2
    assert not (tmp_path / "index").exists()


def test_an_unknown_flag_indexes_nothing_in_pyserini_and_is_wrong_use_in_ours(broken, tmp_path):
    collection = broken / "collections" / "an empty vector"
    words = ["--input", collection, "--index", tmp_path / "stock", *STOCK, "--optimise"]
    done = run_python("-m", "pyserini.index.lucene", *words)
    assert done.returncode == 0
    assert not (tmp_path / "stock").exists()
    assert build(collection, tmp_path / "index", "--optimise").returncode == 2


def test_ours_checks_after_pyserinis_own_command_too(broken, tmp_path):
    done = build(broken / "collections" / "an empty vector", tmp_path / "index", "--stock")
    assert done.returncode == 1
    assert (
        done.stderr.splitlines()[-1]
        == "check failed: Pyserini's index has 20 documents, the collection 21 lines; missing 1: x"
    )
