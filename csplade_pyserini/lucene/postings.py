"""Postings to a Lucene index.

Anserini writes a vector as text that repeats each term as often as its impact says, and has Lucene count the
words again. Here each term comes once, with its frequency, and Lucene's own DelimitedTermFrequencyTokenFilter
splits the two: the same fields, the same postings, at a fraction of the cost.

All of it runs in a worker process with a JVM of its own: pyjnius is not safe under threads.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from csplade_pyserini.collections.vectors import DELIMITER
from csplade_pyserini.files.json_text import parse_json
from csplade_pyserini.lucene import classes
from csplade_pyserini.lucene.classes import (
    CONTENTS,
    DOCID,
    RAW,
    cast_to,
    java_errors,
    open_directory,
    open_reader,
    to_characters,
)

MEMORY_MEGABYTES = 256
"""Size of the postings that the writers of a process gather before they write segments."""
LONGEST_WORD = "1024"
"""Characters of a term with its frequency, at most; terms are within Lucene's own limit already."""


class IndexCounts(NamedTuple):
    """Counts of an index, by Lucene itself."""

    documents: int
    postings: int
    terms: int
    """Number of different terms; 0 if several segments or shards would have to be merged to know."""
    impacts: int
    """Sum of all frequencies; Pyserini calls it total terms."""

    @classmethod
    def total(cls, shards: "Sequence[IndexCounts]") -> "IndexCounts":
        """Add up the counts of the shards of an index."""
        if len(shards) == 1:
            return shards[0]
        return cls(
            documents=sum(shard.documents for shard in shards),
            postings=sum(shard.postings for shard in shards),
            terms=0,
            impacts=sum(shard.impacts for shard in shards),
        )


class PostingsWriter:
    """An index being written, with the fields that Anserini's default generator makes."""

    def __init__(self, folder: Path, *, store_raw: bool, memory: float = MEMORY_MEGABYTES) -> None:
        """store_raw: keep each record's line, as Anserini does with -storeRaw. memory: in megabytes."""
        self._writer = _open_writer(folder, memory)
        # One document and its fields serve for all: a call into Java costs more than its work there.
        self._document = classes.Document()
        self._docid_bytes = classes.BytesRefBuilder()
        self._docid_bytes.copyBytes(b"-", 0, 1)
        self._docid = classes.StringField(DOCID, "", classes.FieldStore.YES)
        self._contents = classes.Field(CONTENTS, to_characters(""), _frequencies())
        self._raw = classes.StoredField(RAW, classes.String(""))
        fields = [
            self._docid,
            classes.BinaryDocValuesField(DOCID, self._docid_bytes.get()),
            self._contents,
        ]
        if store_raw:
            fields.append(self._raw)
        for field in fields:
            self._document.add(field)

    def add(self, docid: str, postings: str, raw: str) -> None:
        """Add a document. postings: as `to_postings` of collections/vectors.py formats them."""
        self._docid.setStringValue(docid)
        docid_bytes = docid.encode()
        self._docid_bytes.copyBytes(docid_bytes, 0, len(docid_bytes))
        self._contents.setStringValue(postings)
        if raw:
            self._raw.setStringValue(raw)
        self._writer.addDocument(self._document)

    def close(self) -> None:
        """Commit the documents that were added."""
        self._writer.commit()
        self._writer.close()


def raw_text(line: str) -> str:
    """Format a record as Anserini stores it: Jackson's pretty print."""
    return json.dumps(parse_json(line), ensure_ascii=False, indent=2, separators=(",", " : "))


def count_index(folder: Path) -> IndexCounts:
    """Count an index, as Pyserini's LuceneIndexReader does."""
    reader = open_reader(folder)
    try:
        leaves = [leaf.reader() for leaf in reader.leaves().toArray()]
        terms = 0
        if len(leaves) == 1:
            contents = leaves[0].terms(CONTENTS)  # None if no document has a term
            terms = int(contents.size()) if contents is not None else 0
        return IndexCounts(
            documents=int(reader.numDocs()),
            postings=int(reader.getSumDocFreq(CONTENTS)),
            terms=terms,
            impacts=int(reader.getSumTotalTermFreq(CONTENTS)),
        )
    finally:
        reader.close()


def merge_indexes(
    folders: Sequence[Path], target: Path, *, optimize: bool, table: Mapping[str, str]
) -> IndexCounts:
    """Merge indexes into one, in order, and count it.

    optimize: one segment, as -optimize makes it. table: strings to keep with the commit.
    """
    with java_errors(f"merging into {target}"):
        writer = _open_writer(target)
        writer.addIndexes(*map(open_directory, folders))
        if optimize:
            writer.forceMerge(1)
        _keep_table(writer, table)
        writer.commit()
        writer.close()
        return count_index(target)


def store_table(folder: Path, table: Mapping[str, str]) -> None:
    """Keep strings with a new commit of an index, and change nothing else. No strings, no commit."""
    if not table:
        return
    with java_errors(f"writing into {folder}"):
        config = classes.IndexWriterConfig(_analyzer())
        config.setOpenMode(classes.OpenMode.APPEND)
        config.setMergePolicy(classes.NoMergePolicy.INSTANCE)
        writer = classes.IndexWriter(open_directory(folder), config)
        _keep_table(writer, table)
        writer.commit()
        writer.close()


def _keep_table(writer: Any, table: Mapping[str, str]) -> None:
    writer.setLiveCommitData(cast_to("java.lang.Iterable", _options(**table).entrySet()))


def _open_writer(folder: Path, memory: float = MEMORY_MEGABYTES) -> Any:
    """Open a writer of a new index, set up as Anserini's IndexCollection sets up its own."""
    config = classes.IndexWriterConfig(_analyzer())
    config.setSimilarity(classes.ImpactSimilarity())
    config.setOpenMode(classes.OpenMode.CREATE)
    config.setRAMBufferSizeMB(float(memory))
    config.setUseCompoundFile(False)
    return classes.IndexWriter(open_directory(folder), config)


def _frequencies() -> Any:
    """Make the type of a field with documents and frequencies, without positions."""
    kind = classes.FieldType()
    kind.setIndexOptions(classes.IndexOptions.DOCS_AND_FREQS)
    return kind


def _analyzer() -> Any:
    """Make an analyzer that splits postings at spaces, and each one at the delimiter."""
    builder = classes.CustomAnalyzer.builder()
    builder = builder.withTokenizer("whitespace", _options(maxTokenLen=LONGEST_WORD))
    builder = builder.addTokenFilter("delimitedTermFrequency", _options(delimiter=DELIMITER))
    return builder.build()


def _options(**options: str) -> Any:
    java_map = classes.HashMap()
    for key, value in options.items():
        java_map.put(key, value)
    return java_map
