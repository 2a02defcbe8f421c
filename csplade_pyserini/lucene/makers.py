"""The encoder that made an index: named by its manifest, and by the index itself.

Lucene keeps a small table with each commit. `index` writes the encoder and its card there, so that an index
that was copied without its manifest still knows them.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from csplade_pyserini.cards import find_maker
from csplade_pyserini.collections import manifests
from csplade_pyserini.collections.index_shards import index_folders
from csplade_pyserini.collections.manifests import (
    NAME_KEY,
    CollectionManifest,
    manifest_path,
    refuse_other_encoder,
)
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.json_text import parse_json
from csplade_pyserini.files.tables import read_json
from csplade_pyserini.lucene import classes
from csplade_pyserini.lucene.classes import COLLECTION, COMMIT_PREFIX, SHARD, java_errors, open_directory


@dataclass(frozen=True, kw_only=True)
class Maker:
    """The encoder that made an index."""

    identity: str
    name: str = ""
    """Card, folder or hub id, as `--encoder` takes it, where the index was made; empty if unknown."""
    card: dict[str, Any] = field(default_factory=dict)
    """The card as a table; empty if only the manifest is there, which has none."""


def maker_of(index: Path) -> Maker | None:
    """Return the encoder that made an index, by its manifest or else by the index itself.

    None if neither names one. Raises InputError if the manifest cannot be read.
    """
    if manifest_path(index).is_file():
        identity = manifests.encoder_of(index)
        if identity is None:
            return None
        name = read_json(manifest_path(index)).get(NAME_KEY)
        return Maker(identity=identity, name=name if isinstance(name, str) else "")
    return stored_maker(index)


def stored_maker(index: Path) -> Maker | None:
    """Return the encoder that the newest commit of an index names; None if it names none."""
    try:
        if not index.is_dir() or not manifests.index_commit(index):
            return None
        folder = index_folders(index)[0]  # the shards of an index have one encoder
        with java_errors(f"{index} is no Lucene index", InputError):
            table = classes.SegmentInfos.readLatestCommit(open_directory(folder)).getUserData()
            stored = {key: table.get(f"{COMMIT_PREFIX}{key}") for key in ("encoder", "name", "card")}
    except InputError:
        return None  # whoever opens the index tells what is wrong with it
    if not stored["encoder"]:
        return None
    try:
        card = parse_json(str(stored["card"]))
    except (ValueError, RecursionError):
        card = {}
    return Maker(identity=str(stored["encoder"]), name=str(stored["name"] or ""), card=card)


def commit_table(manifest: CollectionManifest | None) -> dict[str, str]:
    """Return what a commit says of the encoder of a collection; nothing if nobody knows it."""
    if manifest is None:
        return {}
    table = {
        "encoder": manifest.encoder,
        "name": manifest.encoder_name,
        "card": json.dumps(manifest.card, ensure_ascii=False),
    }
    return {f"{COMMIT_PREFIX}{key}": value for key, value in table.items()}


def shard_table(table: Mapping[str, str], shard: str, collection: str) -> dict[str, str]:
    """Return what the commit of a shard says: what any commit does, and of which index it is a shard."""
    own = {f"{COMMIT_PREFIX}{SHARD}": shard, f"{COMMIT_PREFIX}{COLLECTION}": collection}
    return {**table, **own}


def knows_encoder(index: Path) -> bool:
    """Whether an index names its encoder, or has a manifest of ours that cannot be read."""
    try:
        return maker_of(index) is not None
    except InputError:
        return True


def maker_name(index: Path) -> str:
    """Name, as `--encoder` takes it, of the encoder that made an index: the one it had there, or its card's.

    Raises InputError if nothing names it, if it is not here, or if another encoder has its name here
    (unless CSPLADE_ALLOW_MISMATCH=1).
    """
    maker = maker_of(index)
    if maker is None:
        raise InputError(f"{index} has no manifest that names its encoder: --encoder names it")
    name, checkpoint = find_maker(maker.identity, index, maker.name)
    if os.environ.get("CSPLADE_ALLOW_MISMATCH") != "1":
        refuse_other_encoder(index, maker.identity, checkpoint.identity)
    return name


def refuse_mismatch(index: Path, query_encoder: str | None, *, name: str = "") -> None:
    """Raise InputError if an index has changed, or if another encoder made it than the queries.

    query_encoder: an identity. name: the encoder as `--encoder` had it. Unknown encoders are accepted, and so
    is an index that names none.
    """
    manifests.refuse_mismatch(index, query_encoder, name=name)
    if manifest_path(index).is_file() or os.environ.get("CSPLADE_ALLOW_MISMATCH") == "1":
        return
    maker = stored_maker(index)
    if maker is not None:
        stated = str(maker.card.get("query_encoder") or "")
        refuse_other_encoder(index, maker.identity, query_encoder, name=name, stated=stated)
