"""Manifests for the output of the stock `pyserini.encode` and `pyserini.index.lucene` with our encoders.

They are written when the program ends well, so that a search on its index still knows its encoder.
"""

import atexit
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

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
from csplade_pyserini.collections.unfinished import stock_mark
from csplade_pyserini.collections.vectors import describe_file
from csplade_pyserini.files.stamps import write_made_of
from csplade_pyserini.files.whole import WORK_NAME
from csplade_pyserini.lucene.stock import count_documents, size_in_bytes
from csplade_pyserini.registration.programs import say


def stamp_at_exit(output: Path, write: Callable[[], str]) -> None:
    """Write the manifest of the program's output once it has ended well.

    write: writes it, and returns a warning for the user, or an empty string. The program's own work is done
    by then, so nothing here is an error.
    """
    before = _files(output)

    def stamp() -> None:
        # A program that refused its arguments has made nothing: the files there are another's.
        if hasattr(sys, "last_exc") or _files(output) == before:
            return
        try:
            warning = write()
        except Exception as error:
            warning = f"no manifest was written: {error}"
        if warning:
            say(warning)

    atexit.register(stamp)


def stamp_collection_at_exit(encoder: str, collection: Path) -> None:
    """Mark a directory as unfinished while `pyserini.encode` fills it; write its manifest at a good end.

    A stopped program leaves a collection that looks whole: only the mark tells. The mark goes when the
    manifest is there, and if the program has written nothing.
    """
    mark = stock_mark(collection)
    before = _files(collection)
    had_mark = mark.is_file()
    write_made_of(mark, {"command": sys.argv, "encoder": encoder})

    def remove_mark() -> None:
        mark.unlink(missing_ok=True)
        with suppress(OSError):
            mark.parent.rmdir()  # only if nothing else is in it

    def write() -> str:
        warning = stamp_collection(encoder, collection)
        remove_mark()
        return warning

    def clean() -> None:
        if not had_mark and _files(collection) == before:
            remove_mark()

    atexit.register(clean)
    stamp_at_exit(collection, write)


def stamp_collection(encoder: str, collection: Path) -> str:
    """Write the manifest of a directory that `pyserini.encode` has just filled; no warning.

    Raises InputError on a record that Anserini would lose.
    """
    checkpoint = find_checkpoint(encoder)
    manifest = CollectionManifest(
        encoder=checkpoint.identity,
        card=card_table(checkpoint.stored_card),
        arguments={"command": sys.argv},
        versions=versions(),
        files=tuple(describe_file(file) for file in sorted(collection.iterdir()) if file.name != WORK_NAME),
    )
    write_manifest(manifest, collection)
    return ""


def stamp_index(collection: Path, index: Path) -> str:
    """Write the manifest of an index that `pyserini.index.lucene` has just built, if its collection has one.

    Returns a warning if the index lacks documents, else an empty string.
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
