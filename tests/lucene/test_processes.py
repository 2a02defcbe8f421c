"""A script that indexes and lacks the main guard is told so; with the guard, it indexes."""

import sys
from pathlib import Path

import pytest
from programs import run_program

from csplade_pyserini.lucene.processes import java_options

MADE = Path(__file__).parents[1] / "made_by_0_1_0"
CALL = """
from pathlib import Path
from csplade_pyserini.lucene.indexing import IndexJob, build_index
def work():
    build_index(IndexJob(collection=Path({vectors!r}), index=Path({index!r}), threads=1))
"""


def run(tmp_path: Path, end: str):
    script = tmp_path / "script.py"
    script.write_text(CALL.format(vectors=str(MADE / "vectors"), index=str(tmp_path / "index")) + end)
    return run_program(sys.executable, script)


def test_a_script_without_the_guard_is_named_before_anything_starts(tmp_path):
    done = run(tmp_path, "work()\n")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert f"the script {tmp_path / 'script.py'} has no 'if __name__ == \"__main__\":'" in last
    assert sorted(path.name for path in tmp_path.iterdir()) == ["script.py"]


@pytest.mark.jvm
def test_a_call_outside_the_guard_is_told_so_by_the_new_process(tmp_path):
    done = run(tmp_path, "work()\nif __name__ == '__main__':\n    pass\n")
    assert done.returncode == 1
    assert "error: a script that indexes has to do so under 'if __name__ == \"__main__\":'" in done.stderr
    assert "CheckError: a worker process died" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "index").exists()


@pytest.mark.jvm
def test_a_script_with_the_guard_indexes(tmp_path):
    done = run(tmp_path, "if __name__ == '__main__':\n    work()\n")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.manifest.json").is_file()


@pytest.mark.parametrize("chosen", ["", "-Xmx1g", "-XX:-UseSerialGC"])
def test_a_worker_collects_its_garbage_in_one_thread(chosen, monkeypatch):
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", chosen)
    assert java_options(brief=False) == ("-XX:+UseSerialGC",)
    assert java_options(brief=True) == ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


@pytest.mark.jvm
@pytest.mark.parametrize("variable", ["JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS"])
def test_the_garbage_collector_that_the_user_chose_stays(variable, tmp_path):
    script = tmp_path / "script.py"
    call = CALL.format(vectors=str(MADE / "vectors"), index=str(tmp_path / "index"))
    script.write_text(f"{call}if __name__ == '__main__':\n    work()\n")
    done = run_program(sys.executable, script, **{variable: "-Xmx1g -XX:+UseParallelGC"})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index").is_dir()
