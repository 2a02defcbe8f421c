"""Encoding that was stopped leaves no collection that can be indexed, by our command or by Pyserini's."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from programs import SAMPLE, Fork, run_python, start_python

from csplade_pyserini.collections.manifests import manifest_path
from csplade_pyserini.collections.unfinished import stock_mark

pytestmark = pytest.mark.jvm
MADE = Path(__file__).with_name("made_by_0_1_0")


def stop(process: "Fork | subprocess.Popen[bytes]", is_writing: Path) -> None:
    """Press Ctrl-C as soon as there is something at a path."""
    while not (is_writing.exists() and is_writing.stat().st_size):
        assert process.poll() is None, "it ended before it wrote"
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    process.wait(60)


def refused(collection: Path, tmp_path: Path, *words: object) -> str:
    """The error of an index command, which leaves nothing."""
    done = run_python(*words, "--input", collection, "--index", tmp_path / "index")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "index").exists()
    [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return error


OURS = ("-m", "csplade_pyserini.index")
STOCK = (
    "-m", "pyserini.index.lucene", "--collection", "JsonVectorCollection", "--generator",
    "DefaultLuceneDocumentGenerator", "--threads", "1", "--impact", "--pretokenized",
)  # fmt: skip


def test_ctrl_c_in_encode_leaves_nothing_to_index_until_it_has_gone_on(tmp_path):
    output = tmp_path / "vectors"
    documents = [json.loads(line) for line in (SAMPLE / "corpus.jsonl").read_text().splitlines()]
    with (tmp_path / "corpus.jsonl").open("w") as lines:
        for copy in range(8):  # enough to be stopped on a machine that stands still for a second
            for document in documents:
                lines.write(json.dumps(document | {"id": f"{copy}-{document['id']}"}) + "\n")
    command = ["-m", "csplade_pyserini.encode", "--encoder", "csplade-tiny", "--corpus"]
    command += [tmp_path / "corpus.jsonl", "--output", output, "--documents-per-file", 25]
    stop(start_python(*command), output / "shard-0000-of-0001-00000.jsonl")
    assert not manifest_path(output).exists()
    for words in (OURS, (*OURS, "--stock"), (*OURS, "--without-manifest"), STOCK):
        error = refused(output, tmp_path, *words)
        assert f"{output} is unfinished, " in error
        assert "of 2072 documents of shard-0000-of-0001 missing" in error
    done = run_python(*command)
    assert done.returncode == 0, done.stderr
    done = run_python(*OURS, "--input", output, "--index", tmp_path / "index")
    assert done.returncode == 0, done.stderr


def test_a_stopped_pyserini_encode_leaves_nothing_to_index(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    with corpus.open("w") as lines:
        for copy in range(20_000):
            lines.write(json.dumps({"id": str(copy), "text": "a question about the heart " * 5}) + "\n")
    output = tmp_path / "stock"
    command = ["-m", "pyserini.encode", "input", "--corpus", corpus, "--fields", "text"]
    command += ["output", "--embeddings", output]
    command += [
        "encoder",
        "--encoder",
        MADE / "encoder",
        "--fields",
        "text",
        "--batch-size",
        "4",
        "--device",
        "cpu",
    ]
    stop(start_python(*command), output / "embeddings.jsonl")
    assert stock_mark(output).is_file()
    for words in (OURS, STOCK):
        assert f"{output} is unfinished: pyserini.encode has not ended well" in refused(
            output, tmp_path, *words
        )
    corpus.write_text("".join(corpus.read_text().splitlines(keepends=True)[:5]))
    done = run_python(*command)
    assert done.returncode == 0, done.stderr
    assert manifest_path(output).is_file()
    assert not stock_mark(output).parent.exists()
    done = run_python(*STOCK, "--input", output, "--index", tmp_path / "index")
    assert done.returncode == 0, done.stderr
    assert manifest_path(tmp_path / "index").is_file()


def test_a_pyserini_encode_that_refuses_its_arguments_leaves_no_mark(tmp_path):
    command = ["-m", "pyserini.encode", "input", "output", "--embeddings", tmp_path / "stock"]
    done = run_python(*command, "encoder", "--encoder", MADE / "encoder")
    assert done.returncode == 2
    assert os.listdir(tmp_path) == []
