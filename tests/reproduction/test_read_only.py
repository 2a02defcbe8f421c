"""A finished run that its reader may not change is verified all the same."""

import pytest

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.reproduce import write_or_keep


@pytest.fixture
def record(tmp_path):
    """A record that was written before."""
    (tmp_path / "record.json").write_text("before")
    return tmp_path / "record.json"


def write(path):
    with whole_file(path) as file:
        file.write("now")


def test_a_record_that_is_there_is_kept_and_the_user_told(record, as_nobody, capsys):
    write_or_keep(record, lambda: write(record))
    assert record.read_text() == "before"
    assert f"cannot write {record}: Permission denied; {record} is kept as it is" in capsys.readouterr().err


def test_a_record_that_is_not_there_cannot_be_kept(tmp_path, as_nobody):
    report = tmp_path / "report.html"
    with pytest.raises(InputError, match=f"cannot write {report}: Permission denied"):
        write_or_keep(report, lambda: write(report))


def test_a_record_that_can_be_written_is_written(tmp_path):
    write_or_keep(tmp_path / "record.json", lambda: write(tmp_path / "record.json"))
    assert (tmp_path / "record.json").read_text() == "now"
