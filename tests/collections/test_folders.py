"""Corpus folders as people have them: every document is read, or the command names what is not."""

import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest

from csplade_pyserini import encode
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.manifests import read_collection_manifest
from csplade_pyserini.collections.spool import spooled_corpus
from csplade_pyserini.errors import InputError

MADE = Path(__file__).parents[1] / "made_by_0_1_0"


def lines(*docids: str) -> bytes:
    return b"".join(json.dumps({"_id": docid, "text": "text"}).encode() + b"\n" for docid in docids)


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def docids(folder: Path) -> list[str]:
    return [document.docid for document in open_corpus(str(folder)).documents()]


def error_of(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        open_corpus(str(folder))
    return str(error.value)


def test_every_jsonl_file_is_read_whatever_its_ending_case_compression_and_folder(tmp_path, capsys):
    files = {
        "1.jsonl": lines("plain"), "2.jsonl.bz2": bz2.compress(lines("bzip2")), "3.JSONL": lines("upper"),
        "4.ndjson": lines("ndjson"), "5.jl": lines("jl"), "6.json.xz": lzma.compress(lines("xz")),
        "7.NDJSON.GZ": gzip.compress(lines("gzip"), mtime=0), "sub/deep/8.jsonl": lines("subfolder"),
        "README.md": b"# About", "sub/notes.txt": b"notes", ".DS_Store": b"PK\x03\x04", "LICENSE": b"MIT",
        ".git/x.jsonl": lines("hidden"),
    }  # fmt: skip
    folder = fill(tmp_path / "corpus", files)
    (folder / "link").symlink_to(fill(tmp_path / "linked", {"9.jsonl": lines("linked")}))
    (folder / "loop").symlink_to(folder)
    assert docids(folder) == [
        "plain", "bzip2", "upper", "ndjson", "jl", "xz", "gzip", "linked", "subfolder"
    ]  # fmt: skip
    said = capsys.readouterr().err
    assert "reading 1.jsonl, 2.jsonl.bz2, 3.JSONL" in said
    assert "leaving out .DS_Store, .git/x.jsonl, LICENSE, README.md, sub/notes.txt" in said


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("part-2.tsv", b"1\ttext\n"),
        ("part-2.csv.gz", gzip.compress(b"1,text\n", mtime=0)),
        ("part-2.parquet", b"PAR1\x15"),
        ("part-2.jsonl.lz4", b"\x04\x22\x4d\x18"),
        ("part-2.tar.gz", gzip.compress(b"", mtime=0)),
        ("part-2.zip", b"PK\x03\x04"),
        ("part-2.gz", gzip.compress(lines("a"), mtime=0)),
        ("part-2.jsonl.part", lines("a")),
        ("part-2.jsonl.tmp", lines("a")),
        ("part-00002", lines("a")),
        ("part-2.txt", "\ufeff\n".encode() + lines("a")),
        ("part-2.data", b"[1]"),
        ("sub/part-2.XML", b"<doc/>"),
        ("queries.jsonl", lines("q")),
        ("qrels.tsv", b"q\td\t1\n"),
        ("sub/topics.jsonl.gz", gzip.compress(lines("q"), mtime=0)),
    ],
)
def test_data_that_would_not_be_read_is_refused_by_name(tmp_path, name, content):
    folder = fill(tmp_path, {"part-1.jsonl": lines("a"), name: content})
    message = error_of(folder)
    assert message.startswith(f"the corpus {folder} holds data that is not read: {name}; ")
    assert "wanted files that end in .jsonl" in message


BEIR = {
    "queries.jsonl": lines("q1"), "qrels/test.tsv": b"query-id\tcorpus-id\tscore\nq1\td1\t1\n",
    "qrels/train.tsv": b"", "queries_train.jsonl": lines("q2"), "README.md": b"BEIR",
}  # fmt: skip


@pytest.mark.parametrize("corpus", ["corpus.jsonl", "corpus.jsonl.gz", "Corpus.JSONL"])
@pytest.mark.parametrize("names", [["queries.jsonl"], ["qrels/test.tsv"], [*BEIR]])
def test_of_a_folder_of_beir_the_corpus_alone_is_read(tmp_path, capsys, corpus, names):
    content = lines("d1", "d2")
    files = {corpus: gzip.compress(content, mtime=0) if corpus.endswith("gz") else content}
    folder = fill(tmp_path, files | {name: BEIR[name] for name in names})
    assert docids(folder) == ["d1", "d2"]
    assert f"the corpus {folder}: reading {corpus}; leaving out " in capsys.readouterr().err


def test_other_data_in_a_folder_of_beir_is_refused_or_read_all_the_same(tmp_path):
    fill(tmp_path, {"corpus.jsonl": lines("d1"), "corpus-2.jsonl": lines("d2"), "queries.jsonl": lines("q")})
    assert docids(tmp_path) == ["d2", "d1"]
    fill(tmp_path, {"more.tsv": b"d3\ttext\n"})
    assert "is not read: more.tsv; " in error_of(tmp_path)


def test_a_folder_of_several_beir_sets_is_not_mixed(tmp_path):
    for name in ("nfcorpus", "scifact"):
        fill(tmp_path / name, {"corpus.jsonl": lines(name), "queries.jsonl": lines("q")})
    assert "is not read: nfcorpus/queries.jsonl, scifact/queries.jsonl; " in error_of(tmp_path)


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    folder = fill(tmp_path, {"a.jsonl": lines("a")})
    (folder / "b.jsonl").symlink_to("nowhere")
    assert "is not read: b.jsonl; " in error_of(folder)


def test_a_pipe_is_copied_once_and_read_as_often_as_needed(tmp_path, capsys):
    for content in (lines("a", "b"), gzip.compress(lines("a", "b"))):
        read, write = os.pipe()
        with os.fdopen(write, "wb") as sink:
            sink.write(content)
        with spooled_corpus(f"/dev/fd/{read}", tmp_path / "out") as corpus:
            assert corpus.name == f"/dev/fd/{read}"
            [spool] = tmp_path.iterdir()
            for _ in range(2):
                assert [document.docid for document in corpus.documents()] == ["a", "b"]
        os.close(read)
        assert list(tmp_path.iterdir()) == []
        assert f"to {spool}" in capsys.readouterr().err or content[:2] == b"\x1f\x8b"


def test_an_error_in_a_pipe_names_the_pipe(tmp_path):
    read, write = os.pipe()
    with os.fdopen(write, "wb") as sink:
        sink.write(lines("a") + b"{\n")
    with pytest.raises(InputError) as error, spooled_corpus(f"/dev/fd/{read}", tmp_path / "out") as corpus:
        list(corpus.documents())
    os.close(read)
    assert str(error.value).startswith(f"/dev/fd/{read}:2: not JSON")
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_makes_nothing_says_why_it_takes_no_pipe():
    with pytest.raises(
        InputError, match="the corpus - is a pipe, which can be read only once: write it to a"
    ):
        open_corpus("-")


PROGRAM = "import sys\nfrom csplade_pyserini.encode import main\nsys.exit(main(sys.argv[1:]))"


def test_a_corpus_from_the_standard_input_is_that_of_the_file(tmp_path):
    """Encoded in shards, each from a pipe of its own; the last comes from the file."""
    words = ["--encoder", MADE / "encoder", "--output", tmp_path / "out", "--shard-num", 2]
    corpus = MADE / "corpus.jsonl"
    with corpus.open("rb") as source:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *map(str, words), "--shard-id", "0", "--corpus", "-"],
            stdin=source, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert encode.main([*map(str, words), "--shard-id", "1", "--corpus", str(corpus)]) == 0
    assert read_collection_manifest(tmp_path / "out").documents == 12
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.manifest.json"]
