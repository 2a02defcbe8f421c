"""Manifests for what the stock `pyserini.encode` and `pyserini.index.lucene` make with our encoders.

Both are written when the program ends well, so that a search on its index still knows its encoder.
"""

import sys
from pathlib import Path

from csplade_pyserini.cards import card_table, find_checkpoint, parse_encoder_name
from csplade_pyserini.collections.manifests import (
    CollectionManifest,
    IndexManifest,
    ShardRecord,
    index_commit,
    manifest_hash,
    manifest_path,
    read_collection_manifest,
    versions,
    write_manifest,
)
from csplade_pyserini.files.lines import parse_record, read_lines
from csplade_pyserini.files.stamps import file_hash
from csplade_pyserini.lucene.stock import count_documents, size_in_bytes


def stamp_collection(encoder: str, collection: Path) -> None:
    """Write the manifest of a directory that `pyserini.encode` has just filled."""
    checkpoint = find_checkpoint(parse_encoder_name(encoder)[0])
    shards = tuple(describe_file(file) for file in sorted(collection.iterdir()))
    manifest = CollectionManifest(
        encoder=checkpoint.identity,
        card=card_table(checkpoint.card),
        arguments={"command": sys.argv},
        versions=versions(),
        shards=shards,
    )
    write_manifest(manifest, collection)


def stamp_index(collection: Path, index: Path) -> str:
    """Write the manifest of an index that `pyserini.index.lucene` has just built, if its collection has one.

    Returns what to tell the user: empty, or how many documents the index lacks.
    """
    if not manifest_path(collection).is_file() or not index.is_dir():
        return ""
    manifest = read_collection_manifest(collection)
    built = IndexManifest(
        encoder=manifest.encoder,
        collection=manifest_hash(collection),
        documents=count_documents(index),
        postings=manifest.terms,
        bytes=size_in_bytes(index),
        commit=index_commit(index),
        seconds=0.0,
        versions=versions(),
    )
    write_manifest(built, index)
    if built.documents == manifest.documents:
        return ""
    return f"{index} has {built.documents} documents, its collection {collection} has {manifest.documents}: documents were lost"


def describe_file(file: Path) -> ShardRecord:
    """Count a JsonVectorCollection file. Raises InputError on a record that Anserini would lose."""
    documents = terms = impacts = 0
    for number, line in enumerate(read_lines(file), start=1):
        vector = parse_record(line, f"{file}:{number}")["vector"]
        documents, terms, impacts = documents + 1, terms + len(vector), impacts + sum(vector.values())
    return ShardRecord(
        file=file.name,
        first=0,
        documents=documents,
        empties=0,
        terms=terms,
        impacts=impacts,
        sha256=file_hash(file),
    )
