"""The encoder that made an index, by its manifest and by the index itself."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from csplade_pyserini.cards import card_table, find_checkpoint
from csplade_pyserini.collections.manifests import (
    CollectionManifest,
    IndexManifest,
    index_commit,
    manifest_path,
    refuse_mismatch,
    write_manifest,
)
from csplade_pyserini.collections.vectors import DELIMITER
from csplade_pyserini.errors import InputError
from csplade_pyserini.lucene import classes, makers
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.lucene.makers import commit_table, knows_encoder, maker_name, maker_of, stored_maker
from csplade_pyserini.lucene.postings import PostingsWriter, count_index, merge_indexes, store_table

pytestmark = pytest.mark.jvm


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """An index that names no encoder."""
    prepare_java()
    folder = tmp_path_factory.mktemp("makers")
    for number in range(2):
        writer = PostingsWriter(folder / f"part-{number}", store_raw=False)
        writer.add(str(number), f"a{DELIMITER}3 b{DELIMITER}2", "")
        writer.close()
    parts = [folder / f"part-{number}" for number in range(2)]
    merge_indexes(parts, folder / "index", optimize=False, table={})
    return folder / "index"


def collection_by(name: str) -> CollectionManifest:
    checkpoint = find_checkpoint(name)
    return CollectionManifest(
        encoder=checkpoint.identity,
        card=card_table(checkpoint.stored_card),
        arguments={"encoder_name": checkpoint.lasting_name(name)},
        versions={},
        files=(),
    )


@pytest.fixture
def index(bare, tmp_path) -> Path:
    return Path(shutil.copytree(bare, tmp_path / "index"))


def write_index_manifest(index: Path, **changes: str) -> None:
    manifest = IndexManifest(
        encoder="", collection="", documents=2, postings=4, bytes=1, seconds=0.0, commit=index_commit(index)
    )
    write_manifest(dataclasses.replace(manifest, **changes), index)


def test_an_index_of_nobody_names_no_encoder(index, tmp_path):
    assert stored_maker(index) is None
    assert maker_of(index) is None
    assert not knows_encoder(index)
    makers.refuse_mismatch(index, "anybody@1")
    with pytest.raises(InputError, match="has no manifest that names its encoder: --encoder names it"):
        maker_name(index)
    for nothing in (tmp_path / "none", tmp_path):
        assert maker_of(nothing) is None
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "segments_1").write_bytes(b"nonsense")
    assert maker_of(tmp_path / "broken") is None


def test_a_commit_keeps_encoder_and_card_and_changes_nothing_else(index):
    before = count_index(index)
    files = {file.name for file in index.iterdir() if not file.name.startswith("segments_")}
    manifest = collection_by("csplade-tiny")
    store_table(index, commit_table(manifest))
    found = stored_maker(index)
    assert found is not None
    assert (found.identity, found.name) == (manifest.encoder, "csplade-tiny")
    assert found.card == json.loads(json.dumps(manifest.card))
    assert count_index(index) == before
    assert {file.name for file in index.iterdir() if not file.name.startswith("segments_")} == files
    assert maker_name(index) == "csplade-tiny"


def test_it_survives_a_merge_that_keeps_it_and_a_later_commit_of_another_program(bare, index, tmp_path):
    table = commit_table(collection_by("csplade-tiny"))
    merge_indexes([bare, index], tmp_path / "merged", optimize=True, table=table)
    assert maker_name(tmp_path / "merged") == "csplade-tiny"
    config = classes.IndexWriterConfig()
    writer = classes.IndexWriter(classes.open_directory(tmp_path / "merged"), config)
    document = classes.Document()
    document.add(classes.StringField("another field", "new", classes.FieldStore.YES))
    writer.addDocument(document)
    writer.close()
    assert maker_name(tmp_path / "merged") == "csplade-tiny"


def test_without_a_table_no_commit_is_made(index):
    before = index_commit(index)
    store_table(index, commit_table(None))
    assert index_commit(index) == before


def test_a_folder_is_found_where_it_was_and_not_where_it_is_not(
    index, checkpoint_folder, tmp_path, monkeypatch
):
    folder = Path(shutil.copytree(checkpoint_folder, tmp_path / "mine"))
    monkeypatch.chdir(tmp_path)
    store_table(index, commit_table(collection_by("mine")))
    monkeypatch.chdir(tmp_path.parent)
    assert maker_name(index) == str(folder)
    write_index_manifest(index, encoder=find_checkpoint(str(folder)).identity, encoder_name=str(folder))
    assert maker_name(index) == str(folder)
    folder.rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"was encoded by in-memory-llama@.*, which is not here: --encoder"):
        maker_name(index)


def test_another_encoder_of_the_name_is_refused_or_meant(index, checkpoint_folder, monkeypatch):
    manifest = collection_by(str(checkpoint_folder))
    store_table(index, commit_table(dataclasses.replace(manifest, encoder="in-memory-llama@0-0-0")))
    with pytest.raises(InputError, match="was encoded by in-memory-llama@0-0-0, the queries by in-memory-ll"):
        maker_name(index)
    monkeypatch.setenv("CSPLADE_ALLOW_MISMATCH", "1")
    assert maker_name(index) == str(checkpoint_folder)


def test_an_older_manifest_names_a_card_alone(index):
    write_index_manifest(index, encoder=find_checkpoint("csplade-tiny").identity)
    assert maker_name(index) == "csplade-tiny"


def test_the_manifest_wins_and_one_that_names_nobody_leaves_it_unknown(index):
    store_table(index, commit_table(collection_by("csplade-tiny")))
    write_index_manifest(index)
    assert maker_of(index) is None
    manifest_path(index).write_text("{")
    assert knows_encoder(index)
    with pytest.raises(InputError, match="is not JSON"):
        maker_of(index)


def test_a_copy_without_its_manifest_refuses_the_queries_of_another_encoder(index, monkeypatch):
    manifest = collection_by("csplade-tiny")
    store_table(index, commit_table(manifest))
    makers.refuse_mismatch(index, manifest.encoder)
    makers.refuse_mismatch(index, None)
    refuse_mismatch(index, "another@1")  # the manifest's part knows no Java
    with pytest.raises(InputError, match="the queries by another@1"):
        makers.refuse_mismatch(index, "another@1")
    monkeypatch.setenv("CSPLADE_ALLOW_MISMATCH", "1")
    makers.refuse_mismatch(index, "another@1")
