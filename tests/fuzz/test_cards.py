"""Cards, manifests and checkpoint folders of any content are used, or exit code 2 and an error say which."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest
from broken_inputs import UNICODE, WRONG_VALUES, as_json, broken_bytes, broken_values

from csplade_pyserini import encode, index
from csplade_pyserini.cards.__main__ import main as cards
from csplade_pyserini.cards.card import EncoderCard, to_toml
from csplade_pyserini.collections.manifests import (
    VectorFile,
    encoder_of,
    manifest_path,
    read_collection_manifest,
    refuse_mismatch,
)
from csplade_pyserini.errors import InputError

CARD = to_toml(EncoderCard(name="mine"), with_defaults=True)
TOML_VALUES = {
    name: json.dumps(value)
    for name, value in WRONG_VALUES.items()
    if value is not None and "table" not in name and value == value and name != "infinity"
} | {
    "nan": "nan",
    "inf": "-inf",
    "date": "1979-05-27",
    "table": "{}",
    "nothing": "",
    "two": "1 2",
    "octal": "0o7",
    "lists": "[[1], {a = 1}]",
}
KEYS = [line.split(" = ")[0] for line in CARD.splitlines() if " = " in line]


@pytest.fixture
def folder(checkpoint_folder, tmp_path) -> Path:
    """A checkpoint folder to break."""
    return shutil.copytree(checkpoint_folder, tmp_path / "checkpoint")


@pytest.fixture(scope="module")
def collection(checkpoint_folder, tmp_path_factory) -> Path:
    """A small collection with its manifest."""
    place = tmp_path_factory.mktemp("collection")
    (place / "corpus.jsonl").write_text(
        '{"id": "1", "contents": "one"}\n{"id": "2", "contents": "two words"}\n'
    )
    assert (
        encode.main(
            [
                "--encoder",
                str(checkpoint_folder),
                "--corpus",
                str(place / "corpus.jsonl"),
                "--output",
                str(place / "vectors"),
            ]
        )
        == 0
    )
    return place / "vectors"


@pytest.mark.parametrize("value", TOML_VALUES.values(), ids=TOML_VALUES)
@pytest.mark.parametrize("key", KEYS)
def test_a_card_with_a_wrong_value_is_an_error_that_names_it(call, folder, key, value):
    lines = [f"{key} = {value}" if line.startswith(f"{key} = ") else line for line in CARD.splitlines()]
    (folder / "card.toml").write_text("\n".join(lines))
    done = call(cards, "--encoder", folder)
    if done.code:
        assert done.code == 2
        assert str(folder / "card.toml") in done.error
    else:
        check_shown(done.output, (folder / "card.toml").read_text())


@pytest.mark.parametrize(("name", "content"), [*broken_bytes(CARD.encode())])
def test_a_broken_card_is_an_error_that_names_it(call, folder, name, content):
    (folder / "card.toml").write_bytes(content)
    done = call(cards, "--encoder", folder)
    if done.code:
        assert done.code == 2
        assert str(folder / "card.toml") in done.error
    else:
        check_shown(done.output, content.decode())


def check_shown(shown: str, meant: str) -> None:
    """The card that is printed is the card of the file, with the default of each key that the file lacks."""
    defaults = {key: [] if value == () else value for key, value in vars(EncoderCard(name="mine")).items()}
    assert {"paper_scores": {}} | tomllib.loads(shown) == defaults | tomllib.loads(meant)


@pytest.mark.parametrize("name", [name for name, text in UNICODE.items() if text and "\x00" not in text])
def test_an_encoder_of_any_name_is_unknown(call, name):
    assert call(cards, f"--encoder={UNICODE[name]}").code == 2


FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("rule", [name for name, _ in broken_bytes(b"x")])
def test_a_checkpoint_with_a_broken_file_is_used_or_an_error(call, folder, tmp_path, file, rule):
    path = folder / file
    path.write_bytes(dict(broken_bytes(path.read_bytes()))[rule])
    check_encoding(call, folder, tmp_path)


@pytest.mark.parametrize(
    "rule",
    [
        name
        for name, _ in broken_values(
            {"model_type": 1, "vocab_size": 1, "hidden_size": 1, "num_hidden_layers": 1}
        )
    ],
)
def test_a_checkpoint_with_a_wrong_config_is_used_or_an_error(call, folder, tmp_path, rule):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    keys = {key: config[key] for key in ("model_type", "vocab_size", "hidden_size", "num_hidden_layers")}
    others = {key: value for key, value in config.items() if key not in keys}
    path.write_bytes(as_json(others | dict(broken_values(keys))[rule]))
    check_encoding(call, folder, tmp_path)


def check_encoding(call, folder: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"id": "1", "contents": "one document"}\n')
    done = call(encode.main, "--encoder", folder, "--corpus", corpus, "--output", tmp_path / "out")
    if done.code:
        assert done.code == 2, done
        assert not list(tmp_path.glob("out/*"))
        assert not (tmp_path / "out.partial").exists()
        return
    [file] = (tmp_path / "out").iterdir()
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["id"] == "1"
    assert record["vector"], "an encoder that was accepted gives a vector"
    assert all(type(impact) is int and impact >= 1 for impact in record["vector"].values())


MANIFEST_KEYS = ("encoder", "card", "arguments", "versions", "shards", "format", "documents")
SHARD_KEYS = ("file", "first", "documents", "empties", "terms", "impacts", "sha256")


def manifests(table: dict) -> dict[str, bytes]:
    """A manifest broken in every way."""
    broken = {
        f"manifest: {name}": as_json(value)
        for name, value in broken_values({key: table[key] for key in MANIFEST_KEYS})
    }
    for name, shard in broken_values({key: table["shards"][0][key] for key in SHARD_KEYS}):
        broken[f"shard: {name}"] = as_json(table | {"shards": [shard]})
    return broken | {f"bytes: {name}": content for name, content in broken_bytes(as_json(table))}


RULES = list(manifests(dict.fromkeys(MANIFEST_KEYS, "x") | {"shards": [dict.fromkeys(SHARD_KEYS, "x")]}))


@pytest.mark.parametrize("rule", RULES)
def test_a_collection_with_a_broken_manifest_is_refused_or_the_same_collection(
    call, checkpoint_folder, collection, rule
):
    """`encode` once more: it says that the collection is whole, and proves it, or refuses it."""
    whole = manifest_path(collection).read_bytes()
    manifest_path(collection).write_bytes(manifests(json.loads(whole))[rule])
    try:
        done = call(
            encode.main,
            "--encoder",
            checkpoint_folder,
            "--corpus",
            collection.parent / "corpus.jsonl",
            "--output",
            collection,
        )
        if done.code:
            assert str(collection) in done.error
            # There is no room for an index: it is read only.
            assert call(index.main, "--input", collection, "--index", collection).code
        else:
            # Nothing checks `first` and `impacts` here: `index` compares `impacts` with Lucene's own sum.
            accepted = read_collection_manifest(collection)
            meant = json.loads(whole)
            assert accepted.encoder == meant["encoder"]
            then = accepted.files
            now = [VectorFile(**shard) for shard in meant["shards"]]
            assert [(s.file, s.documents, s.empties, s.terms, s.sha256) for s in then] == [
                (s.file, s.documents, s.empties, s.terms, s.sha256) for s in now
            ]
    finally:
        manifest_path(collection).write_bytes(whole)


@pytest.mark.parametrize("rule", RULES)
def test_a_search_refuses_an_index_with_a_broken_manifest_in_one_sentence(tmp_path, rule):
    table = dict.fromkeys(MANIFEST_KEYS, "x") | {"shards": [dict.fromkeys(SHARD_KEYS, "x")]}
    (tmp_path / "index.manifest.json").write_bytes(manifests(table)[rule])
    try:
        refuse_mismatch(tmp_path / "index", "mine@1")
    except InputError as error:
        assert str(tmp_path / "index") in str(error)
        return
    assert encoder_of(tmp_path / "index") in ("mine@1", "", None), (
        "a search goes on with its own encoder, or with none"
    )
