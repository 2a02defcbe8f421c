"""A collection's parts hold each of its lines once, whatever their sizes."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csplade_pyserini.collections.vectors import collection_files
from csplade_pyserini.errors import InputError
from csplade_pyserini.lucene import parts
from csplade_pyserini.lucene.parts import part_lines, plan_parts

LINES = st.lists(
    st.text(st.characters(blacklist_characters="\n\ufeff", blacklist_categories=["Cs"]), max_size=30),
    min_size=1,
    max_size=20,
)


@given(files=st.lists(LINES, min_size=1, max_size=3), size=st.integers(1, 60), ends=st.booleans())
def test_every_line_that_is_not_blank_is_in_one_part_in_order_and_has_its_place(
    tmp_path_factory, files, size, ends
):
    folder = tmp_path_factory.mktemp("collection")
    wanted = []
    for number, lines in enumerate(files):
        text = "\n".join(lines) + ("\n" if ends else "")
        (folder / f"{number}.jsonl").write_bytes(text.encode())
        split = text.encode().split(b"\n")
        split = split[:-1] if split[-1] == b"" else split
        wanted += [
            (f"{folder}/{number}.jsonl:{place}", line.decode())
            for place, line in enumerate(split, start=1)
            if line.decode().strip()
        ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART_BYTES", size)
        planned = plan_parts(collection_files(folder))
    read = [(str(place), line.removesuffix("\n")) for part in planned for place, line in part_lines(part)]
    assert read == wanted


def test_a_large_collection_has_no_more_parts_than_can_be_open_together(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 10)
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_text("123456789\n" * 1000)
    assert parts.MOST_PARTS <= len(plan_parts(collection_files(tmp_path))) <= parts.MOST_PARTS + 3


def test_a_compressed_file_is_one_part(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 10)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"one\ntwo\n" * 100))
    [part] = plan_parts(collection_files(tmp_path))
    assert [line for _, line in part_lines(part)] == ["one\n", "two\n"] * 100


def test_what_is_not_utf_8_is_named_with_its_line(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"one\ntwo\n\xff\n")
    [part] = plan_parts(collection_files(tmp_path))
    with pytest.raises(InputError, match=r"a\.jsonl:3: cannot be read"):
        list(part_lines(part))


def test_a_folder_without_files_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no file; wanted a folder of JSONL files"):
        collection_files(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        collection_files(tmp_path / "nothing")
