"""Manifests: the JSON beside a collection, an index or a query file that says what is in it and who made it.

DIR.manifest.json     beside a collection directory DIR (never in it: Anserini reads every file there)
INDEX.manifest.json   beside a Lucene index
FILE.manifest.json    beside a file of encoded queries
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.collections.files import whole_file
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.tables import parse_table

FORMAT = 1
VERSIONS_OF = ("csplade_pyserini", "pyserini", "torch", "transformers", "peft")


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """One whole file of a collection."""

    file: str
    first: int
    """Number of its first document in its piece of the corpus, from 0."""
    documents: int
    empties: int
    """Documents without any term; they hold the one reserved term."""
    terms: int
    impacts: int
    """Sum of all impacts: what Lucene calls total terms."""
    sha256: str


@dataclass(frozen=True, kw_only=True)
class CollectionManifest:
    """What `encode` made."""

    encoder: str
    """The encoder's identity: name, card hash, weight fingerprint."""
    card: dict[str, Any]
    arguments: dict[str, Any]
    versions: dict[str, str]
    shards: tuple[ShardRecord, ...]
    format: int = FORMAT

    @property
    def documents(self) -> int:
        return sum(shard.documents for shard in self.shards)

    @property
    def empties(self) -> int:
        return sum(shard.empties for shard in self.shards)

    @property
    def terms(self) -> int:
        return sum(shard.terms for shard in self.shards)


@dataclass(frozen=True, kw_only=True)
class IndexManifest:
    """What `index` made."""

    encoder: str
    """Empty where the collection has no manifest, and so nobody knows."""
    collection: str
    """SHA-256 of the collection's manifest."""
    documents: int
    postings: int
    bytes: int
    seconds: float
    terms: int = 0
    """Different terms; 0 where they were not counted."""
    impacts: int = 0
    """Sum of all impacts, likewise."""
    commit: str = ""
    """What index_commit gives; empty in manifests that are older than this key."""
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class QueriesManifest:
    """What `encode_queries` made."""

    encoder: str
    topics: str
    queries: int
    empties: int
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


Manifest = CollectionManifest | IndexManifest | QueriesManifest


def manifest_path(path: Path) -> Path:
    """Where the manifest of a directory or file is: beside it."""
    named = path.resolve() if path.name in ("", "..") else path
    return named.parent / f"{named.name}.manifest.json"


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write the manifest that belongs to the directory or file `path`."""
    totals = _totals(manifest) if isinstance(manifest, CollectionManifest) else {}
    with whole_file(manifest_path(path)) as file:
        json.dump(dataclasses.asdict(manifest) | totals, file, indent=1, ensure_ascii=False)
        file.write("\n")


def _totals(manifest: CollectionManifest) -> dict[str, int]:
    return {"documents": manifest.documents, "empties": manifest.empties, "terms": manifest.terms}


def read_collection_manifest(path: Path) -> CollectionManifest:
    """The manifest of a collection directory. Raises InputError where it is missing or broken."""
    table, file = _read(path), manifest_path(path)
    shards = table.get("shards")
    if not isinstance(shards, list) or not all(isinstance(shard, dict) for shard in shards):
        raise InputError(f"{file} is no manifest of a collection: wanted a list of shards")
    known = {
        f.name: table[f.name] for f in dataclasses.fields(CollectionManifest) if f.name in table
    }  # totals stand beside them
    known["shards"] = tuple(_parsed(ShardRecord, shard, file) for shard in shards)
    manifest = _parsed(CollectionManifest, known, file)
    for key, total in _totals(manifest).items():
        if table.get(key) != total:
            raise InputError(
                f"{file}: {key} is {table.get(key)!r}, its shards have {total}: it was changed by hand"
            )
    return manifest


def read_index_manifest(path: Path) -> IndexManifest:
    """The manifest of an index. Raises InputError where it is missing or broken."""
    return _parsed(IndexManifest, _read(path), manifest_path(path))


def encoder_of(path: Path) -> str | None:
    """The identity of the encoder that made a directory, index or file; None where no manifest says so."""
    return _read(path)["encoder"] or None if manifest_path(path).is_file() else None


def refuse_mismatch(index: Path, of_query: str | None) -> None:
    """Raise InputError where the index has changed, or was made by another encoder than the queries; an encoder unknown is let pass."""
    if not manifest_path(index).is_file() or os.environ.get("CSPLADE_ALLOW_MISMATCH") == "1":
        return
    table = _read(index)
    of_index, commit = (
        table["encoder"],
        table.get("commit"),
    )  # a folder that is no index has a manifest of another kind
    if commit and commit != index_commit(index):
        raise InputError(
            f"{index} is not the index that {manifest_path(index)} tells of, it was changed or replaced since: build it again, "
            f"or remove the manifest if you know what the index holds (CSPLADE_ALLOW_MISMATCH=1 to search it all the same)"
        )
    if of_query and of_index and of_index != of_query:
        raise InputError(
            f"the index {index} was encoded by {of_index}, the queries by {of_query}: "
            f"their scores would mean nothing (CSPLADE_ALLOW_MISMATCH=1 to mean it)"
        )


def index_commit(index: Path) -> str:
    """SHA-256 of a Lucene index's newest list of segments, or empty: it holds random ids, so that no two indexes share it."""
    commits = sorted(
        index.glob("segments_*"), key=lambda file: (len(file.name), file.name)
    )  # numbered, in base 36
    return file_hash(commits[-1]) if commits else ""


def manifest_hash(path: Path) -> str:
    """SHA-256 of the manifest that belongs to `path`."""
    return hashlib.sha256(manifest_path(path).read_bytes()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of the packages that a vector depends on."""
    return {name: importlib.metadata.version(name) for name in VERSIONS_OF}


def card_table(card: EncoderCard) -> dict[str, Any]:
    """The card as a plain table, as it goes into a manifest."""
    return json.loads(json.dumps(dataclasses.asdict(card)))  # type: ignore[no-any-return]


def verify_shards(directory: Path, manifest: CollectionManifest) -> None:
    """Raise CheckError unless the directory holds exactly the manifest's shards, byte for byte."""
    wanted = {shard.file: shard for shard in manifest.shards}
    there = {file.name for file in directory.iterdir()} if directory.is_dir() else set()
    if there != set(wanted):
        missing, extra = sorted(set(wanted) - there), sorted(there - set(wanted))
        raise CheckError(
            f"{directory} does not match its manifest: missing {missing or 'nothing'}, not of it {extra or 'nothing'}"
        )
    for name, shard in wanted.items():
        if file_hash(directory / name) != shard.sha256:
            raise CheckError(f"{directory / name} has changed since it was written; encode again")


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> dict[str, Any]:
    file = manifest_path(path)
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} has no manifest: {file} does not exist") from error
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON: {error}") from error
    if not isinstance(table, dict) or not isinstance(table.get("encoder"), str):
        raise InputError(f"{file} is no manifest of ours")
    if table.get("format") != FORMAT:
        raise InputError(f"{file} has the format {table.get('format')!r}; this version reads {FORMAT}")
    return table


def _parsed[T](cls: type[T], table: dict[str, Any], file: Path) -> T:
    """A dataclass of a table. Raises InputError, naming the file, as parse_table does and on a number below 0."""
    for key, value in table.items():
        if isinstance(value, int | float) and not value >= 0:
            raise InputError(f"{file}: {key} is {value}; wanted 0 or more")
    return parse_table(cls, table, str(file))
