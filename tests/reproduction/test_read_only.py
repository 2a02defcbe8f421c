"""A finished run that its reader may not change is verified all the same."""

import os

import pytest

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.reproduce import write_or_keep


@pytest.fixture
def read_only(tmp_path):
    """A folder with a record that nobody else may write; the rest of the test is somebody else."""
    (tmp_path / "record.json").write_text("before")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    if os.geteuid():
        tmp_path.chmod(0o555)
        yield tmp_path
        tmp_path.chmod(0o755)
    else:
        os.seteuid(65534)
        yield tmp_path
        os.seteuid(0)


def write(path):
    with whole_file(path) as file:
        file.write("now")


def test_a_record_that_is_there_is_kept_and_the_user_told(read_only, capsys):
    record = read_only / "record.json"
    write_or_keep(record, lambda: write(record))
    assert record.read_text() == "before"
    assert f"cannot write {record}: Permission denied; {record} is kept as it is" in capsys.readouterr().err


def test_a_record_that_is_not_there_cannot_be_kept(read_only):
    report = read_only / "report.html"
    with pytest.raises(InputError, match=f"cannot write {report}: Permission denied"):
        write_or_keep(report, lambda: write(report))


def test_a_record_that_can_be_written_is_written(tmp_path):
    write_or_keep(tmp_path / "record.json", lambda: write(tmp_path / "record.json"))
    assert (tmp_path / "record.json").read_text() == "now"
