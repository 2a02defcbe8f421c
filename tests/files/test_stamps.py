"""A change of inputs is refused, or the work is done again; equal inputs are known again."""

import json
import os

import pytest

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.stamps import (
    content_hash,
    is_made_of,
    read_stamp,
    refuse_changes,
    write_made_of,
    write_stamp,
)

MADE_OF = {"encoder": "a@1", "fields": ("title", "text"), "numbers": {"1": 2.0}, "nothing": None}
SENTENCE = "{place} was made with {key} {before}, now {now}"
CHANGES = [
    {"encoder": "b@1"},
    {"fields": ["title"]},
    {"numbers": {"1": 3.0}},
    {"nothing": 0},
    {"more": 1},
]


def test_equal_values_are_no_change(tmp_path):
    before = json.loads(json.dumps(MADE_OF))
    refuse_changes(before, MADE_OF, tmp_path, SENTENCE)
    refuse_changes(before | {"older": 1}, MADE_OF, tmp_path, SENTENCE)


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_refused_with_both_values(tmp_path, change):
    [(key, now)] = change.items()
    with pytest.raises(InputError) as error:
        refuse_changes(MADE_OF, MADE_OF | change, tmp_path / "{odd}", SENTENCE)
    wanted = f"{tmp_path}/{{odd}} was made with {key} {MADE_OF.get(key)!r}, now {now!r}"
    assert str(error.value) == wanted


def test_a_stamp_gives_its_results_back_for_the_same_inputs(tmp_path):
    write_stamp(tmp_path / "stamp", MADE_OF, scores={"a": 1})
    assert read_stamp(tmp_path / "stamp", MADE_OF) == {"scores": {"a": 1}}
    for change in CHANGES:
        assert read_stamp(tmp_path / "stamp", MADE_OF | change) == {}


def test_inputs_alone_are_known_again(tmp_path):
    write_made_of(tmp_path / "stamp", MADE_OF)
    assert is_made_of(tmp_path / "stamp", MADE_OF)
    for change in CHANGES:
        assert not is_made_of(tmp_path / "stamp", MADE_OF | change)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_missing_or_damaged_stamp_is_of_nothing(tmp_path, content):
    if content is not None:
        (tmp_path / "stamp").write_bytes(content)
    assert read_stamp(tmp_path / "stamp", MADE_OF) == {}
    assert not is_made_of(tmp_path / "stamp", MADE_OF)


def test_a_folders_hash_tells_names_and_contents(tmp_path):
    def folder(name: str, **files: str) -> str:
        for file, text in files.items():
            path = tmp_path / name / file.replace("_", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return content_hash(tmp_path / name)

    first = folder("first", a="1", b_c="2")
    assert folder("same", a="1", b_c="2") == first
    others = [folder("other", a="1", b_c="3"), folder("moved", a="1", b_d="2"), folder("less", a="1")]
    assert len({first, *others}) == 4


def test_a_file_that_is_written_again_is_read_again(tmp_path):
    file = tmp_path / "file"
    file.write_text("one")
    first = content_hash(file)
    file.write_text("two")
    os.utime(file, (1, 1))
    assert content_hash(file) != first
