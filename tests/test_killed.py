"""A command that is killed at any moment, by SIGKILL, goes on where it was and leaves the same bytes.

6 kills; 20 with CSPLADE_KILLS=20, as `make soak` sets it. The killed processes are forks (see programs.py):
only the imports of other people's libraries are behind them when they start.
"""

import json
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from programs import SAMPLE, run_python, start_python

KILLS = int(os.environ.get("CSPLADE_KILLS", "6"))
COPIES = 8
"""Copies of the sample's documents: enough work for kills in the middle of it."""


def encode_command(corpus: Path, output: Path) -> list[str]:
    words = ("--encoder", "csplade-tiny", "--corpus", corpus, "--output", output, "--documents-per-file", 50)
    return ["-m", "csplade_pyserini.encode", *map(str, words)]


def contents(output: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(output.iterdir())}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    lines = (SAMPLE / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    file = tmp_path_factory.mktemp("killed") / "corpus.jsonl"
    with file.open("w", encoding="utf-8") as out:
        for copy in range(COPIES):
            for line in lines:
                record = json.loads(line)
                out.write(json.dumps(record | {"id": f"{copy}-{record['id']}"}) + "\n")
    return file


def finished_files(output: Path) -> int:
    return len(list(output.glob("*.jsonl")))


def test_encoding_killed_at_random_moments_ends_byte_for_byte_as_if_it_had_not_been(corpus, tmp_path):
    start = time.monotonic()
    whole = run_python(*encode_command(corpus, tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    duration, files = time.monotonic() - start, len(contents(tmp_path / "whole"))
    chance, output, in_the_middle = random.Random(5), tmp_path / "killed-0", 0
    for number in range(KILLS):
        before = finished_files(output)
        process = start_python(*encode_command(corpus, output), new_group=True)
        if number % 4 == 0:  # at any moment, starting included
            time.sleep(chance.uniform(0, 0.5) * duration)
        else:  # while it works: after a file, and before the second one after it has to be whole
            while process.poll() is None and finished_files(output) <= before:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 1.5) * duration / files)
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if output.with_name(f"{output.name}.manifest.json").exists():  # it had ended before; another one
            output = tmp_path / f"killed-{number + 1}"
        else:
            in_the_middle += finished_files(output) > 0
    last = run_python(*encode_command(corpus, output))
    assert last.returncode == 0, last.stderr
    assert contents(output) == contents(tmp_path / "whole")
    assert in_the_middle > KILLS / 2
    assert not output.with_name(f"{output.name}.partial").exists()
