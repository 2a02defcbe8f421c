"""Trouble around a run: a second writer, a clock that goes back, an index that is not its manifest's.

Other faults: full disks in test_full_disk.py, killed encoders in test_killed.py, killed builds and rotten
shards in lucene/test_indexing.py, truncated gzip in collections/test_corpus.py.
"""

import fcntl
import itertools
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from programs import SAMPLE, Fork, run_python, start_python

from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.encoding import EncodingJob, encode_corpus
from csplade_pyserini.collections.manifests import read_collection_manifest, refuse_mismatch
from csplade_pyserini.errors import InputError

QUERY_COMMAND = (
    "-m",
    "pyserini.search.lucene",
    "--topics",
    SAMPLE / "topics.tsv",
    "--encoder",
    "csplade-tiny",
    "--hits",
    "3",
)


def encode_words(output: Path, corpus: Path = SAMPLE / "corpus.jsonl") -> list[object]:
    return [
        "-m",
        "csplade_pyserini.encode",
        "--encoder",
        "csplade-tiny",
        "--corpus",
        corpus,
        "--output",
        output,
    ]


def index_words(collection: Path, index: Path) -> list[object]:
    return ["-m", "csplade_pyserini.index", "--input", collection, "--index", index]


def stopped_while_it_writes(words: list[object], lock: Path) -> Fork | subprocess.Popen[bytes]:
    """A process that holds its lock and stands still."""
    process = start_python(*words)
    while True:
        assert process.poll() is None, "it ended before it wrote"
        if lock.exists():
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.5)  # it moves a file right after it has the lock, and the signal may come meanwhile
            if is_held(lock):
                return process
            process.send_signal(signal.SIGCONT)  # the lock's file is there a moment before it is held
        time.sleep(0.002)


def is_held(lock: Path) -> bool:
    """Whether a process holds a lock. This takes the lock for a moment: its process has to stand still."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def check_second_writer(words: list[object], lock: Path, target: Path, tmp_path: Path) -> None:
    first = stopped_while_it_writes(words, lock)
    try:
        before = sorted(path for path in tmp_path.rglob("*") if path != lock)
        second = run_python(*words)
        assert second.returncode == 2, second.stderr
        wanted = (
            f"error: another process is writing {target} (it holds {lock}): "
            "wait for it, or stop it; the same command then goes on"
        )
        assert second.stderr.splitlines()[-1] == wanted
        assert sorted(path for path in tmp_path.rglob("*") if path != lock) == before, (
            "the second writer changed something"
        )
    finally:
        first.kill()
        first.wait()
    third = run_python(*words)  # the lock of a killed process is free
    assert third.returncode == 0, third.stderr
    assert not lock.exists()
    assert not lock.parent.exists()


def test_a_second_encoder_in_one_folder_is_told_so_and_changes_nothing(sample_vectors, tmp_path):
    output = tmp_path / "out"
    check_second_writer(
        encode_words(output), tmp_path / "out.partial" / "shard-0000-of-0001.lock", output, tmp_path
    )
    assert [file.read_bytes() for file in output.iterdir()] == [
        file.read_bytes() for file in sample_vectors.iterdir()
    ]


@pytest.mark.jvm
def test_a_second_build_of_one_index_is_told_so_and_changes_nothing(sample_vectors, tmp_path):
    check_second_writer(
        index_words(sample_vectors, tmp_path / "index"),
        tmp_path / "index.partial" / "lock",
        tmp_path / "index",
        tmp_path,
    )


def test_shards_of_one_collection_do_not_lock_each_other_out(sample_vectors, tmp_path):
    lock = tmp_path / "out.partial" / "shard-0000-of-0002.lock"
    first = stopped_while_it_writes(
        [*encode_words(tmp_path / "out"), "--shard-id", "0", "--shard-num", "2"], lock
    )
    try:
        other = run_python(*encode_words(tmp_path / "out"), "--shard-id", "1", "--shard-num", "2")
        assert other.returncode == 0, other.stderr
    finally:
        first.send_signal(signal.SIGCONT)
    assert first.wait(timeout=120) == 0
    assert (
        read_collection_manifest(tmp_path / "out").documents
        == read_collection_manifest(sample_vectors).documents
    )


@pytest.mark.jvm
def test_an_index_swapped_under_its_manifest_is_refused_by_every_search(sample_vectors, tmp_path):
    corpus = tmp_path / "other.jsonl"
    corpus.write_text("".join((SAMPLE / "corpus.jsonl").read_text().splitlines(keepends=True)[:50]))
    other = tmp_path / "other-vectors"
    for words in (
        encode_words(other, corpus),
        index_words(sample_vectors, tmp_path / "index"),
        index_words(other, tmp_path / "other"),
    ):
        done = run_python(*words)
        assert done.returncode == 0, done.stderr
    search = [*QUERY_COMMAND, "--index", tmp_path / "index", "--output", tmp_path / "run.txt"]
    explain = [
        "-m",
        "csplade_pyserini.explain",
        "--index",
        tmp_path / "index",
        "--query",
        "heart attack",
        "--encoder",
        "csplade-tiny",
    ]
    assert run_python(*search).returncode == 0
    (tmp_path / "index").rename(tmp_path / "kept")
    (tmp_path / "other").rename(tmp_path / "index")
    for words in (search, explain):
        done = run_python(*words)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert (
            f"{tmp_path / 'index'} is not the index that {tmp_path / 'index.manifest.json'} tells of"
            in done.stderr
        )
    for unknown in (None, "", "someone-elses-encoder"):
        with pytest.raises(InputError, match="is not the index that"):
            refuse_mismatch(tmp_path / "index", unknown)
    assert run_python(*search, CSPLADE_ALLOW_MISMATCH="1").returncode == 0


@pytest.mark.jvm
def test_an_index_that_stock_indexing_built_is_known_again_too(sample_vectors, tmp_path):
    for target in ("a", "b"):
        built = run_python(
            "-m", "pyserini.index.lucene", "--collection", "JsonVectorCollection", "--input",
            sample_vectors, "--index", tmp_path / target,
            "--generator", "DefaultLuceneDocumentGenerator", "--threads", "1", "--impact", "--pretokenized",
        )  # fmt: skip
        assert built.returncode == 0, built.stderr
    (tmp_path / "a").rename(tmp_path / "kept")
    (tmp_path / "b").rename(tmp_path / "a")
    done = run_python(*QUERY_COMMAND, "--index", tmp_path / "a", "--output", tmp_path / "run.txt")
    assert (done.returncode, "is not the index that" in done.stderr) == (2, True), done.stderr


def test_a_clock_that_goes_back_changes_no_byte_and_costs_no_work(tmp_path, monkeypatch, make_encoder):
    encoder = make_encoder()
    loads = []

    def job(name: str) -> EncodingJob:
        return EncodingJob(
            corpus=open_corpus(str(SAMPLE / "corpus.jsonl")),
            output=tmp_path / name,
            identity=encoder.identity,
            card=encoder.card,
            load_encoder=lambda: loads.append(name) or encoder,
            arguments={},
            documents_per_file=100,
        )

    encode_corpus(job("steady"))
    clock = itertools.count(2_000_000_000, -60)
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    encode_corpus(job("back"))
    for number, file in enumerate(sorted((tmp_path / "back").iterdir())):
        os.utime(
            file, (86_400 * number, 86_400 * number)
        )  # as after a copy, or with the clock set right again
        assert file.read_bytes() == (tmp_path / "steady" / file.name).read_bytes()
    encode_corpus(job("back"))
    assert loads == ["steady", "back"]
