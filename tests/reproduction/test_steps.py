"""Steps: done once, done again when what they are made of has changed, never half."""

import json
import sys
from pathlib import Path

import pytest

from csplade_pyserini.errors import CheckError
from csplade_pyserini.reproduction.steps import Step, run_step

COPY = (
    "import sys, pathlib; pathlib.Path(sys.argv[2]).write_text(pathlib.Path(sys.argv[1]).read_text() + 'x')"
)
FAIL = "import sys; print('the reason'); sys.exit(3)"
LEAVE = "import sys, pathlib; pathlib.Path(sys.argv[2]).write_text('half'); sys.exit(1)"
NOTHING = "pass"


def step(folder: Path, program: str = COPY, **more: object) -> Step:
    source, output = folder / "source", folder / "deep" / "output"
    return Step(
        "copy", [sys.executable, "-c", program, str(source), str(output)], output, reads=(source,), **more
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "source").write_text("one")
    return tmp_path


def test_a_step_is_done_once(folder):
    assert run_step(step(folder)) is not None
    assert run_step(step(folder)) is None
    assert (folder / "deep" / "output").read_text() == "onex"


@pytest.mark.parametrize("change", ["source", "output", "command", "encoder", "gone"])
def test_a_step_is_done_again_when_anything_about_it_has_changed(folder, change):
    run_step(step(folder, encoder="a@1"))
    output, again = folder / "deep" / "output", step(folder, encoder="a@1")
    if change == "source":
        (folder / "source").write_text("two")
    elif change == "output":
        output.write_text("rotten")
    elif change == "command":
        again = step(folder, COPY + " ", encoder="a@1")
    elif change == "encoder":
        again = step(folder, encoder="a@2")
    else:
        output.unlink()
    assert run_step(again) is not None
    assert output.read_text() == (folder / "source").read_text() + "x"
    assert run_step(again) is None


@pytest.mark.parametrize(
    ("program", "told"),
    [(FAIL, "exit code 3.*\n*the reason"), (LEAVE, "exit code 1"), (NOTHING, "no output")],
)
def test_a_step_that_fails_stops_and_leaves_nothing_under_the_outputs_name(folder, program, told):
    with pytest.raises(CheckError, match=told):
        run_step(step(folder, program))
    assert not (folder / "deep" / "output").exists()
    assert run_step(step(folder)) is not None


def test_what_a_step_reads_may_be_a_folder(folder):
    (folder / "docs").mkdir()
    (folder / "docs" / "a").write_text("1")
    made = Step(
        "list",
        [sys.executable, "-c", COPY, str(folder / "source"), str(folder / "out")],
        folder / "out",
        reads=(folder / "docs",),
    )
    run_step(made)
    assert run_step(made) is None
    (folder / "docs" / "a").rename(folder / "docs" / "b")
    assert run_step(made) is not None
    assert list(json.loads((folder / ".out.step.json").read_text())["reads"]) == [str(folder / "docs")]


def test_leftovers_of_a_killed_step_are_removed(folder):
    left = folder / "deep" / ".output.partial"
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    assert run_step(step(folder)) is not None
    assert not left.exists()
    assert (folder / "deep" / "output").read_text() == "onex"


@pytest.mark.parametrize("stamp", ["", "{", "[]", "{}"])
def test_a_step_with_a_damaged_stamp_is_done_again(folder, stamp):
    run_step(step(folder))
    (folder / "deep" / ".output.step.json").write_text(stamp)
    assert run_step(step(folder)) is not None
    assert run_step(step(folder)) is None
