"""Java classes by their short names, and the names of Lucene fields.

`classes.TermQuery` loads the class on first use, and with the first class a JVM. Pyserini is imported before
pyjnius, because it says where the jar is.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from csplade_pyserini.collections.index_shards import index_folders
from csplade_pyserini.errors import CheckError, InputError

CONTENTS = "contents"
DOCID = "id"
RAW = "raw"
"""Anserini's names of the fields that every Pyserini searcher reads."""

COMMIT_PREFIX = "csplade_pyserini."
"""Beginning of our keys in the table that Lucene keeps with a commit."""
SHARD = "shard"
"""Key, behind the prefix, of the name of a shard."""
COLLECTION = "collection"
"""Key, behind the prefix, of the hash of the collection that a shard is of."""
_CLOSES_THEM = True

NAMES = {
    "BinaryDocValuesField": "org.apache.lucene.document.BinaryDocValuesField",
    "ArrayList": "java.util.ArrayList",
    "BooleanClauseOccur": "org.apache.lucene.search.BooleanClause$Occur",
    "BooleanQueryBuilder": "org.apache.lucene.search.BooleanQuery$Builder",
    "BoostQuery": "org.apache.lucene.search.BoostQuery",
    "BytesRef": "org.apache.lucene.util.BytesRef",
    "BytesRefBuilder": "org.apache.lucene.util.BytesRefBuilder",
    "Class": "java.lang.Class",
    "CustomAnalyzer": "org.apache.lucene.analysis.custom.CustomAnalyzer",
    "DirectoryReader": "org.apache.lucene.index.DirectoryReader",
    "Document": "org.apache.lucene.document.Document",
    "FSDirectory": "org.apache.lucene.store.FSDirectory",
    "Field": "org.apache.lucene.document.Field",
    "FieldStore": "org.apache.lucene.document.Field$Store",
    "FieldType": "org.apache.lucene.document.FieldType",
    "HashMap": "java.util.HashMap",
    "HashSet": "java.util.HashSet",
    "ImpactSimilarity": "io.anserini.search.similarity.ImpactSimilarity",
    "IndexOptions": "org.apache.lucene.index.IndexOptions",
    "IndexSearcher": "org.apache.lucene.search.IndexSearcher",
    "IndexWriter": "org.apache.lucene.index.IndexWriter",
    "IndexWriterConfig": "org.apache.lucene.index.IndexWriterConfig",
    "JsonIgnored": "com.fasterxml.jackson.annotation.JsonIgnoreProperties$Value",
    "FieldUtils": "org.apache.commons.lang3.reflect.FieldUtils",
    "MultiReader": "org.apache.lucene.index.MultiReader",
    "NoMergePolicy": "org.apache.lucene.index.NoMergePolicy",
    "ObjectMapper": "com.fasterxml.jackson.databind.ObjectMapper",
    "OpenMode": "org.apache.lucene.index.IndexWriterConfig$OpenMode",
    "Paths": "java.nio.file.Paths",
    "QueryParser": "org.apache.lucene.queryparser.classic.QueryParser",
    "ScoredDoc": "io.anserini.search.ScoredDoc",
    "ScoredDocs": "io.anserini.search.ScoredDocs",
    "SegmentInfos": "org.apache.lucene.index.SegmentInfos",
    "SimpleModule": "com.fasterxml.jackson.databind.module.SimpleModule",
    "Sort": "org.apache.lucene.search.Sort",
    "SortField": "org.apache.lucene.search.SortField",
    "SortFieldType": "org.apache.lucene.search.SortField$Type",
    "StoredField": "org.apache.lucene.document.StoredField",
    "String": "java.lang.String",
    "StringField": "org.apache.lucene.document.StringField",
    "Term": "org.apache.lucene.index.Term",
    "TermQuery": "org.apache.lucene.search.TermQuery",
    "ToStringSerializer": "com.fasterxml.jackson.databind.ser.std.ToStringSerializer",
    "WhitespaceAnalyzer": "org.apache.lucene.analysis.core.WhitespaceAnalyzer",
}
"""Full names of the Java classes used here."""


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return java_class(name)


def java_class(name: str) -> Any:
    """Load a Java class by its short name."""
    from pyserini.pyclass import autoclass

    return autoclass(NAMES[name])


def cast_to(java_name: str, value: Any) -> Any:
    """Return a Java object as one of its interfaces or superclasses."""
    import pyserini.pyclass  # noqa: F401  (before jnius)
    from jnius import cast

    return cast(java_name, value)


def to_characters(text: str) -> Any:
    """Return a text as java.lang.CharSequence, which pyjnius does not make of a str."""
    return cast_to("java.lang.CharSequence", java_class("String")(text))


def open_directory(folder: Path) -> Any:
    """Open a folder as a Lucene directory."""
    return java_class("FSDirectory").open(java_class("Paths").get(str(folder)))


def open_reader(index: Path) -> Any:
    """Open an index for reading, of one folder or of shards.

    Raises pyjnius's JavaException if it is none, and InputError if shards are missing or of another index.
    """
    folders = index_folders(index)
    if folders == [index]:
        return _open_folder(index)
    readers: list[Any] = []
    try:
        for folder in folders:
            readers.append(_open_folder(folder))
        _refuse_foreign_shards(index, folders, readers)
        return java_class("MultiReader")(readers, _CLOSES_THEM)
    except BaseException:
        for reader in readers:
            reader.close()
        raise


def _open_folder(folder: Path) -> Any:
    return java_class("DirectoryReader").open(open_directory(folder))


def _refuse_foreign_shards(index: Path, folders: Sequence[Path], readers: Sequence[Any]) -> None:
    """Raise InputError that names a shard if the shards were not made together."""
    if os.environ.get("CSPLADE_ALLOW_MISMATCH") == "1":
        return
    collection = None
    for folder, reader in zip(folders, readers, strict=True):
        table = reader.getIndexCommit().getUserData()
        if table.get(COMMIT_PREFIX + SHARD) != folder.name:
            raise InputError(
                f"{folder} is no shard of {index}, it calls itself {table.get(COMMIT_PREFIX + SHARD)}: "
                f"index again (CSPLADE_ALLOW_MISMATCH=1 to search it all the same)"
            )
        found = table.get(COMMIT_PREFIX + COLLECTION)
        collection = collection or found
        if found != collection:
            raise InputError(
                f"{folder} and {folders[0]} are of two collections: index again "
                f"(CSPLADE_ALLOW_MISMATCH=1 to search them all the same)"
            )


@contextmanager
def java_errors(doing: str, error_type: type[Exception] = CheckError) -> Iterator[None]:
    """Turn Java's errors, such as a full disk, into errors of ours, which can leave a process."""
    import pyserini.pyclass  # noqa: F401  (before jnius)
    from jnius import JavaException

    try:
        yield
    except JavaException as error:
        reason, *_ = str(error).splitlines()
        raise error_type(f"{doing}: {reason}") from None
