"""Corpora: streams of documents, out of JSONL files or ir_datasets; never held in memory.

A JSONL record has an id (`id`, `_id`, `docid`, or what --docid-field names) and text: the fields asked
for, joined by a space; without any, `contents`, else `title` and `text`.
"""

import gzip
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from csplade_pyserini.errors import InputError

IR_DATASETS_PREFIX = "ir_datasets:"
JSONL_ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
ID_FIELDS = ("id", "_id", "docid")
DEFAULT_FIELDS = (("contents",), ("title", "text"), ("text",))


class Document(NamedTuple):
    """A document as read: its docid, its text, and the place that an error about it names."""

    docid: str
    text: str
    place: str


class Corpus(Protocol):
    """A stream of documents that can be read again."""

    @property
    def name(self) -> str:
        """What the user called it."""

    def documents(self) -> Iterator[Document]:
        """Every document, in an order that never changes. Raises InputError on a bad record."""


@dataclass(frozen=True)
class JsonlCorpus:
    """JSONL files, plain or gzip, in the order of their names."""

    name: str
    files: tuple[Path, ...]
    fields: tuple[str, ...] = ()
    docid_field: str = ""

    def documents(self) -> Iterator[Document]:
        for file in self.files:
            for number, line in enumerate(read_lines(file), start=1):
                place = f"{file}:{number}"
                record = parse_record(line, place)
                yield Document(self._docid(record, place), join_fields(record, self.fields, place), place)

    def _docid(self, record: dict[str, Any], place: str) -> str:
        wanted = (self.docid_field,) if self.docid_field else ID_FIELDS
        docid = next((record[field] for field in wanted if field in record), None)
        if type(docid) not in (str, int) or str(docid).split() != [str(docid)]:
            raise InputError(f"{place}: the docid ({' or '.join(wanted)}) is {docid!r}; wanted a string without white space, or a number")
        return str(docid)


@dataclass(frozen=True)
class IrDatasetsCorpus:
    """The documents of an ir_datasets data set; `name` is `ir_datasets:ID`."""

    name: str
    fields: tuple[str, ...] = ()

    def documents(self) -> Iterator[Document]:
        data_set = load_ir_dataset(self.name)
        if not data_set.has_docs():
            raise InputError(f"{self.name} has no documents")
        for number, doc in enumerate(data_set.docs_iter(), start=1):
            place = f"{self.name}, document {number}"
            yield Document(doc.doc_id, join_fields(doc._asdict(), self.fields, place), place)


def open_corpus(name: str, *, fields: Sequence[str] = (), docid_field: str = "") -> Corpus:
    """The corpus that `PATH` (a file, or a folder of them) or `ir_datasets:ID` means.

    Raises InputError where there is none.
    """
    if name.startswith(IR_DATASETS_PREFIX):
        return IrDatasetsCorpus(name, tuple(fields))
    path = Path(name)
    if path.is_file():
        return JsonlCorpus(name, (path,), tuple(fields), docid_field)
    if not path.is_dir():
        raise InputError(f"the corpus {name} does not exist; wanted a JSONL file, a folder of them, or {IR_DATASETS_PREFIX}ID")
    files = tuple(sorted(file for file in path.iterdir() if file.name.endswith(JSONL_ENDINGS)))
    if not files:
        raise InputError(f"the corpus {name} has no file that ends in {', '.join(JSONL_ENDINGS)}")
    return JsonlCorpus(name, files, tuple(fields), docid_field)


def load_ir_dataset(name: str) -> Any:
    """The ir_datasets data set of `ir_datasets:ID`. Raises InputError where the ID is unknown."""
    import ir_datasets

    try:
        return ir_datasets.load(name.removeprefix(IR_DATASETS_PREFIX))
    except KeyError as error:
        raise InputError(f"{name}: ir_datasets knows no such data set; see https://ir-datasets.com") from error


def read_lines(file: Path) -> Iterator[str]:
    """Lines of a text file, plain or gzip. Raises InputError where it is broken or not UTF-8."""
    number = 0
    try:
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
            for line in lines:
                number += 1
                yield line
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{file}:{number + 1}: cannot be read: {error}") from error


def parse_record(line: str, place: str) -> dict[str, Any]:
    """A line as a JSON object. Raises InputError that names the place."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}: not JSON ({error.msg}); wanted one object a line") from error
    if not isinstance(record, dict):
        raise InputError(f"{place}: got {type(record).__name__}; wanted one JSON object a line")
    return record


def join_fields(record: dict[str, Any], fields: Sequence[str], place: str) -> str:
    """The fields' texts, stripped, joined by one space, empty ones left out.

    Fields that a record lacks are cut out of its `contents` at line ends, as Pyserini does.
    """
    if not fields:
        fields = next((group for group in DEFAULT_FIELDS if all(field in record for field in group)), ())
        if not fields:
            raise InputError(f"{place}: no text; wanted 'contents', or 'title' and 'text' (or name them: --fields)")
    if "contents" in record and len(fields) > 1 and not all(field in record for field in fields):
        parts = str(record["contents"]).removesuffix("\n").split("\n")
        record = dict(zip(fields, parts, strict=False)) if len(parts) == len(fields) else {}
    elif len(fields) == 1 and fields[0] not in record and "contents" in record:
        record = {fields[0]: record["contents"]}
    texts = [record.get(field) for field in fields]
    for field, text in zip(fields, texts, strict=True):
        if not isinstance(text, str):
            raise InputError(f"{place}: the field {field!r} is {json.dumps(text)}; wanted a string")
    return " ".join(text.strip() for text in texts if isinstance(text, str) and text.strip())


def count_documents(corpus: Corpus) -> int:
    """Read the whole corpus once and count it, so that errors come before any work.

    Raises InputError on the first bad record, on a repeated docid (naming both places), and on an empty
    corpus. Memory: 8 bytes a document.
    """
    hashes = np.fromiter((_hash(d.docid) for d in tqdm(corpus.documents(), desc="checking", unit="doc")), dtype=np.uint64)
    if not len(hashes):
        raise InputError(f"the corpus {corpus.name} is empty")
    ordered = np.sort(hashes)
    repeated = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if repeated:
        _raise_repeated(corpus, repeated)
    return len(hashes)


def documents_between(corpus: Corpus, first: int, last: int) -> Iterator[Document]:
    """The documents number `first` (from 0) up to but not with `last`."""
    return itertools.islice(corpus.documents(), first, last)


def _hash(docid: str) -> int:
    return int.from_bytes(hashlib.blake2b(docid.encode(), digest_size=8).digest())


def _raise_repeated(corpus: Corpus, hashes: set[int]) -> None:
    """Find the first docid that really stands twice; equal hashes alone are no error."""
    places: dict[str, str] = {}
    for document in corpus.documents():
        if _hash(document.docid) in hashes:
            if document.docid in places:
                raise InputError(f"{document.place}: docid {document.docid!r} is also at {places[document.docid]}")
            places[document.docid] = document.place
