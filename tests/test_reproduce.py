"""`reproduce` and the scripts over it on the sample: whole, again, killed, and compared with wrong scores."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from programs import new_python, run_python, shim, start_python

SCRIPTS = Path(__file__).parents[1] / "run_scripts"
WRONG = """
[[expected]]
encoder = "csplade-tiny"
origin = "measured"
source = "a wrong table"
tolerance = 0.002
[expected.scores.sample]
"nDCG@10" = 0.6695
"""


def command(output: Path, *more: object) -> list[str]:
    words = ("--collection", "sample", "--encoder", "csplade-tiny", "--output", output, *more)
    return ["-m", "csplade_pyserini.reproduce", *map(str, words)]


WITH_SHIM = """
import runpy, sys
sys.executable = sys.argv[1]
sys.argv[:2] = []
sys.orig_argv[1:] = ["-m", *sys.argv]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""A verb whose own commands are forks too, where forks do the same."""


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A whole run, all of its commands in new interpreters."""
    output = tmp_path_factory.mktemp("reproduce") / "sample"
    return output, new_python(*command(output))


@pytest.mark.jvm
def test_an_engine_gives_the_scores_of_lucene(done, tmp_path):
    pytest.importorskip("qdrant_edge", reason="needs the extra [qdrant]")
    output = Path(shutil.copytree(done[0], tmp_path / "sample"))
    result = run_python(*command(output, "--engine", "qdrant"))
    assert result.returncode == 0, result.stderr
    lucene, engine = result.stdout.splitlines()[-2:]
    assert lucene.split()[0] == "csplade-tiny"
    assert engine.startswith("csplade-tiny on qdrant ")
    assert engine.split()[3:5] == lucene.split()[1:3]


@pytest.mark.jvm
def test_the_sample_has_the_expected_scores(done):
    output, result = done
    assert result.returncode == 0, result.stderr
    assert "csplade-tiny on sample: as expected (measured: " in result.stderr
    assert "BM25 on sample: as expected (measured: " in result.stderr
    record = json.loads((output / "csplade-tiny" / "record.json").read_text())
    assert set(record["seconds"]) == {"encode", "index", "queries sample", "search sample"}
    assert record["versions"]["pyserini"]
    assert record["documents"] == 259
    scores = record["topics"]["sample"]["nDCG@10"]
    topics = (output / "topics.beir.tsv").read_text(encoding="utf-8").splitlines()
    assert sum(scores.values()) / len(topics) == pytest.approx(
        record["scores"]["sample"]["nDCG@10"], abs=1e-4
    )
    metadata = yaml.safe_load((output / "csplade-tiny" / "ir-metadata.yml").read_text(encoding="utf-8"))
    assert metadata["tag"] == "csplade-tiny"
    assert metadata["data"]["test collection"]["name"] == "sample"
    assert "csplade-tiny on sample" in (output / "report.csplade-tiny.html").read_text(encoding="utf-8")


@pytest.mark.jvm
def test_the_topics_that_gain_most_are_shown_and_those_that_lose_are_named(done):
    output, _ = done
    shown = run_python(*command(output), "--show-topics", "2").stdout
    ours, others = (
        json.loads((output / name / "record.json").read_text())["topics"]["sample"]["nDCG@10"]
        for name in ("csplade-tiny", "bm25")
    )
    gains = {qid: score - others.get(qid, 0) for qid, score in ours.items()}
    better = sum(gain > 0 for gain in gains.values())
    worse = sorted((qid for qid, gain in gains.items() if gain < 0), key=int)
    assert f"csplade-tiny is above BM25 on {better} of 50, below it on {len(worse)} (" in shown
    assert f"({', '.join(worse)})" in shown
    first, second = re.findall(r"^topic (\d+): .* \(nDCG@10 \d\.\d\d, BM25 \d\.\d\d\)$", shown, re.MULTILINE)
    assert sorted(gains.values())[-2:] == [gains[second], gains[first]]


@pytest.mark.jvm
def test_run_again_it_verifies_and_does_nothing_again(done):
    output, first = done
    before = {
        file: file.stat().st_mtime_ns
        for file in output.rglob("*")
        if file.is_file() and "record" not in file.name
    }
    again = run_python(*command(output))
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    assert again.stderr.count("done already") == first.stderr.count("$ ") - first.stderr.count(
        "-m ir_measures"
    )
    after = {file: file.stat().st_mtime_ns for file in before}
    written = {file.name for file in before if before[file] != after[file]}
    assert written == {"report.csplade-tiny.html", "ir-metadata.yml"}
    seconds = json.loads((output / "csplade-tiny" / "record.json").read_text())["seconds"]
    assert seconds["encode"] > 0


@pytest.mark.jvm
def test_several_encoders_and_any_metrics_make_one_page(done, tmp_path):
    """In a copy of the finished run, so that only what is new is made."""
    output = Path(shutil.copytree(done[0], tmp_path / "sample"))
    words = ("--encoder", "csplade-tiny:top_terms=16", "--measures", "nDCG@10", "Judged@10", "P(rel=2)@5")
    result = run_python(*command(output, *words))
    assert result.returncode == 0, result.stderr
    head, *rows = result.stdout.splitlines()
    assert head.split()[1:4] == ["nDCG@10", "Judged@10", "P(rel=2)@5"]
    assert [row.split()[0] for row in rows] == ["BM25", "csplade-tiny", "csplade-tiny:top_terms=16"]
    page = (output / "comparison.html").read_text(encoding="utf-8")
    assert "3 systems on sample" in page
    assert page.count("<svg") == 4  # index size, query time, and the topics of two encoders
    assert "Holm&#x27;s correction over 6 comparisons" in page
    assert (output / "report.csplade-tiny_top_terms_16.html").is_file()
    words = ("--baseline", output / "csplade-tiny_top_terms_16" / "run.txt")
    result = run_python(*command(output, *words))
    assert result.returncode == 0, result.stderr
    assert "<td>run.txt</td><td>nDCG@10</td>" in (output / "report.csplade-tiny.html").read_text()


@pytest.mark.jvm
def test_a_wrong_expected_score_is_exit_code_1_with_the_difference(done, tmp_path):
    output, _ = done
    (tmp_path / "wrong.toml").write_text(WRONG)
    result = run_python(*command(output, "--expected", tmp_path))
    assert result.returncode == 1
    assert (
        "sample nDCG@10 is 0.6891; expected 0.6695 within 0.0020 (measured: a wrong table)" in result.stderr
    )
    assert "BM25 on sample: no expected score" in result.stderr
    assert "Traceback" not in result.stderr
    assert "0.6891" in result.stdout


@pytest.mark.jvm
def test_a_killed_run_goes_on_to_the_same_run(done, tmp_path, monkeypatch):
    reference, _ = done
    output = tmp_path / "sample"
    shimmed = shim(tmp_path)
    for name, value in shimmed.items():
        monkeypatch.setenv(name, value)
    python = tmp_path / "bin" / "python" if "CSPLADE_NEW_PYTHON" in shimmed else sys.executable
    words = ["-c", WITH_SHIM, python, *command(output)[1:]]
    process = start_python(*words, new_group=True)
    vectors = output / "csplade-tiny" / "vectors.partial"
    deadline = time.monotonic() + 300
    while process.poll() is None and not vectors.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert vectors.exists(), "killed too early or too late"
    result = run_python(*words)
    assert result.returncode == 0, result.stderr
    assert "done already" in result.stderr  # BM25's
    for name in ("bm25/run.txt", "csplade-tiny/run.txt", "csplade-tiny/queries.jsonl"):
        assert (output / name).read_bytes() == (reference / name).read_bytes()


def test_an_output_folder_holds_one_collection(done):
    output, _ = done
    result = run_python(
        "-m",
        "csplade_pyserini.reproduce",
        "--collection",
        "beir/scifact",
        "--encoder",
        "csplade-tiny",
        "--output",
        output,
    )
    assert result.returncode == 2
    assert "holds the collection 'sample', not 'beir/scifact/test': choose another --output" in result.stderr


@pytest.mark.parametrize(
    ("words", "commands"),
    [
        (("bash", SCRIPTS / "msmarco-v1-passage.sh", "csplade-bi-8b"), 18),
        (("bash", SCRIPTS / "beir.sh", "csplade-bi-8b"), 13 * 8),
        (("bash", SCRIPTS / "beir.sh", "csplade-bi-8b", "nfcorpus", "scifact"), 2 * 8),
        (
            (
                sys.executable,
                SCRIPTS / "beir.py",
                "--encoder",
                "csplade-tiny",
                "--datasets",
                "scifact",
                "cqadupstack",
            ),
            13 * 8,
        ),
    ],
)
def test_a_dry_run_prints_every_command_and_makes_nothing(tmp_path, words, commands):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        [*map(str, words), "--dry-run"],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert all(line.startswith("python -m ") for line in lines)
    assert len(lines) == commands
    assert not list(tmp_path.iterdir())


def test_an_unknown_set_lists_the_known_ones():
    result = run_python(SCRIPTS / "beir.py", "--encoder", "csplade-tiny", "--datasets", "scifacts")
    assert result.returncode == 2
    assert "unknown set 'scifacts'; known: " in result.stderr
    assert "beir/scifact," in result.stderr
