"""Manifests for the output of the stock `pyserini.encode` and `pyserini.index.lucene` with our encoders.

They are written when the program's work is done, so that a search on its index still knows its encoder.
"""

import itertools
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from csplade_pyserini.cards import card_table, find_checkpoint
from csplade_pyserini.collections.manifests import (
    CollectionManifest,
    IndexManifest,
    index_commit,
    manifest_hash,
    manifest_path,
    read_collection_manifest,
    versions,
    write_manifest,
)
from csplade_pyserini.collections.unfinished import refuse_unfinished, stock_mark
from csplade_pyserini.collections.vectors import describe_file
from csplade_pyserini.files.stamps import write_made_of
from csplade_pyserini.files.whole import WORK_NAME
from csplade_pyserini.lucene.makers import commit_table
from csplade_pyserini.lucene.postings import store_table
from csplade_pyserini.lucene.stock import count_documents, size_in_bytes
from csplade_pyserini.registration.patches import Function, replaces
from csplade_pyserini.registration.programs import one_sentence, running_program, say

INDEXER = "io.anserini.index.IndexCollection"


_expected: dict[str, str] = {}
"""Encoder of each directory that the program `pyserini.encode` is about to fill."""


def expect_collection(folder: Path, encoder: str) -> None:
    """Plan the manifest of a directory, to be written once `pyserini.encode` has filled it."""
    _expected[os.path.abspath(folder)] = encoder


@replaces("pyserini.encode._base", "JsonlRepresentationWriter.__enter__")
def open_writer(stock: Function, self: Any) -> Any:
    """Mark the collection as unfinished: a stopped program leaves one that looks whole."""
    encoder = _expected.get(os.path.abspath(self.dir_path))
    if encoder is not None:
        write_made_of(stock_mark(Path(self.dir_path)), {"command": sys.argv, "encoder": encoder})
    return stock(self)


@replaces("pyserini.encode._base", "JsonlRepresentationWriter.__exit__")
def close_writer(stock: Function, self: Any, error: type[BaseException] | None, *args: Any) -> Any:
    """Write the collection's manifest, once its file is whole."""
    result = stock(self, error, *args)
    encoder = _expected.pop(os.path.abspath(self.dir_path), None)
    if encoder is not None and error is None:
        _stamp(lambda: stamp_collection(encoder, Path(self.dir_path)))
    return result


@replaces("jnius", "autoclass")
def find_java_class(stock: Function, name: str, *args: Any, **kwargs: Any) -> Any:
    """Find a Java class. The program `pyserini.index.lucene` gets an indexer that writes the manifest."""
    found = stock(name, *args, **kwargs)
    if name == INDEXER and running_program() == "pyserini.index.lucene":
        return _StampingIndexer(found)
    return found


class _StampingIndexer:
    """Anserini's indexer, which writes the manifest of the index that it has built."""

    def __init__(self, java: Any) -> None:
        self._java = java

    def main(self, words: Sequence[str]) -> None:
        """Build an index, with the arguments of the command line."""
        options = dict(itertools.pairwise(words))
        collection = options.get("-input")
        index = options.get("-index")
        if not collection or not index:
            self._java.main(words)
            return
        with one_sentence():
            refuse_unfinished(Path(collection), only_ours=True)
        before = _files(Path(index))
        self._java.main(words)
        # An indexer that refused its arguments has made nothing: the files there are another's.
        if _files(Path(index)) != before:
            _stamp(lambda: stamp_index(Path(collection), Path(index)))


def _stamp(write: Callable[[], str]) -> None:
    """Write a manifest, and tell of warnings. The program's own work is done: nothing here is an error."""
    try:
        warning = write()
    except Exception as error:
        warning = f"no manifest was written: {error}"
    if warning:
        say(warning)


def stamp_collection(encoder: str, collection: Path) -> str:
    """Write the manifest of a directory that `pyserini.encode` has just filled; no warning.

    The directory no longer counts as unfinished then. Raises InputError on a record that Anserini would lose.
    """
    checkpoint = find_checkpoint(encoder)
    manifest = CollectionManifest(
        encoder=checkpoint.identity,
        card=card_table(checkpoint.stored_card),
        arguments={"encoder_name": checkpoint.lasting_name(encoder), "command": sys.argv},
        versions=versions(),
        files=tuple(describe_file(file) for file in sorted(collection.iterdir()) if file.name != WORK_NAME),
    )
    write_manifest(manifest, collection)
    mark = stock_mark(collection)
    mark.unlink(missing_ok=True)
    with suppress(OSError):
        mark.parent.rmdir()  # only if nothing else is in it
    return ""


def stamp_index(collection: Path, index: Path) -> str:
    """Write the manifest of an index that `pyserini.index.lucene` has just built, if its collection has one.

    Returns a warning if the index lacks documents, else an empty string.
    """
    if not manifest_path(collection).is_file() or not index.is_dir():
        return ""
    manifest = read_collection_manifest(collection)
    store_table(index, commit_table(manifest))
    built = IndexManifest(
        encoder=manifest.encoder,
        collection=manifest_hash(collection),
        documents=count_documents(index),
        postings=manifest.terms,
        bytes=size_in_bytes(index),
        commit=index_commit(index),
        query_encoder=manifest.query_encoder,
        encoder_name=manifest.encoder_name,
        seconds=0.0,
        versions=versions(),
    )
    write_manifest(built, index)
    if built.documents == manifest.documents:
        return ""
    return (
        f"{index} has {built.documents} documents, its collection {collection} has {manifest.documents}: "
        f"documents were lost"
    )


def _files(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Inode, size and time of a folder's files by name: they change when a file is written again."""
    found = {}
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == WORK_NAME:
                    continue
                status = entry.stat()
                found[entry.name] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found
