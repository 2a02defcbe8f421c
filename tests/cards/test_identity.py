"""An identity covers every byte that changes a vector, is computed once, and knows older ones."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from csplade_pyserini.cards import Checkpoint, EncoderCard, find_checkpoint, hashes, same_encoder, write_card

MIDDLE = 3 * 2**20


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CSPLADE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def checkpoint(folder: Path, base: Path | None = None, **files: bytes) -> str:
    """Make a folder with these files, and return the identity of its encoder. `__` in a name is a dot."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    write_card(EncoderCard(name="mine", base=str(base or "")), folder / "card.toml")
    return find_checkpoint(str(folder)).identity


def large(middle: bytes = b"\0") -> bytes:
    """Weights that differ in the middle alone."""
    return bytes(MIDDLE) + middle + bytes(MIDDLE)


WHOLE = {"model__safetensors": large(), "config__json": b"{}", "tokenizer__json": b"{}"}
ADAPTER = {"adapter_model__safetensors": large(), "adapter_config__json": b"{}"}
OTHER_FILES = {
    "a middle layer": {"model__safetensors": large(b"1")},
    "config": {"config__json": b'{"rope_theta": 1}'},
    "tokenizer": {"tokenizer__json": b'{"a": 1}'},
    "tokenizer's config": {"tokenizer_config__json": b"{}"},
    "special tokens": {"special_tokens_map__json": b"{}"},
}


@pytest.mark.parametrize("part", OTHER_FILES)
def test_every_part_of_whole_weights_counts(tmp_path, part):
    one = checkpoint(tmp_path / "one", **WHOLE)
    assert checkpoint(tmp_path / "again", **WHOLE) == one
    other = checkpoint(tmp_path / "other", **WHOLE | OTHER_FILES[part])
    assert other != one
    assert not same_encoder(one, other)


def test_a_middle_layer_of_a_shard_counts(tmp_path):
    index = (
        b'{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    )
    shards = {"model__safetensors__index__json": index}
    one, other = (
        checkpoint(
            tmp_path / str(number),
            **shards,
            **{
                "model-00001-of-00002__safetensors": large(),
                "model-00002-of-00002__safetensors": large(middle),
            },
        )
        for number, middle in enumerate((b"1", b"2"))
    )
    assert one != other


@pytest.mark.parametrize("changed", ["adapter", "adapter's config", "base", "base's config"])
def test_every_part_of_an_adapter_and_its_base_counts(tmp_path, changed):
    bases = [tmp_path / "base", tmp_path / "another"]
    for base in bases:
        checkpoint(base, **WHOLE)
    adapter = dict(ADAPTER)
    one = checkpoint(tmp_path / "one", bases[0], **adapter)
    if changed == "adapter":
        adapter["adapter_model__safetensors"] = large(b"1")
    elif changed == "adapter's config":
        adapter["adapter_config__json"] = b'{"lora_alpha": 8}'
    elif changed == "base":
        (bases[0] / "model.safetensors").write_bytes(large(b"1"))
    else:
        (bases[0] / "config.json").write_bytes(b'{"rope_theta": 1}')
    assert checkpoint(tmp_path / "other", bases[0], **adapter) != one


def test_a_large_file_is_hashed_once(tmp_path, home, monkeypatch):
    one = checkpoint(tmp_path / "one", **WHOLE)
    assert not home.exists(), "a file as new as this may change within the tick of its clock"
    monkeypatch.setattr(hashes, "_SETTLED_SECONDS", -1.0)
    assert find_checkpoint(str(tmp_path / "one")).identity == one
    read: list[Path] = []
    plain = hashes.file_hash
    monkeypatch.setattr(hashes, "file_hash", lambda path: read.append(path.name) or plain(path))
    assert find_checkpoint(str(tmp_path / "one")).identity == one
    assert read == ["config.json", "tokenizer.json"]


@pytest.mark.parametrize("keep_time", [True, False])
@pytest.mark.parametrize("replace", [True, False])
def test_a_changed_file_is_hashed_again(tmp_path, home, monkeypatch, keep_time, replace):
    """Also one of the same size and time of modification, in place or put in its place."""
    monkeypatch.setattr(hashes, "_SETTLED_SECONDS", -1.0)
    file = tmp_path / "weights"
    file.write_bytes(large())
    status = file.stat()
    assert hashes.cached_hash(file, home) == hashlib.sha256(large()).hexdigest()
    time.sleep(0.02)
    changed = tmp_path / "new" if replace else file
    changed.write_bytes(large(b"1"))
    if keep_time:
        os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
    changed.replace(file)
    assert hashes.cached_hash(file, home) == hashlib.sha256(large(b"1")).hexdigest()


@pytest.mark.parametrize("content", ["", "[]", '{"made_of": 1, "sha256": "0"}', "{"])
def test_a_damaged_record_costs_only_time(tmp_path, home, monkeypatch, content):
    monkeypatch.setattr(hashes, "_SETTLED_SECONDS", -1.0)
    file = tmp_path / "weights"
    file.write_bytes(large())
    wanted = hashes.cached_hash(file, home)
    [record] = (home / "hashes").iterdir()
    record.write_text(content)
    assert hashes.cached_hash(file, home) == wanted


def test_a_home_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch):
    monkeypatch.setattr(hashes, "_SETTLED_SECONDS", -1.0)
    file = tmp_path / "weights"
    file.write_bytes(large())
    (tmp_path / "no-folder").touch()
    assert hashes.cached_hash(file, tmp_path / "no-folder") == hashlib.sha256(large()).hexdigest()


def test_an_identity_of_an_older_manifest_is_recognised(tmp_path):
    """It is the first part of today's: name, card hash, and the ends of the weights."""
    one = checkpoint(tmp_path / "one", **WHOLE)
    old, _, _ = one.rpartition("-")
    digest = hashlib.sha256(b"@+")
    for part in (f"model.safetensors {len(large())}".encode(), bytes(2**20), bytes(2**20)):
        digest.update(part)
    card = EncoderCard(name="mine")
    assert old == f"mine@{card.hash()[:16]}-{digest.hexdigest()[:16]}"
    assert same_encoder(old, one)
    assert same_encoder(one, old)
    longer = checkpoint(tmp_path / "longer", **WHOLE | {"model__safetensors": large() + b"1"})
    assert not same_encoder(old, longer)
    assert not same_encoder("mine", one.replace("@", "1@"))


def test_a_name_that_begins_as_another_is_no_older_identity():
    assert not same_encoder("mine@1-2", "mine@1-22-3")
    assert not same_encoder("mine", "mine2@1-2-3")


def test_a_checkpoint_without_a_folder_has_a_fingerprint():
    assert len(Checkpoint(EncoderCard(name="a", base="package:nobody_has_this"), None).fingerprint) == 16
