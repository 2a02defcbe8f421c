"""Progress of shards: damaged, it is one sentence with the cure, from every command that reads it."""

import json
import shutil
from pathlib import Path

import pytest
from broken_inputs import broken_bytes, broken_values

from csplade_pyserini.collections.shards import merge_shards, missing_shards, progress_files, read_progress
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.files.tables import read_json

MADE = Path(__file__).parents[1] / "made_by_0_1_0"
NAME = "shard-0000-of-0002.json"
WHOLE = (MADE / "half.partial" / NAME).read_bytes()
KEYS = ("encoder", "card", "arguments", "documents", "digest", "shards")


@pytest.fixture
def output(tmp_path) -> Path:
    """A collection of which one of two shards is whole."""
    shutil.copytree(MADE / "half", tmp_path / "half")
    shutil.copytree(MADE / "half.partial", tmp_path / "half.partial")
    return tmp_path / "half"


@pytest.mark.parametrize(("name", "content"), [*broken_bytes(WHOLE)])
def test_damaged_progress_is_an_error_that_names_the_file_and_the_cure(output, name, content):
    [file] = progress_files(output)
    file.write_bytes(content)
    for read in (
        lambda: read_progress(file),
        lambda: merge_shards(output),
        lambda: missing_shards(output, 2),
    ):
        with pytest.raises(InputError) as error:
            read()
        assert str(file) in str(error.value)
        assert str(error.value).endswith(f"remove {file}, and encode that shard again")


def rules() -> list[str]:
    return [name for name, _ in broken_values(dict.fromkeys(KEYS))]


@pytest.mark.parametrize("rule", rules())
def test_progress_of_wrong_values_is_an_error_or_the_same_progress(output, rule):
    [file] = progress_files(output)
    table = read_json(file)
    file.write_text(json.dumps(dict(broken_values(table))[rule]))
    try:
        progress = read_progress(file)
    except InputError as problem:
        error = str(problem)
    else:
        error = ""
    if error:
        assert str(file) in error
        return
    wanted = {key: table[key] for key in ("encoder", "digest", "documents")}
    changed = [key for key, value in wanted.items() if getattr(progress, key) != value]
    assert not changed or rule.startswith(tuple(f"{key} is" for key in changed))


def test_missing_shards_are_named(output):
    assert missing_shards(output, 2) == ["shard-0001-of-0002"]
    with pytest.raises(CheckError, match="1 of 2 shards of .* are missing or not whole: shard-0001-of-0002"):
        merge_shards(output)
