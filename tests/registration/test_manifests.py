"""Manifests of stock output tell what the stock command wrote."""

import json

import pytest

from csplade_pyserini.collections.manifests import read_collection_manifest
from csplade_pyserini.collections.vectors import describe_file
from csplade_pyserini.errors import InputError
from csplade_pyserini.impacts import empty_term
from csplade_pyserini.registration.manifests import stamp_collection


def write(file, *records):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def test_documents_without_any_term_are_counted(checkpoint_folder, tmp_path):
    reserved = empty_term([])
    write(
        tmp_path / "vectors" / "a.jsonl",
        {"id": "1", "contents": "", "vector": {"a": 3, "b": 2}},
        {"id": "2", "contents": "", "vector": {reserved: 1}},
        {"id": "3", "contents": "", "vector": {f"[{reserved}]": 1}},
    )
    assert stamp_collection(str(checkpoint_folder), tmp_path / "vectors") == ""
    manifest = read_collection_manifest(tmp_path / "vectors")
    assert (manifest.documents, manifest.empties, manifest.terms) == (3, 2, 4)
    assert manifest.files[0].impacts == 7


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"id": "1"}, "no vector; Anserini would lose this record"),
        ({"vector": {}}, "no id; Anserini would lose this record"),
        ({"id": "1", "vector": [1]}, "the vector is list; wanted an object"),
        ({"id": "1", "vector": {"a": 0.5}}, "the impact of 'a' is 0.5; wanted a whole number"),
        ({"id": "a b", "vector": {"a": 1}}, "the docid is 'a b'"),
    ],
)
def test_a_record_that_anserini_would_lose_is_an_error_with_its_place(tmp_path, record, problem):
    file = write(tmp_path / "a.jsonl", {"id": "0", "vector": {"a": 1}}, record)
    with pytest.raises(InputError) as error:
        describe_file(file)
    assert str(error.value).startswith(f"{file}:2: {problem}")
