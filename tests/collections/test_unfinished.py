"""A collection that is not whole is refused, and what it lacks is named; one of other people is not."""

import shutil
from pathlib import Path

import pytest

from csplade_pyserini.collections.shards import partial_folder
from csplade_pyserini.collections.unfinished import refuse_unfinished, stock_mark
from csplade_pyserini.errors import CheckError, InputError

MADE = Path(__file__).parents[1] / "made_by_0_1_0"
RECORD = '{"id": "1", "contents": "", "vector": {"a": 1}}\n'


@pytest.fixture
def half(tmp_path) -> Path:
    """A collection of which one of two shards is whole."""
    shutil.copytree(MADE / "half", tmp_path / "half")
    shutil.copytree(MADE / "half.partial", tmp_path / "half.partial")
    return tmp_path / "half"


@pytest.fixture
def whole(tmp_path) -> Path:
    shutil.copytree(MADE / "vectors", tmp_path / "vectors")
    shutil.copy(MADE / "vectors.manifest.json", tmp_path)
    return tmp_path / "vectors"


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(RECORD)
    return folder


def error_of(collection: Path, **flags: bool) -> str:
    with pytest.raises(InputError) as error:
        refuse_unfinished(collection, **flags)
    assert str(error.value).startswith(str(collection))
    return str(error.value)


@pytest.mark.parametrize("flags", [{}, {"without_manifest": True}, {"only_ours": True}])
def test_work_in_progress_names_the_shards_that_are_missing(half, flags):
    assert "is unfinished, shard-0001-of-0002 missing; run the command" in error_of(half, **flags)


def test_a_shard_that_is_not_whole_names_its_documents(half):
    [progress] = half.with_name("half.partial").glob("*.json")
    progress.write_text(progress.read_text().replace('"documents": 6', '"documents": 259', 1))
    assert "253 of 259 documents of shard-0000-of-0002, shard-0001-of-0002 missing" in error_of(half)


def test_whole_shards_that_nobody_merged_name_the_command(half):
    [progress] = half.with_name("half.partial").glob("*.json")
    text = progress.read_text().replace('"shard_num": 2', '"shard_num": 1')
    progress.rename(progress.with_name("shard-0000-of-0001.json")).write_text(text)
    assert f"csplade_pyserini.encode --merge --output {half}" in error_of(half)


def test_a_lock_alone_is_work_in_progress(tmp_path):
    collection = write(tmp_path / "vectors", "docs.jsonl")
    (tmp_path / "vectors.partial").mkdir()
    assert "its work in progress is in " in error_of(collection)


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["shard-0000-of-0002-00000.jsonl"], "shard-0001-of-0002"),
        (
            ["shard-0000-of-0001-00000.jsonl", "shard-0000-of-0001-00002.jsonl"],
            "shard-0000-of-0001-00001.jsonl",
        ),
        (["a/shard-0000-of-0003-00000.jsonl", "b/shard-0002-of-0003-00000.jsonl"], "shard-0001-of-0003"),
    ],
)
def test_names_of_ours_promise_shards_and_files(tmp_path, names, missing):
    collection = write(tmp_path / "vectors", *names)
    for flags in ({}, {"without_manifest": True}, {"only_ours": True}):
        assert f"its file names promise more: {missing} missing; copy vectors.manifest.json" in error_of(
            collection, **flags
        )


def test_files_of_ours_without_a_manifest_are_taken_only_if_one_says_so(whole):
    whole.with_name("vectors.manifest.json").unlink()
    message = error_of(whole)
    assert "vectors.manifest.json does not exist: nobody can say whether they are all" in message
    assert "--without-manifest" in message
    error_of(whole, only_ours=True)
    refuse_unfinished(whole, without_manifest=True)


@pytest.mark.parametrize(
    "names",
    [
        ["docs-0.jsonl", "docs-7.jsonl"],
        ["embeddings.jsonl"],
        ["part-00000-of-00002.jsonl", "part-00001-of-00002.jsonl"],
        ["part-1-of-2.jsonl.gz", "part-2-of-2.jsonl.gz"],
        ["shard-0.jsonl"],
    ],
)
def test_whole_collections_of_other_people_are_accepted(tmp_path, names):
    refuse_unfinished(write(tmp_path / "theirs", *names))


def test_shards_of_other_people_promise_too_but_not_to_their_own_programs(tmp_path):
    collection = write(tmp_path / "theirs", "part-00000-of-00003.jsonl", "part-00002-of-00003.jsonl")
    assert "part-00001-of-00003 missing; add them, or rename the files" in error_of(collection)
    refuse_unfinished(collection, only_ours=True)


def test_a_whole_collection_is_accepted_even_if_a_stop_left_its_work(whole):
    refuse_unfinished(whole)
    partial_folder(whole).mkdir()
    refuse_unfinished(whole)


def test_what_pyserini_encode_was_filling_is_unfinished(tmp_path, whole):
    collection = write(tmp_path / "stock", "embeddings.jsonl")
    for folder in (collection, whole):
        stock_mark(folder).parent.mkdir()
        stock_mark(folder).write_text("{}")
    assert "pyserini.encode has not ended well there" in error_of(collection)
    refuse_unfinished(whole)  # it has written nothing yet
    first = min(whole.iterdir())
    first.write_text(RECORD)
    with pytest.raises(CheckError, match="has changed since it was written"):
        refuse_unfinished(whole)


def test_a_link_to_an_unfinished_collection_is_one(half, tmp_path):
    (tmp_path / "link").symlink_to(half)
    assert "shard-0001-of-0002 missing" in error_of(tmp_path / "link")
