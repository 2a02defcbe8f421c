"""A disk that is full: a clear error, nothing half-made, and the same command goes on once there is room."""

import subprocess
from pathlib import Path

import pytest
from programs import SAMPLE, run_program, shim

LIMITED = """
import resource, runpy, sys
most_bytes = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
sys.argv[:2] = []
sys.orig_argv[1:] = ["-m", *sys.argv]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def run(folder: Path, words: list[object], most_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a verb, none of whose files may have more bytes; what it prints goes into pipes."""
    program = ["-m"] if most_bytes is None else ["-c", LIMITED, most_bytes]
    return run_program("python", *program, *words, **shim(folder))


def encode_words(output: Path) -> list[object]:
    return [
        "csplade_pyserini.encode",
        "--encoder",
        "csplade-tiny",
        "--corpus",
        SAMPLE / "corpus.jsonl",
        "--output",
        output,
    ]


def assert_told(done: subprocess.CompletedProcess[str], code: int) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr


@pytest.mark.parametrize("most_bytes", [100, 20_000])
def test_encoding_on_a_full_disk_ends_with_an_error_and_goes_on_later(sample_vectors, tmp_path, most_bytes):
    output = tmp_path / "vectors"
    assert_told(run(tmp_path, encode_words(output), most_bytes), 2)
    assert not list(tmp_path.glob("vectors/*"))
    assert not (tmp_path / "vectors.manifest.json").exists()
    done = run(tmp_path, encode_words(output))
    assert done.returncode == 0, done.stderr
    assert [file.read_bytes() for file in output.iterdir()] == [
        file.read_bytes() for file in sample_vectors.iterdir()
    ]


@pytest.mark.jvm
def test_indexing_on_a_full_disk_ends_with_an_error_and_goes_on_later(sample_vectors, tmp_path):
    words = ["csplade_pyserini.index", "--input", sample_vectors, "--index", tmp_path / "index"]
    # Room for the JVM's own file of counters, not for the postings.
    assert_told(run(tmp_path, words, 40_000), 1)
    assert not (tmp_path / "index").exists()
    done = run(tmp_path, words)
    assert done.returncode == 0, done.stderr
    assert "259 documents" in done.stderr
