"""A corpus larger than the memory that the process may have."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from programs import run_python

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="needs Linux's /proc/self/status and RLIMIT_AS"
)

LIMITED = """
import re, resource, sys
from pathlib import Path
from csplade_pyserini.encode import main
limit, *words = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_AS, (int(limit), int(limit)))
code = main(words)
print(re.search(r"VmPeak:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
raise SystemExit(code)
"""
ROOM = 80 << 20
"""Bytes beyond what encoding the small records takes; a fifth of the corpus."""
RECORD_BYTES, RECORDS = 1 << 20, 405


def write_documents(file: Path, page_bytes: int) -> None:
    """Records whose page is no text for the model, which has little to do."""
    with file.open("w", encoding="utf-8") as out:
        for number in range(RECORDS):
            record = {"id": f"d{number}", "text": f"document {number}", "page": "x" * page_bytes}
            out.write(json.dumps(record) + "\n")


def encode(limit: int, corpus: Path, output: Path, script: str = LIMITED) -> subprocess.CompletedProcess[str]:
    words = ("--encoder", "csplade-tiny", "--corpus", corpus, "--output", output, "--fields", "text")
    return run_python("-c", script, limit, *words, MALLOC_ARENA_MAX="2", OMP_NUM_THREADS="1")


def test_a_corpus_larger_than_the_memory_is_encoded(tmp_path):
    # The same texts, so that the model's batches take as much memory in both.
    small, large = tmp_path / "small.jsonl", tmp_path / "large.jsonl"
    write_documents(small, 1)
    write_documents(large, RECORD_BYTES)
    free = encode(0, small, tmp_path / "free")
    assert free.returncode == 0, free.stderr
    limit = int(free.stdout) * 1024 + ROOM
    assert large.stat().st_size > 5 * ROOM
    bounded = encode(limit, large, tmp_path / "bounded")
    assert bounded.returncode == 0, bounded.stderr
    assert json.loads((tmp_path / "bounded.manifest.json").read_text())["shards"][0]["documents"] == RECORDS
    holding = LIMITED.replace(
        "code = main(words)", f"code = main(words); held = Path({str(large)!r}).read_bytes()"
    )
    held = encode(limit, small, tmp_path / "held", holding)
    assert "MemoryError" in held.stderr, "the limit would let the whole corpus in: the test shows nothing"


def write_vectors(folder: Path, documents: int) -> Path:
    """Records of a megabyte, most of it text that no engine gets."""
    folder.mkdir()
    with (folder / "part-0.jsonl").open("w", encoding="utf-8") as out:
        for number in range(documents):
            record = {"id": f"d{number}", "contents": "x" * RECORD_BYTES, "vector": {"heart": 1 + number}}
            out.write(json.dumps(record) + "\n")
    return folder


@pytest.mark.parametrize("engine", ["vespa", "ciff"])
def test_vectors_larger_than_the_memory_are_exported(engine, tmp_path):
    if engine == "ciff":
        pytest.importorskip("google.protobuf", reason="needs the extra [ciff]")
    script = LIMITED.replace("csplade_pyserini.encode", "csplade_pyserini.export")

    def export(limit: int, vectors: Path) -> subprocess.CompletedProcess[str]:
        words = ("--input", vectors, "--to", engine, "--encoder", "csplade-tiny")
        target = tmp_path / f"{vectors.name}-{limit}"
        return run_python("-c", script, limit, *words, "--output", target, MALLOC_ARENA_MAX="2")

    free = export(0, write_vectors(tmp_path / "few", 8))
    assert free.returncode == 0, free.stderr
    many = write_vectors(tmp_path / "many", RECORDS)
    assert (many / "part-0.jsonl").stat().st_size > 5 * ROOM
    bounded = export(int(free.stdout) * 1024 + ROOM, many)
    assert bounded.returncode == 0, bounded.stderr
    assert f"{RECORDS} documents" in bounded.stderr
