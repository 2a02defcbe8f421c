"""A collection's documents as engines take them: the vector files of a shard, record by record."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from csplade_pyserini.cards import Checkpoint, find_checkpoint, find_maker, same_encoder
from csplade_pyserini.collections.docids import docid_hash, refuse_repeated
from csplade_pyserini.collections.manifests import (
    manifest_hash,
    manifest_path,
    read_collection_manifest,
    verify_files,
)
from csplade_pyserini.collections.unfinished import refuse_unfinished
from csplade_pyserini.collections.vectors import VectorRecord, check_impacts, collection_files, read_record
from csplade_pyserini.engines.dimensions import Dimensions
from csplade_pyserini.engines.target import Document, Identity
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import numbered_lines
from csplade_pyserini.files.stamps import file_hash, json_hash


class FileShare(NamedTuple):
    """The part of a vector file that a shard takes."""

    path: Path
    name: str
    sha256: str
    first: int
    """Number of its first record, from 1."""
    last: int
    """Number of its last record."""

    @property
    def documents(self) -> int:
        """Number of its records."""
        return self.last - self.first + 1


@dataclass(frozen=True, kw_only=True)
class Source:
    """A collection to export, or one shard of it."""

    collection: Path
    checkpoint: Checkpoint
    identity: Identity
    shares: tuple[FileShare, ...]
    documents: int
    """Number of documents in this shard."""
    total: int
    """Number of documents in the collection."""
    shard_id: int = 0
    shard_num: int = 1


def open_source(
    collection: Path,
    *,
    encoder: str | None = None,
    scale: float = 1.0,
    shard_id: int = 0,
    shard_num: int = 1,
    without_manifest: bool = False,
) -> Source:
    """Find a collection's files, its encoder, and what a shard takes of it.

    encoder: name of the encoder, for a collection without a manifest, or one whose encoder is no card's.
    Raises InputError if the collection is unfinished or its encoder unknown, CheckError if it has changed.
    """
    refuse_unfinished(collection, without_manifest=without_manifest)
    if manifest_path(collection).is_file():
        manifest = read_collection_manifest(collection)
        verify_files(collection, manifest)
        if encoder:
            checkpoint = find_checkpoint(encoder)
        else:
            _, checkpoint = find_maker(manifest.encoder, collection, manifest.encoder_name)
        if not same_encoder(manifest.encoder, checkpoint.identity):
            raise InputError(
                f"{collection} was encoded by {manifest.encoder}, the encoder at hand is "
                f"{checkpoint.identity}: wanted the same one, for the token ids"
            )
        files = [(collection / file.file, file.file, file.sha256, file.documents) for file in manifest.files]
        hashed = manifest_hash(collection)
        name = manifest.encoder
    else:
        if not encoder:
            raise InputError(
                f"{collection} has no manifest that names its encoder: --encoder names it, for the token ids"
            )
        checkpoint = find_checkpoint(encoder)
        files = [_counted(file, collection) for file in collection_files(collection)]
        hashed = json_hash([(name, sha256) for _, name, sha256, _ in files])
        name = checkpoint.identity
    total = sum(documents for *_, documents in files)
    if not total:
        raise InputError(f"{collection} holds no documents")
    shares = tuple(_shares(files, total * shard_id // shard_num, total * (shard_id + 1) // shard_num))
    return Source(
        collection=collection,
        checkpoint=checkpoint,
        identity=Identity(
            encoder=name, card=checkpoint.stored_card.hash(), collection=hashed, scale=float(scale)
        ),
        shares=shares,
        documents=sum(share.documents for share in shares),
        total=total,
        shard_id=shard_id,
        shard_num=shard_num,
    )


def refuse_repeated_docids(source: Source) -> None:
    """Raise InputError if a docid stands twice in a collection that `encode` did not check.

    The second one would replace the first. Takes 8 bytes of memory a document.
    """
    if manifest_path(source.collection).is_file():
        return

    def docids() -> Iterator[tuple[str, object]]:
        for share in source.shares:
            for _, record in _records(share, 0):
                yield record.docid, record.place

    hashes = array("Q", (docid_hash(docid) for docid, _ in docids()))
    refuse_repeated(np.frombuffer(hashes, dtype=np.uint64), docids)


def read_documents(share: FileShare, after: int, dimensions: Dimensions, scale: float) -> Iterator[Document]:
    """Documents of a file's share behind record `after`. Raises InputError on a broken record."""
    for number, record in _records(share, after):
        check_impacts(record.vector, record.place)
        pairs = dimensions.of(record.vector, record.place)
        ids = [dimension for dimension, _ in pairs]
        impacts = [impact for _, impact in pairs]
        if scale != 1:
            impacts = [max(1, round(scale * impact)) for impact in impacts]
        yield Document(record.docid, ids, impacts, share.name, number)


def _records(share: FileShare, after: int) -> Iterator[tuple[int, VectorRecord]]:
    first = max(share.first, after + 1)
    for number, (place, line) in enumerate(numbered_lines(share.path), start=1):
        if number > share.last:
            return
        if number >= first:
            yield number, read_record(line, place)


def _counted(file: Path, collection: Path) -> tuple[Path, str, str, int]:
    documents = sum(1 for _ in numbered_lines(file))
    return file, str(file.relative_to(collection)), file_hash(file), documents


def _shares(files: Sequence[tuple[Path, str, str, int]], first: int, last: int) -> Iterator[FileShare]:
    """Shares of the documents `first` to `last`, `last` excluded, of all files one after the other."""
    before = 0
    for path, name, sha256, documents in files:
        begin = max(first - before, 0)
        end = min(last - before, documents)
        if begin < end:
            yield FileShare(path, name, sha256, begin + 1, end)
        before += documents
