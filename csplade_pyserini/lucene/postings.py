"""Records of a JsonVectorCollection to a Lucene index, by their postings.

Anserini writes a vector as text that repeats each term as often as its impact says, and has Lucene count
the words again. Here each term comes once, with its frequency, and Lucene's own DelimitedTermFrequencyTokenFilter
takes both apart: the same fields, the same postings, at a fraction of the cost.

Everything here runs in a worker process with a JVM of its own: pyjnius is not safe under threads.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.impacts import LUCENE_MAX_TERM_LENGTH

CONTENTS, DOCID, RAW = "contents", "id", "raw"
"""Anserini's names of the fields that every Pyserini searcher reads."""
DELIMITER = "\x01"
"""Between term and frequency; in no tokenizer's vocabulary, and refused in other people's terms."""
MOST_IMPACT = 2**31 - 1
"""Frequencies are Java ints."""
MEMORY_MEGABYTES = 256
"""Postings that a writer gathers before it writes a segment."""
JAVA_SPACE = re.compile(r"[\t-\r\x1c- \u1680\u2000-\u2006\u2008-\u200a\u2028\u2029\u205f\u3000]")
"""What Lucene's WhitespaceTokenizer cuts at: Character.isWhitespace."""

COLON_FIRST = re.compile('[0-9],":')
"""An impact, then a term that begins with a colon; the term `,` has a quote before its comma."""


class IndexCounts(NamedTuple):
    """What Lucene itself says of an index."""

    documents: int
    postings: int
    terms: int
    """Different terms; 0 where several segments would have to be merged to know."""
    impacts: int
    """Sum of all frequencies: what Pyserini calls total terms."""


class PostingsWriter:
    """An index being written: the fields that Anserini's default generator makes, from docids and postings."""

    def __init__(self, folder: Path, *, store_raw: bool) -> None:
        """store_raw: keep each record's line, as Anserini does with -storeRaw."""
        self._writer = _open_writer(folder)
        # One document and its fields serve for all: a call into Java costs more than what it does there.
        self._document = java_class("lucene.document.Document")()
        self._docid_bytes = java_class("lucene.util.BytesRefBuilder")()
        self._docid_bytes.copyBytes(b"-", 0, 1)
        self._docid = java_class("lucene.document.StringField")(
            DOCID, "", java_class("lucene.document.Field$Store").YES
        )
        kind = java_class("lucene.document.FieldType")()
        kind.setIndexOptions(java_class("lucene.index.IndexOptions").DOCS_AND_FREQS)
        self._contents = java_class("lucene.document.Field")(CONTENTS, _characters(""), kind)
        fields = [
            self._docid,
            java_class("lucene.document.BinaryDocValuesField")(DOCID, self._docid_bytes.get()),
            self._contents,
        ]
        self._raw = (
            java_class("lucene.document.StoredField")(RAW, java_class("java.lang.String")(""))
            if store_raw
            else None
        )
        for field in [*fields, *([self._raw] if self._raw is not None else [])]:
            self._document.add(field)

    def add(self, docid: str, postings: str, raw: str) -> None:
        """A document: `TERM DELIMITER FREQUENCY` for each posting, with spaces between (see `postings_text`)."""
        self._docid.setStringValue(docid)
        in_bytes = docid.encode()
        self._docid_bytes.copyBytes(in_bytes, 0, len(in_bytes))
        self._contents.setStringValue(postings)
        if self._raw is not None:
            self._raw.setStringValue(raw)
        self._writer.addDocument(self._document)

    def close(self) -> None:
        """Commit what was added."""
        self._writer.commit()
        self._writer.close()


def raw_text(line: str) -> str:
    """A record as Anserini stores it: Jackson's pretty print."""
    return json.dumps(json.loads(line), ensure_ascii=False, indent=2, separators=(",", " : "))


def postings_text(vector: dict[str, int], place: object) -> str:
    """A record's vector as the analyzer here reads it. Raises InputError on what Lucene would lose or cut."""
    if not isinstance(vector, dict):
        raise InputError(
            f"{place}: the vector is {type(vector).__name__}; wanted an object of terms and impacts"
        )
    text = " ".join([f"{term}{DELIMITER}{impact}" for term, impact in vector.items()])
    types = set(map(type, vector.values()))
    if types - {int} or (vector and (min(vector.values()) < 1 or max(vector.values()) > MOST_IMPACT)):
        wrong = next(
            t for t, impact in vector.items() if type(impact) is not int or not 1 <= impact <= MOST_IMPACT
        )
        raise InputError(
            f"{place}: the impact of {wrong!r} is {vector[wrong]!r}; wanted a whole number from 1 to {MOST_IMPACT}, as Lucene would lose it"
        )
    # Cheap signs first; Python's white space is more than Java's, and a character at most two UTF-16 units.
    words = text.split()
    doubtful = (
        len(words) != len(vector)
        or " ".join(words) != text
        or text.count(DELIMITER) != len(vector)
        or "" in vector
    )
    if doubtful or max(map(len, vector), default=0) > LUCENE_MAX_TERM_LENGTH // 2:
        _check_terms(vector, place)
    return text


def checked_postings_text(vector: str) -> str | None:
    """postings_text of a vector's JSON as `to_record` writes it, between the braces, by text alone: a tenth of the cost.

    For vectors that were checked when they were written and have not changed since. None where JSON's escapes or a term that begins
    with a colon would have to be understood.
    """
    if "\\" in vector or vector.startswith('":') or (',":' in vector and COLON_FIRST.search(vector)):
        return None
    return vector[1:].replace('":', DELIMITER).replace(',"', " ")


def _check_terms(vector: dict[str, int], place: object) -> None:
    for term in vector:
        if not term or JAVA_SPACE.search(term) or DELIMITER in term:
            raise InputError(f"{place}: the term {term!r} is not one word: Lucene would cut it or lose it")
        if len(term.encode("utf-16-le", "surrogatepass")) // 2 > LUCENE_MAX_TERM_LENGTH:
            raise InputError(
                f"{place}: the term {term[:20]!r}... has more than {LUCENE_MAX_TERM_LENGTH} characters: Lucene would cut it"
            )


def count_index(folder: Path) -> IndexCounts:
    """What an index holds, as Pyserini's LuceneIndexReader counts it."""
    reader = open_reader(folder)
    try:
        leaves = [leaf.reader() for leaf in reader.leaves().toArray()]
        terms = [leaf.terms(CONTENTS) for leaf in leaves]
        return IndexCounts(
            documents=int(reader.numDocs()),
            postings=int(reader.getSumDocFreq(CONTENTS)),
            terms=int(terms[0].size()) if len(terms) == 1 else 0,
            impacts=int(reader.getSumTotalTermFreq(CONTENTS)),
        )
    finally:
        reader.close()


def merge_indexes(folders: Sequence[Path], target: Path, *, optimize: bool) -> IndexCounts:
    """One index of all documents of `folders`, in that order; `optimize`: of one segment, as -optimize makes it."""
    with java_errors(f"merging into {target}"):
        writer = _open_writer(target)
        writer.addIndexes(*[_directory(folder) for folder in folders])
        if optimize:
            writer.forceMerge(1)
        writer.commit()
        writer.close()
        return count_index(target)


@contextmanager
def java_errors(doing: str) -> Iterator[None]:
    """Raise Java's errors as CheckErrors that can leave a process, such as that of a full disk."""
    import pyserini.pyclass  # noqa: F401  (before jnius: it says where the jar is)
    from jnius import JavaException

    try:
        yield
    except JavaException as error:
        raise CheckError(f"{doing}: {str(error).splitlines()[0]}") from None


def java_class(name: str) -> Any:
    """A Java class, of Lucene's without their `org.apache.`."""
    from pyserini.pyclass import autoclass

    return autoclass(f"org.apache.{name}" if name.startswith("lucene.") else name)


def _directory(folder: Path) -> Any:
    return java_class("lucene.store.FSDirectory").open(java_class("java.nio.file.Paths").get(str(folder)))


def open_reader(folder: Path) -> Any:
    return java_class("lucene.index.DirectoryReader").open(_directory(folder))


def _open_writer(folder: Path) -> Any:
    """A writer of a new index, set up as Anserini's IndexCollection sets up its own."""
    config = java_class("lucene.index.IndexWriterConfig")(_analyzer())
    config.setSimilarity(java_class("io.anserini.search.similarity.ImpactSimilarity")())
    config.setOpenMode(java_class("lucene.index.IndexWriterConfig$OpenMode").CREATE)
    config.setRAMBufferSizeMB(float(MEMORY_MEGABYTES))
    config.setUseCompoundFile(False)
    return java_class("lucene.index.IndexWriter")(_directory(folder), config)


def _analyzer() -> Any:
    builder = java_class("lucene.analysis.custom.CustomAnalyzer").builder()
    longest, delimiter = java_class("java.util.HashMap")(), java_class("java.util.HashMap")()
    longest.put(
        "maxTokenLen", "1024"
    )  # more than a term with its frequency; terms are within Lucene's own limit already
    delimiter.put("delimiter", DELIMITER)
    return (
        builder.withTokenizer("whitespace", longest)
        .addTokenFilter("delimitedTermFrequency", delimiter)
        .build()
    )


def _characters(text: str) -> Any:
    """A java.lang.CharSequence, which pyjnius takes no str for."""
    from jnius import cast

    return cast("java.lang.CharSequence", java_class("java.lang.String")(text))
