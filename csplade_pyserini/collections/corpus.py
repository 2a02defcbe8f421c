"""Corpora: streams of documents, out of JSONL files or ir_datasets; never held in memory.

A JSONL record has an id (`id`, `_id`, `docid`, or what --docid-field names) and text: the fields asked
for, joined by a space; without any, `contents`, else `title` and `text`.
"""

import dataclasses
import gzip
import hashlib
import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from csplade_pyserini.collections.files import whole_file
from csplade_pyserini.collections.spans import span_lines, spans_between
from csplade_pyserini.errors import InputError
from csplade_pyserini.utf8 import check_unicode

IR_DATASETS_PREFIX = "ir_datasets:"
JSONL_ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
ID_FIELDS = ("id", "_id", "docid")
DEFAULT_FIELDS = (("contents",), ("title", "text"), ("text",))
MOST_DOCID_BYTES = 32_766
"""IndexWriter.MAX_TERM_LENGTH of Lucene, in UTF-8."""


class Document(NamedTuple):
    """A document as read: its docid, its text, and the place that an error about it names."""

    docid: str
    text: str
    place: object


class Corpus(Protocol):
    """A stream of documents that can be read again."""

    @property
    def name(self) -> str:
        """What the user called it."""

    @property
    def count(self) -> int:
        """Of how many pieces this is one; 1: the whole."""

    @property
    def size(self) -> str:
        """How large it is, without reading it: what tells a corpus that has grown from the one of before."""

    def documents(self) -> Iterator[Document]:
        """Every document, in an order that never changes. Raises InputError on a bad record."""

    def piece(self, number: int, count: int) -> "Corpus":
        """Piece `number` (from 0) of `count`: every document is in one. A function of the corpus's size alone."""


@dataclass(frozen=True)
class JsonlCorpus:
    """JSONL files, plain or gzip, in the order of their names."""

    name: str
    files: tuple[Path, ...]
    fields: tuple[str, ...] = ()
    docid_field: str = ""
    number: int = 0
    count: int = 1
    """Which piece of how many: of plain files so many bytes, of compressed ones every `count`-th line."""

    @property
    def size(self) -> str:
        return f"{len(self.files)} files, {sum(file.stat().st_size for file in self.files)} bytes"

    def documents(self) -> Iterator[Document]:
        for place, line in self._lines():
            record = parse_record(line, place)
            yield Document(self._docid(record, place), join_fields(record, self.fields, place), place)

    def piece(self, number: int, count: int) -> "JsonlCorpus":
        return dataclasses.replace(self, number=number, count=count)

    def _lines(self) -> Iterator[tuple[object, str]]:
        plain = {file: file.stat().st_size for file in self.files if file.suffix != ".gz"}
        start, end = shard_range(sum(plain.values()), self.number, self.count)
        spans = {span.file: span for span in spans_between(plain, start, end)}
        for file in self.files:
            if file in spans:
                yield from span_lines(spans[file])
            elif file not in plain:
                for number, line in itertools.islice(
                    enumerate(read_lines(file), start=1), self.number, None, self.count
                ):
                    yield f"{file}:{number}", line

    def _docid(self, record: dict[str, Any], place: object) -> str:
        wanted = (self.docid_field,) if self.docid_field else ID_FIELDS
        field = next((field for field in wanted if field in record), None)
        if field is None:
            raise InputError(f"{place}: no docid; wanted the field {' or '.join(wanted)}")
        return check_docid(record[field], place)


@dataclass(frozen=True)
class IrDatasetsCorpus:
    """The documents of an ir_datasets data set; `name` is `ir_datasets:ID`."""

    name: str
    fields: tuple[str, ...] = ()
    number: int = 0
    count: int = 1
    """Which piece of how many: a range of documents."""

    @property
    def size(self) -> str:
        return f"{self._total()} documents"

    def documents(self) -> Iterator[Document]:
        documents = self._data_set().docs_iter()
        first, last = shard_range(self._total(), self.number, self.count)
        # Slices of ir_datasets seek where the data set can; a plain iterator has to pass over what comes before.
        piece = (
            documents[first:last]
            if hasattr(documents, "__getitem__")
            else itertools.islice(documents, first, last)
        )
        for number, doc in enumerate(piece, start=first + 1):
            place = f"{self.name}, document {number}"
            yield Document(
                check_docid(doc.doc_id, place), join_fields(doc._asdict(), self.fields, place), place
            )

    def piece(self, number: int, count: int) -> "IrDatasetsCorpus":
        return dataclasses.replace(self, number=number, count=count)

    def _data_set(self) -> Any:
        data_set = load_ir_dataset(self.name)
        if not data_set.has_docs():
            raise InputError(f"{self.name} has no documents")
        return data_set

    def _total(self) -> int:
        return int(self._data_set().docs_count())


def shard_range(total: int, number: int, count: int) -> tuple[int, int]:
    """The first of `total` things that piece `number` of `count` has, and the one after its last."""
    return total * number // count, total * (number + 1) // count


def open_corpus(name: str, *, fields: Sequence[str] = (), docid_field: str = "") -> Corpus:
    """The corpus that `PATH` (a file, or a folder of them) or `ir_datasets:ID` means.

    Raises InputError where there is none.
    """
    if name.startswith(IR_DATASETS_PREFIX):
        if docid_field:
            raise InputError(f"--docid-field {docid_field}: documents of {name} have their docids already")
        return IrDatasetsCorpus(name, tuple(fields))
    path = Path(name)
    if path.is_file():
        return JsonlCorpus(name, (path,), tuple(fields), docid_field)
    if not path.is_dir():
        raise InputError(
            f"the corpus {name} does not exist; wanted a JSONL file, a folder of them, or {IR_DATASETS_PREFIX}ID"
        )
    files = tuple(sorted(file for file in path.iterdir() if file.name.endswith(JSONL_ENDINGS)))
    if not files:
        raise InputError(f"the corpus {name} has no file that ends in {', '.join(JSONL_ENDINGS)}")
    return JsonlCorpus(name, files, tuple(fields), docid_field)


def write_corpus(corpus: Corpus, file: Path) -> None:
    """Write every document as a JsonCollection record, `{"id", "contents"}`, a line each."""
    with whole_file(file) as lines:
        for document in corpus.documents():
            lines.write(
                json.dumps({"id": document.docid, "contents": document.text}, ensure_ascii=False) + "\n"
            )


def load_ir_dataset(name: str) -> Any:
    """The ir_datasets data set of `ir_datasets:ID`. Raises InputError where the ID is unknown."""
    import ir_datasets

    try:
        return ir_datasets.load(name.removeprefix(IR_DATASETS_PREFIX))
    except KeyError as error:
        raise InputError(
            f"{name}: ir_datasets knows no such data set; see https://ir-datasets.com"
        ) from error


def read_lines(file: Path) -> Iterator[str]:
    """Lines of a text file, plain or gzip. Raises InputError where it is broken or not UTF-8."""
    number = 0
    try:
        if file.suffix == ".gz" and not file.stat().st_size:
            raise EOFError("it has no byte, so it is no gzip file")  # Python's gzip takes it for an empty one
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
            for line in lines:
                text = line.decode("utf-8")  # line by line, so that an error has its line
                number += 1
                yield text
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{file}:{number + 1}: cannot be read: {error}") from error


def parse_record(line: str, place: object) -> dict[str, Any]:
    """A line as a JSON object. Raises InputError that names the place."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{place}: not JSON ({getattr(error, 'msg', error)}); wanted one object a line"
        ) from error
    if not isinstance(record, dict):
        raise InputError(f"{place}: got {type(record).__name__}; wanted one JSON object a line")
    return record


def join_fields(record: dict[str, Any], fields: Sequence[str], place: object) -> str:
    """The fields' texts, stripped, joined by one space, empty ones left out.

    Fields that a record lacks are cut out of its `contents` at line ends, as Pyserini does.
    """
    if not fields:
        fields = next((group for group in DEFAULT_FIELDS if all(field in record for field in group)), ())
        if not fields:
            raise InputError(
                f"{place}: no text; wanted 'contents', 'title' and 'text', or 'text' (or name them: --fields)"
            )
    if "contents" in record and len(fields) > 1 and not all(field in record for field in fields):
        parts = str(record["contents"]).removesuffix("\n").split("\n")
        if len(parts) == len(fields):
            record = dict(zip(fields, parts, strict=True))
    elif len(fields) == 1 and fields[0] not in record and "contents" in record:
        record = {fields[0]: record["contents"]}
    for field in fields:
        if field not in record:
            raise InputError(f"{place}: no field {field!r}; it has {', '.join(map(repr, record)) or 'none'}")
        if not isinstance(record[field], str):
            raise InputError(f"{place}: the field {field!r} is {json.dumps(record[field])}; wanted a string")
    joined = " ".join(record[field].strip() for field in fields if record[field].strip())
    check_unicode(joined, place)
    return joined


def check_docid(docid: object, place: object) -> str:
    """A docid as a string. Raises InputError unless it is one word that Lucene keeps, or a number."""
    if type(docid) not in (str, int) or str(docid).split() != [str(docid)]:
        raise InputError(f"{place}: the docid is {docid!r}; wanted a string without white space, or a number")
    check_unicode(str(docid), place)
    size = len(str(docid).encode())
    if size > MOST_DOCID_BYTES:
        raise InputError(
            f"{place}: the docid {docid!r} has {size} bytes; Lucene keeps at most {MOST_DOCID_BYTES}"
        )
    return str(docid)


class Extent(NamedTuple):
    """What a corpus amounts to: tells a changed one from the one that was read before."""

    documents: int
    digest: str
    """Of all docids and texts, in order."""
    docid_hashes: "np.ndarray"


class Digest:
    """Docids and texts, in order, as 16 hex digits."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=8)

    def add(self, document: Document) -> None:
        self._hash.update(
            f"{document.docid} {len(document.text)} {document.text}".encode()
        )  # docids hold no space

    def __str__(self) -> str:
        return self._hash.hexdigest()


def measure_corpus(corpus: Corpus) -> Extent:
    """Read the whole corpus, or piece of one, once, so that errors come before any work.

    Raises InputError on the first bad record, on a repeated docid (naming both places), and on an empty
    corpus; a piece may be empty. Memory: 8 bytes a document.
    """
    digest = Digest()

    def docid_hashes() -> Iterator[int]:
        for document in tqdm(corpus.documents(), desc="checking", unit="doc"):
            digest.add(document)
            yield docid_hash(document.docid)

    hashes = np.fromiter(docid_hashes(), dtype=np.uint64)
    if not len(hashes) and corpus.count == 1:
        raise InputError(f"the corpus {corpus.name} is empty")
    refuse_repeated(hashes, lambda: ((document.docid, document.place) for document in corpus.documents()))
    return Extent(len(hashes), str(digest), hashes)


def docid_hash(docid: str) -> int:
    """64 bits of a docid: what is kept of millions of them."""
    return int.from_bytes(hashlib.blake2b(docid.encode(), digest_size=8).digest())


def refuse_repeated(hashes: "np.ndarray", docids: Callable[[], Iterable[tuple[str, object]]]) -> None:
    """Raise InputError, naming both places, where a docid stands twice; equal hashes alone are no error.

    hashes: of every docid. docids: gives them again, each with its place, and is called only if two hashes are equal.
    """
    ordered = np.sort(hashes)
    repeated = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    places: dict[str, object] = {}
    for docid, place in docids() if repeated else ():
        if docid_hash(docid) in repeated:
            if docid in places:
                raise InputError(f"{place}: docid {docid!r} is also at {places[docid]}")
            places[docid] = place
