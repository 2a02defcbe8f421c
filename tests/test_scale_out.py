"""The scripts for several machines: thin over shards, so what they make is what one process makes."""

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import SAMPLE, run_program, run_python, shim

from csplade_pyserini import load_encoder
from csplade_pyserini.collections.corpus import open_corpus

RUN_SCRIPTS = Path(__file__).resolve().parents[1] / "run_scripts"
CORPUS = SAMPLE / "corpus.jsonl"
FLAGS = ["--encoder", "csplade-tiny", "--corpus", str(CORPUS), "--documents-per-file", "20"]
NOISE = 0.001
"""Impacts by which other batches move a weight at most: about ten rounding errors of float32."""


def records(collection: Path) -> list[str]:
    return [
        line
        for file in sorted(collection.iterdir())
        for line in file.read_text(encoding="utf-8").splitlines()
    ]


def assert_alike(found: list[str], wanted: list[str]) -> None:
    """Compare docids, their order, and impacts. An impact may differ by 1 at the tie of a rounding alone.

    A shard has other batches than one process, and float32 sums depend on the shape of a batch.
    """
    texts = {document.docid: document.text for document in open_corpus(str(CORPUS)).documents()}
    for line, twin_line in zip(found, wanted, strict=True):
        record, twin = json.loads(line), json.loads(twin_line)
        vector, other = record.pop("vector"), twin.pop("vector")
        assert record == twin
        changed = {term for term in vector.keys() | other.keys() if vector.get(term) != other.get(term)}
        if changed:
            exact = exact_impacts(texts[record["id"]])
            for term in changed:
                assert sorted((vector.get(term, 0), other.get(term, 0))) == [
                    math.floor(exact[term]),
                    math.ceil(exact[term]),
                ]
                assert abs(exact[term] % 1 - 0.5) < NOISE, f"{record['id']} {term}: {exact[term]}"


def exact_impacts(text: str) -> dict[str, float]:
    """Impacts of a document's terms before they are rounded."""
    encoder = load_encoder("csplade-tiny")
    [weights] = encoder.weights([text], side="document")
    scale = encoder.card.impact_scale
    return {
        term: float(weight) * scale
        for term, weight in zip(encoder.terms, weights, strict=True)
        if term is not None
    }


@pytest.fixture(scope="module")
def one_process(sample_vectors) -> list[str]:
    """The records that one process writes."""
    return records(sample_vectors)


def test_an_array_of_slurm_tasks_encodes_what_one_process_does(one_process, tmp_path):
    """The script itself, with the variables that SLURM sets; the tasks one after the other."""
    place = shim(tmp_path) | {"SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "0"}
    for task in (2, 0, 1):
        words = ("bash", RUN_SCRIPTS / "slurm_encode.sbatch", *FLAGS, "--output", tmp_path / "vectors")
        done = run_program(*words, **place, SLURM_ARRAY_TASK_ID=str(task))
        assert done.returncode == 0, done.stderr
    assert_alike(records(tmp_path / "vectors"), one_process)
    assert (tmp_path / "vectors.manifest.json").is_file()


def test_the_slurm_script_run_by_hand_says_what_it_wants(tmp_path):
    done = subprocess.run(
        ["bash", RUN_SCRIPTS / "slurm_encode.sbatch"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "submit this with sbatch" in done.stderr


def test_processes_of_torchrun_encode_a_shard_each(one_process, tmp_path):
    result = run_python(
        "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "csplade_pyserini.encode", *FLAGS,
        "--output", tmp_path / "vectors",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert_alike(records(tmp_path / "vectors"), one_process)
    assert {file.name.rsplit("-", 1)[0] for file in (tmp_path / "vectors").iterdir()} == {
        "shard-0000-of-0002",
        "shard-0001-of-0002",
    }


def test_the_shard_of_a_killed_ray_actor_is_done_by_another(one_process, tmp_path):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs ray: pip install 'csplade_pyserini[ray]'")
    output = tmp_path / "vectors"
    command = [
        sys.executable,
        RUN_SCRIPTS / "ray_encode.py",
        "--actors",
        2,
        "--gpus",
        0,
        "--shard-num",
        4,
        "--output",
        output,
        *FLAGS,
    ]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            list(map(str, command)), stdout=log, stderr=log, env=os.environ | {"HF_HUB_OFFLINE": "1"}
        )
        try:
            while not output.is_dir() and process.poll() is None:
                time.sleep(0.05)
            killed = kill_an_actor(process.pid)
            assert process.wait(timeout=300) == 0, (tmp_path / "log").read_text()
        finally:
            process.kill()
    assert killed
    assert "its actor died; another one goes on with it" in (tmp_path / "log").read_text()
    assert_alike(records(output), one_process)


def kill_an_actor(ancestor: int) -> bool:
    """SIGKILL one of the ancestor's processes that Ray has named after what it does."""
    parents = {
        int(folder.name): int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        for folder in Path("/proc").glob("[0-9]*")
    }
    for pid in parents:
        above = pid
        while above not in (0, 1, ancestor):
            above = parents.get(above, 0)
        if above == ancestor and b"ShardEncoder.encode" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
            return True
    return False
