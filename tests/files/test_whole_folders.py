"""A folder, or another program's output, appears under its name whole or not at all."""

import os
import signal
import subprocess
import sys
import time

import pytest

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import remove, sole_writer, whole_file, whole_folder, whole_output


def test_a_folder_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "out"
    with whole_folder(target) as partial:
        (partial / "a").write_text("a")
        assert not target.exists()
    assert [file.name for file in target.iterdir()] == ["a"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_program_makes_a_file_or_a_folder(tmp_path, is_folder):
    target = tmp_path / "out"
    with whole_output(target) as partial:
        assert not partial.exists()
        if is_folder:
            partial.mkdir()
        else:
            partial.write_text("a")
    assert target.is_dir() == is_folder
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_leaves_an_older_output_as_it_was(tmp_path):
    target = tmp_path / "out"
    with whole_folder(target) as partial:
        (partial / "old").touch()

    def fail():
        with whole_folder(target) as partial:
            (partial / "new").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [file.name for file in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_program_that_makes_nothing_leaves_an_older_output_as_it_was(tmp_path):
    target = tmp_path / "out"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), whole_output(target):
        pass
    assert target.read_text() == "old"


@pytest.mark.parametrize("old", ["file", "folder"])
def test_an_older_output_is_replaced(tmp_path, old):
    target = tmp_path / "out"
    if old == "file":
        target.write_text("old")
    else:
        (target / "deep").mkdir(parents=True)
    with whole_folder(target) as partial:
        (partial / "new").touch()
    assert [file.name for file in target.iterdir()] == ["new"]


KILLED = """
import sys, time
from pathlib import Path
from csplade_pyserini.files.whole import whole_folder
with whole_folder(Path(sys.argv[1])) as partial:
    (partial / "half").touch()
    print("inside", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_is_removed(tmp_path):
    target = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(target)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"inside\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not target.exists()
    with whole_folder(target) as partial:
        assert list(partial.iterdir()) == []
    assert list(tmp_path.iterdir()) == [target]


def test_bytes_are_written_whole_too(tmp_path):
    with whole_file(tmp_path / "out", "wb") as file:
        file.write(b"\x00\xff")
    assert (tmp_path / "out").read_bytes() == b"\x00\xff"


def test_remove_takes_files_folders_links_and_nothing(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    for name in ("link", "file", "folder", "nothing"):
        remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


WAITING = """
import sys, time
from pathlib import Path
from csplade_pyserini.files.whole import sole_writer
with sole_writer(Path(sys.argv[1]) / "lock", "out", wait=True):
    names = Path(sys.argv[1]).glob("inside-*")
    assert not list(names), "two writers at once"
    mark = Path(sys.argv[1]) / f"inside-{sys.argv[2]}"
    mark.touch()
    time.sleep(0.2)
    mark.unlink()
"""


def test_writers_that_wait_follow_one_another(tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-c", WAITING, str(tmp_path), str(number)]) for number in range(3)
    ]
    deadline = time.monotonic() + 60
    for process in processes:
        assert process.wait(timeout=max(1, deadline - time.monotonic())) == 0


def test_a_writer_that_waits_goes_on_in_one_process(tmp_path):
    with sole_writer(tmp_path / "lock", "out", wait=True):
        assert os.path.exists(tmp_path / "lock")
    assert not os.path.exists(tmp_path / "lock")


def test_a_lock_whose_folder_cannot_be_made_blames_no_other_process(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as error, sole_writer(tmp_path / "file" / "lock", "out"):
        pass
    assert str(error.value).startswith("cannot write out: ")
    assert "another process" not in str(error.value)
