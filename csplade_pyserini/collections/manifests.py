"""Manifests: JSON beside a collection, an index or a query file that says what is in it and who made it.

DIR.manifest.json     beside a collection directory DIR (never in it: Anserini reads every file there)
INDEX.manifest.json   beside a Lucene index
FILE.manifest.json    beside a file of encoded queries
TARGET.manifest.json  beside what `export` made
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from csplade_pyserini.cards import (
    canonical_name,
    find_checkpoint,
    find_stored_card,
    is_card,
    same_encoder,
)
from csplade_pyserini.collections.index_shards import index_folders
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.files.notes import say_once
from csplade_pyserini.files.stamps import file_hash, json_hash
from csplade_pyserini.files.tables import parse_table, read_json
from csplade_pyserini.files.whole import WORK_NAME, is_mount_point, real_path, whole_file

FORMAT = 1
VERSIONS_OF = ("csplade_pyserini", "pyserini", "torch", "transformers", "peft")
FILES_KEY = "shards"
"""Key of a collection's files in manifests and in progress files, since version 0.1.0."""
NAME_KEY = "encoder_name"
"""Key of the encoder's name in an index's manifest and in a collection's arguments."""
SHARDS_KEY = "shards"
"""Key of an index's shards in its manifest."""


@dataclass(frozen=True, kw_only=True)
class VectorFile:
    """One whole file of a collection."""

    file: str
    first: int
    """Number of its first document in its shard of the corpus, from 0."""
    documents: int
    empties: int
    """Number of documents without any term; they hold the reserved term."""
    terms: int
    impacts: int
    """Sum of all impacts; Lucene calls it total terms."""
    sha256: str


@dataclass(frozen=True, kw_only=True)
class CollectionManifest:
    """Result of `encode`."""

    encoder: str
    """The encoder's identity: name, card hash, fingerprints of the weights."""
    card: dict[str, Any]
    arguments: dict[str, Any]
    versions: dict[str, str]
    files: tuple[VectorFile, ...]
    format: int = FORMAT

    @property
    def documents(self) -> int:
        """Number of documents."""
        return sum(file.documents for file in self.files)

    @property
    def empties(self) -> int:
        """Number of documents without any term."""
        return sum(file.empties for file in self.files)

    @property
    def terms(self) -> int:
        """Number of postings: terms of all documents together."""
        return sum(file.terms for file in self.files)

    @property
    def encoder_name(self) -> str:
        """The encoder's name, as `--encoder` takes it; empty in older manifests."""
        return str(self.arguments.get(NAME_KEY) or "")

    @property
    def query_encoder(self) -> str:
        """Name of the encoder that makes queries for these documents, as the card names it; else empty."""
        return str(self.card.get("query_encoder", ""))


@dataclass(frozen=True, kw_only=True)
class IndexShard:
    """One of the Lucene indexes that make up an index."""

    folder: str
    """Its name in the index's folder."""
    documents: int
    postings: int
    terms: int
    """Number of different terms; 0 if they were not counted."""
    impacts: int
    """Sum of all impacts."""
    bytes: int
    commit: str
    """Hash by index_commit."""


@dataclass(frozen=True, kw_only=True)
class IndexManifest:
    """Result of `index`."""

    encoder: str
    """Empty if the collection has no manifest, so that nobody knows."""
    collection: str
    """SHA-256 of the collection's manifest."""
    documents: int
    postings: int
    bytes: int
    seconds: float
    terms: int = 0
    """Number of different terms; 0 if they were not counted, as in an index of shards."""
    impacts: int = 0
    """Sum of all impacts; 0 if it was not counted."""
    commit: str = ""
    """Hash by index_commit; empty in older manifests."""
    query_encoder: str = ""
    """Name of the encoder that makes queries for these documents, as the collection's card names it."""
    encoder_name: str = ""
    """The encoder's name where the collection was made, as `--encoder` takes it; empty in older manifests."""
    shards: tuple[IndexShard, ...] = ()
    """Empty if the index is one Lucene index."""
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class QueriesManifest:
    """Result of `encode_queries`."""

    encoder: str
    topics: str
    queries: int
    empties: int
    made_by: str = ""
    """Maker of the queries if that is not the encoder's model: its table, or another encoder."""
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class ExportManifest:
    """Result of `export`: what an engine holds."""

    encoder: str
    card_hash: str
    collection: str
    """SHA-256 of the collection's manifest."""
    engine: str
    url: str
    """Empty for an embedded engine and for files."""
    name: str
    documents: int
    """Number of documents of this shard."""
    shard_id: int = 0
    shard_num: int = 1
    scale: float = 1.0
    """Factor that impacts were multiplied by."""
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


Manifest = CollectionManifest | IndexManifest | QueriesManifest | ExportManifest


def manifest_path(path: Path) -> Path:
    """Path of the manifest beside a directory or file, behind all links.

    Beside the link itself only if a manifest lies there and none behind it: older versions wrote it there.
    """
    real = _beside(real_path(path))
    at_link = _beside(path if path.name not in ("", "..") else Path(os.path.abspath(path)))
    if at_link.is_file() and not real.is_file():
        return at_link
    return real


def _beside(path: Path) -> Path:
    return path.parent / f"{path.name}.manifest.json"


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write the manifest that belongs to the directory or file `path`."""
    if is_mount_point(real_path(path)):
        say_once(f"{path} is a mount point: its manifest, {manifest_path(path)}, is on another file system")
    with whole_file(manifest_path(path)) as file:
        json.dump(_table(manifest), file, indent=1, ensure_ascii=False)
        file.write("\n")


def read_collection_manifest(path: Path) -> CollectionManifest:
    """Read the manifest of a collection directory. Raises InputError if it is missing or broken."""
    table = _read(path)
    origin = manifest_path(path)
    totals = {key: table.pop(key, None) for key in _TOTALS}
    table["files"] = parse_files(table.pop(FILES_KEY, None), origin)
    known = {field.name for field in dataclasses.fields(CollectionManifest)}
    kept = {key: value for key, value in table.items() if key in known}
    manifest = _parsed(CollectionManifest, kept, origin)
    for key, found in totals.items():
        total = getattr(manifest, key)
        if found != total:
            raise InputError(f"{origin}: {key} is {found!r}, its shards have {total}: it was changed by hand")
    return manifest


def read_index_manifest(path: Path) -> IndexManifest:
    """Read the manifest of an index. Raises InputError if it is missing or broken."""
    table = _read(path)
    origin = manifest_path(path)
    table[SHARDS_KEY] = _parse_shards(table.get(SHARDS_KEY, []), origin)
    return _parsed(IndexManifest, table, origin)


def read_export_manifest(path: Path) -> ExportManifest:
    """Read the manifest of an export. Raises InputError if it is missing or broken."""
    return _parsed(ExportManifest, _read(path), manifest_path(path))


def parse_files(tables: object, origin: Path) -> tuple[VectorFile, ...]:
    """Parse the list of a collection's files. Raises InputError that names `origin`."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputError(f"{origin} is no manifest of a collection: wanted a list of shards")
    return tuple(_parsed(VectorFile, table, origin) for table in tables)


def _parse_shards(tables: object, origin: Path) -> tuple[IndexShard, ...]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputError(f"{origin} is no manifest of an index: wanted a list of shards")
    return tuple(_parsed(IndexShard, table, origin) for table in tables)


def files_table(files: Iterable[VectorFile]) -> list[dict[str, Any]]:
    """Return a collection's files as plain tables, as parse_files takes them."""
    return [dataclasses.asdict(file) for file in files]


def encoder_of(path: Path) -> str | None:
    """Identity of the encoder of a directory, index or file; None if no manifest names it."""
    if not manifest_path(path).is_file():
        return None
    return _read(path)["encoder"] or None


def refuse_mismatch(index: Path, query_encoder: str | None, *, name: str = "") -> None:
    """Raise InputError if an index has changed, or if another encoder made it than the queries.

    query_encoder: an identity; name: how the user named that encoder. The one that the card of the index's
    encoder names as `query_encoder` is accepted. Unknown encoders are, and so is an index without a manifest.
    """
    if not manifest_path(index).is_file() or os.environ.get("CSPLADE_ALLOW_MISMATCH") == "1":
        return
    table = _read(index)
    _refuse_changed(index, table)
    stated = str(table.get("query_encoder") or "")
    refuse_other_encoder(index, table["encoder"], query_encoder, name=name, stated=stated)


def refuse_changed(index: Path) -> None:
    """Raise InputError, naming the shard, if an index is not the one that its manifest tells of."""
    _refuse_changed(index, _read(index))


def _refuse_changed(index: Path, table: dict[str, Any]) -> None:
    commit = table.get("commit")  # a folder that is no index has a manifest of another kind
    if not commit or commit == index_commit(index):
        return
    changed = index
    if SHARDS_KEY in table:
        shards = _parse_shards(table[SHARDS_KEY], manifest_path(index))
        folders = [index / shard.folder for shard in shards]
        pairs = zip(folders, shards, strict=True)
        changed = next((folder for folder, shard in pairs if shard.commit != index_commit(folder)), index)
    raise InputError(
        f"{changed} is not the index that {manifest_path(index)} tells of, it was changed or replaced "
        f"since: build it again, or remove the manifest if you know what the index holds "
        f"(CSPLADE_ALLOW_MISMATCH=1 to search it all the same)"
    )


def refuse_other_encoder(
    index: Path, index_encoder: str, query_encoder: str | None, *, name: str = "", stated: str = ""
) -> None:
    """Raise InputError if two known encoders, of an index and of queries, are not one.

    name: the queries' encoder as `--encoder` had it. stated: name of an encoder whose queries the index also
    takes, besides the one in its encoder's card.
    """
    if not query_encoder or not index_encoder or same_encoder(index_encoder, query_encoder):
        return
    allowed = {_card_query_encoder(index_encoder), stated} - {""}
    if allowed & {name, query_encoder.partition("@")[0]}:
        return
    also = ""
    if allowed:
        also = f"; queries by {' or '.join(sorted(allowed))} are accepted, too"
    raise InputError(
        f"the index {index} was encoded by {index_encoder}, the queries by {query_encoder}: "
        f"their scores would mean nothing{also} (CSPLADE_ALLOW_MISMATCH=1 to mean it)"
    )


def _card_query_encoder(encoder: str) -> str:
    """Name of the query encoder in the card of an identity, if that is a card's here; else empty.

    The manifest does not say when the card was given its query encoder.
    """
    card_name, _, _ = encoder.partition("@")
    if not is_card(card_name):
        return ""
    try:
        card = find_checkpoint(card_name).stored_card
    except InputError:
        card = find_stored_card(card_name)
    return canonical_name(card.query_encoder)


def index_commit(index: Path) -> str:
    """SHA-256 of a Lucene index's newest list of segments, or of its shards' lists; empty if there is none.

    A list holds random ids, so no two indexes share it. Raises InputError if a shard is missing.
    """
    folders = index_folders(index)
    if folders != [index]:
        return json_hash([index_commit(folder) for folder in folders])
    commits = sorted(index.glob("segments_*"), key=lambda file: (len(file.name), file.name))  # base 36
    if not commits:
        return ""
    return file_hash(commits[-1])


def manifest_hash(path: Path) -> str:
    """SHA-256 of the manifest that belongs to `path`."""
    return hashlib.sha256(manifest_path(path).read_bytes()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of the packages that a vector depends on; those not installed are left out."""
    found = {}
    for name in VERSIONS_OF:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def verify_files(directory: Path, manifest: CollectionManifest) -> None:
    """Raise CheckError unless the directory holds exactly the manifest's files, byte for byte."""
    wanted = {file.file for file in manifest.files}
    there = set()
    if directory.is_dir():
        there = {file.name for file in directory.iterdir()} - {WORK_NAME}
    if there != wanted:
        missing = sorted(wanted - there) or "nothing"
        extra = sorted(there - wanted) or "nothing"
        raise CheckError(f"{directory} does not match its manifest: missing {missing}, not of it {extra}")
    for file in manifest.files:
        if file_hash(directory / file.file) != file.sha256:
            raise CheckError(f"{directory / file.file} has changed since it was written; encode again")


_TOTALS = ("documents", "empties", "terms")
"""Sums that stand in a collection's manifest for readers, and are checked."""


def _table(manifest: Manifest) -> dict[str, Any]:
    table = dataclasses.asdict(manifest)
    if isinstance(manifest, IndexManifest) and not manifest.shards:
        del table[SHARDS_KEY]
    if not isinstance(manifest, CollectionManifest):
        return table
    format_number = table.pop("format")
    table[FILES_KEY] = table.pop("files")
    totals = {key: getattr(manifest, key) for key in _TOTALS}
    return table | {"format": format_number} | totals


def _read(path: Path) -> dict[str, Any]:
    file = manifest_path(path)
    if not file.exists():
        raise InputError(f"{path} has no manifest: {file} does not exist")
    table = read_json(file)
    if not isinstance(table.get("encoder"), str):
        raise InputError(f"{file} is no manifest of ours")
    if table.get("format") != FORMAT:
        raise InputError(f"{file} has the format {table.get('format')!r}; this version reads {FORMAT}")
    return table


def _parsed[T](cls: type[T], table: dict[str, Any], origin: Path) -> T:
    """Make a dataclass from a table. Raises InputError as parse_table does, and on a number below 0."""
    for key, value in table.items():
        if isinstance(value, int | float) and not value >= 0:
            raise InputError(f"{origin}: {key} is {value}; wanted 0 or more")
    return parse_table(cls, table, str(origin))
