"""Outputs behind links, in mount points, on other file systems, on devices."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import NOBODY

from csplade_pyserini.collections.manifests import QueriesManifest, encoder_of, manifest_path, write_manifest
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import (
    check_moving,
    is_empty_folder,
    is_mount_point,
    put_folder,
    sole_writer,
    whole_file,
    whole_folder,
    work_folder,
)

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def elsewhere(tmp_path) -> Iterator[Path]:
    """A folder on another file system than tmp_path."""
    if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
        yield Path(folder)


@pytest.fixture(params=["tmpfs", "bind"])
def mount_point(tmp_path, request) -> Iterator[Path]:
    """A mount point: of another file system, and of a folder on the same one."""
    target = tmp_path / "a mount"
    source = tmp_path / "source"
    target.mkdir()
    source.mkdir()
    kind = ["-t", "tmpfs", "none"] if request.param == "tmpfs" else ["--bind", source]
    if subprocess.run(["mount", *kind, target], capture_output=True, check=False).returncode:
        pytest.skip("may not mount here: run it as root")
    yield target
    subprocess.run(["umount", target], check=True)


def fill_and_check(target: Path) -> None:
    """Make a folder at a place twice, the second time in place of the first."""
    for name in ("first", "second"):
        with whole_folder(target) as partial:
            (partial / name).write_text(name)
            (partial / "deep").mkdir()
        assert sorted(path.name for path in target.iterdir()) == ["deep", name]


def test_a_folder_behind_a_link_to_another_file_system_is_filled_there(tmp_path, elsewhere):
    (tmp_path / "link").symlink_to(elsewhere / "there")
    fill_and_check(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in elsewhere.iterdir()] == ["there"]
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_a_file_behind_a_link_to_another_file_system_is_written_there(tmp_path, elsewhere):
    (tmp_path / "link").symlink_to(elsewhere / "there")
    for text in ("first", "second"):
        with whole_file(tmp_path / "link") as file:
            file.write(text)
        assert (elsewhere / "there").read_text() == text
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in elsewhere.iterdir()] == ["there"]


def test_a_mount_point_is_filled_inside(mount_point):
    assert is_mount_point(mount_point)
    assert is_empty_folder(mount_point)
    assert work_folder(mount_point).parent == mount_point
    fill_and_check(mount_point)
    assert not is_empty_folder(mount_point)


def test_lucene_s_list_of_segments_comes_last_into_a_mount_point(mount_point, monkeypatch):
    source = work_folder(mount_point) / "index"
    source.mkdir(parents=True)
    for name in ("segments_1", "_0.doc", "write.lock", "zzz"):
        (source / name).touch()
    moved = []
    real = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, to: moved.append(path.name) or real(path, to))
    put_folder(source, mount_point)
    assert moved[-1] == "segments_1"
    assert {path.name for path in mount_point.iterdir()} == {*moved, ".partial"}


def test_a_mounted_file_is_written_in_place(tmp_path):
    (tmp_path / "source").touch()
    (tmp_path / "file").touch()
    command = ["mount", "--bind", tmp_path / "source", tmp_path / "file"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount here: run it as root")
    try:
        with whole_file(tmp_path / "file") as file:
            file.write("text")
    finally:
        subprocess.run(["umount", tmp_path / "file"], check=True)
    assert (tmp_path / "source").read_text() == "text"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "source"]


def test_moving_is_tried_before_the_work(tmp_path, mount_point):
    outside = mount_point.with_name("outside")
    outside.mkdir()
    with pytest.raises(InputError, match=r"cannot write .*Invalid cross-device link.*choose another folder"):
        check_moving(outside, mount_point)
    work = work_folder(mount_point)
    work.mkdir()
    before = sorted(tmp_path.rglob("*"))
    check_moving(work, mount_point)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("words", [".", "./", "../here", "link", "link/."])
def test_every_spelling_of_a_folder_has_its_work_and_manifest_beside_the_folder(tmp_path, monkeypatch, words):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    path = Path(words)
    assert work_folder(path).resolve() == tmp_path / "here.partial"
    assert manifest_path(path).resolve() == tmp_path / "here.manifest.json"


def test_the_root_of_the_file_system_is_no_output():
    for make in (work_folder, manifest_path):
        with pytest.raises(InputError, match="/ is the root of the file system"):
            make(Path("/"))


def test_a_device_is_written_to_and_stays_a_device(tmp_path):
    with whole_file(Path("/dev/null")) as file:
        file.write("text")
    assert Path("/dev/null").is_char_device()
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with whole_file(tmp_path / "pipe") as file:
        file.write("text")
    assert os.read(reader, 99) == b"text"
    os.close(reader)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_link_has_the_manifest_of_what_it_links_to(tmp_path):
    manifest = QueriesManifest(encoder="words@1", topics="", queries=1, empties=0)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "real")
    (tmp_path / "folder").symlink_to(tmp_path / "deep")
    write_manifest(manifest, tmp_path / "link")
    assert (tmp_path / "deep" / "real.manifest.json").is_file()
    for path in (tmp_path / "link", tmp_path / "deep" / "real", tmp_path / "folder" / "real"):
        assert encoder_of(path) == "words@1"


def test_a_manifest_that_an_older_version_wrote_beside_a_link_is_still_found(tmp_path):
    (tmp_path / "deep" / "real").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "real")
    write_manifest(QueriesManifest(encoder="words@1", topics="", queries=1, empties=0), tmp_path / "link")
    (tmp_path / "deep" / "real.manifest.json").rename(tmp_path / "link.manifest.json")
    assert encoder_of(tmp_path / "link") == "words@1"


def test_a_lock_in_another_user_s_folder_says_whose_it_is(tmp_path, as_nobody):
    with pytest.raises(InputError) as error, sole_writer(tmp_path / "lock", "out"):
        pass
    assert str(error.value) == f"cannot write out: {tmp_path} belongs to root: Permission denied"
    with pytest.raises(InputError, match="cannot write out: "), sole_writer(tmp_path / "x" / "lock", "out"):
        pass


def test_a_lock_that_a_killed_process_of_another_user_left_is_free(shown, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    work.chmod(0o777)
    program = (
        "import os, sys; from pathlib import Path; from csplade_pyserini.files.whole import sole_writer\n"
        "with sole_writer(Path(sys.argv[1]), 'out'): os._exit(9)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, work / "lock"], umask=0o022, check=False, capture_output=True
    )
    assert killed.returncode == 9, killed.stderr
    assert (work / "lock").exists()
    os.seteuid(NOBODY)
    try:
        with sole_writer(work / "lock", "out"):
            pass
    finally:
        os.seteuid(0)
