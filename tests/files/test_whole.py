import contextlib
import errno

import pytest
from filelock import FileLock

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import sole_writer, whole_file


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_the_block_ends_and_only_then(tmp_path):
    path = tmp_path / "out.jsonl"
    with whole_file(path) as file:
        file.write("Zürich\n日本\n")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == "Zürich\n日本\n".encode()
    assert names(tmp_path) == ["out.jsonl"]


@pytest.mark.parametrize(
    "error", [RuntimeError("broken"), KeyboardInterrupt(), SystemExit(1), InputError("bad")]
)
def test_nothing_stays_after_an_exception(tmp_path, error):
    def write():
        with whole_file(tmp_path / "out.jsonl") as file:
            file.write("half a line")
            file.flush()
            raise error

    with pytest.raises(type(error)) as raised:
        write()
    assert raised.value is error
    assert names(tmp_path) == []


def test_the_file_before_stays_after_an_exception_and_goes_after_success(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("before\n")

    def write(then):
        with whole_file(path) as file:
            file.write("now\n")
            then()

    with pytest.raises(ZeroDivisionError):
        write(lambda: 1 / 0)
    assert path.read_text() == "before\n"
    write(lambda: None)
    assert path.read_text() == "now\n"
    assert names(tmp_path) == ["out.jsonl"]


def test_parent_folders_are_made(tmp_path):
    with whole_file(tmp_path / "a" / "b" / "out.txt") as file:
        file.write("text")
    assert (tmp_path / "a" / "b" / "out.txt").read_text() == "text"


def test_what_cannot_be_written_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("a file, not a folder")
    (tmp_path / "folder").mkdir()
    for path in (
        tmp_path / "file" / "out.txt",
        tmp_path / "file" / "deeper" / "out.txt",
        tmp_path / "folder",
    ):
        with pytest.raises(InputError) as error, whole_file(path) as file:
            file.write("text")
        assert str(error.value).startswith(f"cannot write {path}: ")
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "a file, not a folder"


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    with (
        pytest.raises(InputError, match="No space left on device") as error,
        whole_file(tmp_path / "out.txt") as file,
    ):
        raise OSError(28, "No space left on device")
    assert str(error.value).startswith(f"cannot write {tmp_path / 'out.txt'}: ")
    assert file.closed
    assert names(tmp_path) == []


def test_a_name_too_long_is_an_error(tmp_path):
    with pytest.raises(InputError, match="cannot write"), whole_file(tmp_path / ("x" * 300)):
        pass


def test_a_lock_goes_with_its_block_and_its_empty_folder_too(tmp_path):
    for left, after in (("", []), ("left.txt", ["out.partial"])):
        with sole_writer(tmp_path / "out.partial" / "lock", "out"):
            if left:
                (tmp_path / "out.partial" / left).write_text("work in progress")
            with (
                pytest.raises(InputError, match=r"another process is writing out \(it holds "),
                sole_writer(tmp_path / "out.partial" / "lock", "out"),
            ):
                pass
        assert names(tmp_path) == after


def test_a_lock_that_cannot_be_had_is_an_error_and_stays_as_it_was(tmp_path):
    (tmp_path / "lock").mkdir()
    with (
        pytest.raises(InputError, match=f"cannot write out: {tmp_path / 'lock'}: Is a directory"),
        sole_writer(tmp_path / "lock", "out"),
    ):
        pass
    assert names(tmp_path) == ["lock"]


@pytest.mark.parametrize(
    ("number", "goes_on"),
    [(errno.ENOLCK, True), (errno.ENOSYS, True), (errno.EACCES, False), (errno.ENOENT, False)],
)
def test_a_file_system_without_locks_is_written_to_and_the_user_told(
    tmp_path, monkeypatch, capsys, number, goes_on
):
    def acquire(*_, **__):
        raise OSError(number, "what the file system says")

    monkeypatch.setattr(FileLock, "acquire", acquire)
    done = []
    outcome = (
        contextlib.nullcontext() if goes_on else pytest.raises(InputError, match="what the file system says")
    )
    with outcome, sole_writer(tmp_path / "lock", "out"):
        done.append(True)
    assert bool(done) == goes_on
    assert ("make sure that no other process writes out" in capsys.readouterr().err) == goes_on
