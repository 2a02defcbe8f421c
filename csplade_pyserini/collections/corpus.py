"""Corpora: streams of documents from JSONL files or ir_datasets, never held in memory.

A JSONL record has a docid: `id`, `_id`, `docid`, or the field that --docid-field names. Its text is the
fields that --fields names, joined by a space; by default `contents`, else `title` and `text`.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from csplade_pyserini.collections.docids import check_docid, docid_hash, refuse_repeated
from csplade_pyserini.collections.folders import document_files
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.compressed import is_compressed
from csplade_pyserini.files.lines import check_unicode, numbered_lines, parse_record
from csplade_pyserini.files.spans import span_lines, spans_between
from csplade_pyserini.files.whole import whole_file

IR_DATASETS_PREFIX = "ir_datasets:"
STANDARD_INPUT = "-"
ID_FIELDS = ("id", "_id", "docid")
DEFAULT_FIELDS = (("contents",), ("title", "text"), ("text",))


class Document(NamedTuple):
    """A document as read: docid, text, and the place that errors about it name."""

    docid: str
    text: str
    place: object


class Corpus(Protocol):
    """A stream of documents that can be read again."""

    @property
    def name(self) -> str:
        """Name that the user gave."""

    @property
    def shard_num(self) -> int:
        """Number of shards; 1 if unsplit."""

    @property
    def size(self) -> str:
        """Cheap size, to detect a changed corpus."""

    def documents(self) -> Iterator[Document]:
        """Every document, in an order that never changes. Raises InputError on a bad record."""

    def shard(self, shard_id: int, shard_num: int) -> "Corpus":
        """Shard `shard_id` (from 0) of `shard_num`. Every document is in one.

        Which one depends on the corpus's size alone.
        """


@dataclass(frozen=True)
class JsonlCorpus:
    """JSONL files, plain or compressed, in order of name.

    A shard has a range of bytes of the plain files, and every `shard_num`-th line of the compressed ones.
    """

    name: str
    files: tuple[Path, ...]
    fields: tuple[str, ...] = ()
    docid_field: str = ""
    shard_id: int = 0
    shard_num: int = 1

    @property
    def size(self) -> str:
        """Number of files and of bytes."""
        return f"{len(self.files)} files, {sum(file.stat().st_size for file in self.files)} bytes"

    def documents(self) -> Iterator[Document]:
        """Every document of the shard, in order. Raises InputError on a bad record."""
        for place, line in self._lines():
            record = parse_record(line, place)
            yield Document(self._docid(record, place), join_fields(record, self.fields, place), place)

    def shard(self, shard_id: int, shard_num: int) -> "JsonlCorpus":
        """Shard `shard_id` of `shard_num`."""
        return dataclasses.replace(self, shard_id=shard_id, shard_num=shard_num)

    def _lines(self) -> Iterator[tuple[object, str]]:
        plain = {file: file.stat().st_size for file in self.files if not is_compressed(file)}
        start, end = shard_range(sum(plain.values()), self.shard_id, self.shard_num)
        spans = {span.file: span for span in spans_between(plain, start, end)}
        for file in self.files:
            if file in spans:
                yield from span_lines(spans[file])
            elif file not in plain:
                yield from itertools.islice(numbered_lines(file), self.shard_id, None, self.shard_num)

    def _docid(self, record: dict[str, Any], place: object) -> str:
        wanted: Sequence[str] = ID_FIELDS
        if self.docid_field:
            wanted = (self.docid_field,)
        for field in wanted:
            if field in record:
                return check_docid(record[field], place)
        raise InputError(f"{place}: no docid; wanted the field {' or '.join(wanted)}")


@dataclass(frozen=True)
class IrDatasetsCorpus:
    """Documents of an ir_datasets data set; `name` is `ir_datasets:ID`. A shard has a range of them."""

    name: str
    fields: tuple[str, ...] = ()
    shard_id: int = 0
    shard_num: int = 1

    @property
    def size(self) -> str:
        """Number of documents."""
        return f"{self._total()} documents"

    def documents(self) -> Iterator[Document]:
        """Every document of the shard, in order. Raises InputError on a bad record."""
        documents = self._data_set().docs_iter()
        first, last = shard_range(self._total(), self.shard_id, self.shard_num)
        if hasattr(documents, "__getitem__"):
            documents = documents[first:last]  # ir_datasets seeks, if the data set can
        else:
            documents = itertools.islice(documents, first, last)
        for number, record in enumerate(documents, start=first + 1):
            place = f"{self.name}, document {number}"
            text = join_fields(record._asdict(), self.fields, place)
            yield Document(check_docid(record.doc_id, place), text, place)

    def shard(self, shard_id: int, shard_num: int) -> "IrDatasetsCorpus":
        """Shard `shard_id` of `shard_num`."""
        return dataclasses.replace(self, shard_id=shard_id, shard_num=shard_num)

    def _data_set(self) -> Any:
        data_set = load_ir_dataset(self.name)
        if not data_set.has_docs():
            raise InputError(f"{self.name} has no documents")
        return data_set

    def _total(self) -> int:
        return int(self._data_set().docs_count())


def shard_range(total: int, shard_id: int, shard_num: int) -> tuple[int, int]:
    """First of `total` things that a shard has, and the one after its last."""
    return total * shard_id // shard_num, total * (shard_id + 1) // shard_num


def open_corpus(name: str, *, fields: Sequence[str] = (), docid_field: str = "") -> Corpus:
    """Open the corpus `PATH` (a file, or a folder of files) or `ir_datasets:ID`.

    Raises InputError if there is none.
    """
    if name.startswith(IR_DATASETS_PREFIX):
        if docid_field:
            raise InputError(f"--docid-field {docid_field}: documents of {name} have their docids already")
        return IrDatasetsCorpus(name, tuple(fields))
    path = Path(name)
    if path.is_file():
        return JsonlCorpus(name, (path,), tuple(fields), docid_field)
    if is_stream(name):
        raise InputError(
            f"the corpus {name} is a pipe, which can be read only once: write it to a file first"
        )
    if not path.is_dir():
        raise InputError(
            f"the corpus {name} does not exist; "
            f"wanted a JSONL file, a folder of them, or {IR_DATASETS_PREFIX}ID"
        )
    return JsonlCorpus(name, document_files(path), tuple(fields), docid_field)


def is_stream(name: str) -> bool:
    """Whether a corpus is the standard input (`-`) or a pipe."""
    path = Path(name)
    return name == STANDARD_INPUT or (path.exists() and not path.is_file() and not path.is_dir())


def write_corpus(corpus: Corpus, file: Path) -> None:
    """Write every document as a JsonCollection record, `{"id", "contents"}`, one per line."""
    with whole_file(file) as lines:
        for document in corpus.documents():
            record = {"id": document.docid, "contents": document.text}
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")


def load_ir_dataset(name: str) -> Any:
    """Load the ir_datasets data set `ir_datasets:ID`.

    Raises InputError if the ID is unknown, or if ir_datasets has no folder to keep data sets in.
    """
    try:
        import ir_datasets  # makes its folder, and looks for the home folder even where it needs none

        return ir_datasets.load(name.removeprefix(IR_DATASETS_PREFIX))
    except RuntimeError as error:
        raise InputError(
            f"{name}: ir_datasets wants a home folder ({error}): set HOME to a folder"
        ) from error
    except OSError as error:
        raise InputError(
            f"{name}: ir_datasets cannot keep data sets in {error.filename} ({error.strerror}); "
            f"set IR_DATASETS_HOME to a folder that you may write"
        ) from error
    except KeyError as error:
        raise InputError(
            f"{name}: ir_datasets knows no such data set; see https://ir-datasets.com"
        ) from error


def join_fields(record: dict[str, Any], fields: Sequence[str], place: object) -> str:
    """Join the fields' texts, stripped, by one space; empty ones are left out.

    Fields that a record lacks are cut out of its `contents` at line ends, as Pyserini does. Raises InputError
    if a field is missing or no string.
    """
    fields = fields or _default_fields(record, place)
    record = _with_fields_of_contents(record, fields)
    texts = []
    for field in fields:
        if field not in record:
            has = ", ".join(map(repr, record)) or "none"
            raise InputError(f"{place}: no field {field!r}; it has {has}")
        text = record[field]
        if not isinstance(text, str):
            raise InputError(f"{place}: the field {field!r} is {json.dumps(text)}; wanted a string")
        texts.append(text.strip())
    joined = " ".join(filter(None, texts))
    check_unicode(joined, place)
    return joined


def _default_fields(record: dict[str, Any], place: object) -> Sequence[str]:
    for group in DEFAULT_FIELDS:
        if all(field in record for field in group):
            return group
    raise InputError(
        f"{place}: no text; wanted 'contents', 'title' and 'text', or 'text' (or name them: --fields)"
    )


def _with_fields_of_contents(record: dict[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """Return the record, or one made of the lines of its `contents` if it lacks a field."""
    if "contents" not in record or all(field in record for field in fields):
        return record
    if len(fields) == 1:
        return {fields[0]: record["contents"]}
    lines = str(record["contents"]).removesuffix("\n").split("\n")
    if len(lines) != len(fields):
        return record
    return dict(zip(fields, lines, strict=True))


class Extent(NamedTuple):
    """Documents of a corpus, counted and hashed: tells a changed corpus from the one read before."""

    documents: int
    digest: str
    """Hash of all docids and texts, in order."""
    docid_hashes: "np.ndarray"


class Digest:
    """Running hash of docids and texts, in order; 16 hex digits as a string."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=8)

    def add(self, document: Document) -> None:
        """Add a document. Docids hold no space, so the parts cannot be confused."""
        self._hash.update(f"{document.docid} {len(document.text)} {document.text}".encode())

    def __str__(self) -> str:
        return self._hash.hexdigest()


def measure_corpus(corpus: Corpus) -> Extent:
    """Read a corpus or shard once, so that errors come before any work.

    Raises InputError on the first bad record, on a repeated docid (naming both places), and on an empty
    corpus; a shard may be empty. Memory: 8 bytes per document.
    """
    digest = Digest()

    def docid_hashes() -> Iterator[int]:
        for document in tqdm(corpus.documents(), desc="checking", unit="doc"):
            digest.add(document)
            yield docid_hash(document.docid)

    hashes = np.fromiter(docid_hashes(), dtype=np.uint64)
    if not len(hashes) and corpus.shard_num == 1:
        raise InputError(f"the corpus {corpus.name} is empty")
    refuse_repeated(hashes, lambda: ((document.docid, document.place) for document in corpus.documents()))
    return Extent(len(hashes), str(digest), hashes)
