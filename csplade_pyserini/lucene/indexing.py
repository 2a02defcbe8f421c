"""A collection directory to a Lucene impact index, with the documents counted on both sides.

Anserini ends with exit code 0 whatever it loses: a broken line costs the rest of its file. So the index
is built under another name, its documents are counted against the manifest's, and only then renamed.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from csplade_pyserini.collections.corpus import parse_record, read_lines
from csplade_pyserini.collections.manifests import (
    IndexManifest,
    manifest_hash,
    manifest_path,
    read_collection_manifest,
    read_index_manifest,
    verify_shards,
    versions,
    write_manifest,
)
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.lucene.java import prepare_java

SHOWN = 10
"""Docids that an error lists."""
LOG_TAIL_LINES = 15


def build_index(collection: Path, index: Path, *, threads: int) -> IndexManifest:
    """Index a collection directory and return what the index holds.

    Raises InputError where the collection has no manifest or the index path is taken, CheckError where
    the collection has changed, Anserini fails, or the index lacks documents.
    """
    manifest = read_collection_manifest(collection)
    verify_shards(collection, manifest)
    if index.exists() or manifest_path(index).exists():
        return _already_built(collection, index)
    prepare_java()
    partial = index.with_name(f"{index.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    start = time.monotonic()
    run_stock(stock_command(collection, partial, threads=threads))
    built = describe_index(collection, partial, seconds=time.monotonic() - start)
    if built.documents != manifest.documents:
        raise CheckError(_missing_documents(collection, partial, built.documents, manifest.documents))
    partial.rename(index)
    write_manifest(built, index)
    return built


def describe_index(collection: Path, index: Path, *, seconds: float = 0.0) -> IndexManifest:
    """The manifest of an index of `collection`, its documents counted by Lucene. Raises CheckError without an index."""
    from pyserini.index.lucene import LuceneIndexReader

    if not index.is_dir():
        raise CheckError(f"Pyserini's indexer wrote no index at {index}")
    manifest = read_collection_manifest(collection)
    return IndexManifest(
        encoder=manifest.encoder,
        collection=manifest_hash(collection),
        documents=LuceneIndexReader(str(index)).stats()["documents"],
        postings=manifest.terms,
        bytes=size_in_bytes(index),
        seconds=round(seconds, 1),
        versions=versions(),
    )


def stock_command(collection: Path, index: Path, *, threads: int) -> list[str]:
    """Pyserini's own command that builds an impact index."""
    return [
        sys.executable, "-m", "pyserini.index.lucene", "--collection", "JsonVectorCollection",
        "--input", str(collection), "--index", str(index), "--generator", "DefaultLuceneDocumentGenerator",
        "--threads", str(threads), "--impact", "--pretokenized", "--optimize",
    ]  # fmt: skip


def bm25_index_command(corpus: Path, index: Path, *, threads: int, store_raw: bool = False) -> list[str]:
    """Pyserini's own command that builds a BM25 index of a JsonCollection, with its defaults."""
    return [
        sys.executable, "-m", "pyserini.index.lucene", "--collection", "JsonCollection",
        "--input", str(corpus), "--index", str(index), "--generator", "DefaultLuceneDocumentGenerator",
        "--threads", str(threads), "--optimize", *(["--storeRaw"] if store_raw else []),
    ]  # fmt: skip


def size_in_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _already_built(collection: Path, index: Path) -> IndexManifest:
    if index.is_dir() and manifest_path(index).is_file():
        built = read_index_manifest(index)
        if built.collection == manifest_hash(collection):
            print(f"{index} is whole already: {built.documents} documents", file=sys.stderr)
            return built
    raise InputError(f"{index} exists and is not the index of {collection}: choose another --index, or remove it")


def run_stock(command: list[str]) -> None:
    """Run a command of Pyserini's indexer. Raises CheckError, with its last lines, where it fails."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-LOG_TAIL_LINES:])
        raise CheckError(f"Pyserini's indexer ended with exit code {result.returncode}; its last lines:\n{tail}")


def _missing_documents(collection: Path, index: Path, indexed: int, documents: int) -> str:
    """What to say of an index that has not as many documents as its collection."""
    from pyserini.index.lucene import LuceneIndexReader

    reader = LuceneIndexReader(str(index))
    missing = [docid for docid in _docids(collection) if reader.doc(docid) is None]
    return (
        f"the index has {indexed} documents, the collection {documents}; missing {len(missing)}: "
        f"{', '.join(missing[:SHOWN])}{', ...' if len(missing) > SHOWN else ''}"
    )


def _docids(collection: Path) -> Iterator[str]:
    for file in sorted(collection.iterdir()):
        for number, line in enumerate(read_lines(file), start=1):
            yield str(parse_record(line, f"{file}:{number}")["id"])
