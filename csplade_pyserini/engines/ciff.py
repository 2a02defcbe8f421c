"""CIFF, the Common Index File Format, as a file: BMP and PISA read it (github.com/osirrc/ciff).

An inverted index needs its postings by term. They are sorted in runs on the disk, so memory does not grow
with the collection. A term is its dimension, as a decimal number.
"""

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from csplade_pyserini.engines.target import (
    INT_BITS,
    META_KEY,
    Document,
    Failure,
    Identity,
    Limits,
    Place,
    Target,
    import_client,
)
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import remove, whole_file, work_folder

RUN_POSTINGS = 4_000_000
"""Postings sorted together in memory, 12 bytes each."""
_FILE = "index.ciff"
_INT32 = 5
_INT64 = 3
_DOUBLE = 1
_STRING = 9
_MESSAGE = 11
_MESSAGES = {
    "Header": [
        ("version", 1, _INT32), ("num_postings_lists", 2, _INT32), ("num_docs", 3, _INT32),
        ("total_postings_lists", 4, _INT32), ("total_docs", 5, _INT32),
        ("total_terms_in_collection", 6, _INT64), ("average_doclength", 7, _DOUBLE),
        ("description", 8, _STRING),
    ],
    "Posting": [("docid", 1, _INT32), ("tf", 2, _INT32)],
    "PostingsList": [("term", 1, _STRING), ("df", 2, _INT64), ("cf", 3, _INT64), ("postings", 4, _MESSAGE)],
    "DocRecord": [("docid", 1, _INT32), ("collection_docid", 2, _STRING), ("doclength", 3, _INT32)],
}  # fmt: skip
"""Fields of CIFF's messages: name, number, protobuf's type."""


@functools.cache
def messages() -> dict[str, Any]:
    """Classes of CIFF's messages, by name. Raises InputError without protobuf."""
    pb = import_client("google.protobuf.descriptor_pb2", "ciff")
    factory = import_client("google.protobuf.message_factory", "ciff")
    pool = import_client("google.protobuf.descriptor_pool", "ciff").DescriptorPool()
    described = pb.FileDescriptorProto(name="ciff.proto", package="ciff", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = described.message_type.add(name=name)
        for field, number, kind in fields:
            added = message.field.add(name=field, number=number, type=kind, label=1)
            if kind == _MESSAGE:
                added.label = 3
                added.type_name = ".ciff.Posting"
    pool.Add(described)
    return {name: factory.GetMessageClass(pool.FindMessageTypeByName(f"ciff.{name}")) for name in _MESSAGES}


def write_delimited(file: IO[bytes], message: Any) -> None:
    """Write a message behind its length, as protobuf's writeDelimitedTo does."""
    data = message.SerializeToString()
    length = len(data)
    while length >= 0x80:
        file.write(bytes([length & 0x7F | 0x80]))
        length >>= 7
    file.write(bytes([length]))
    file.write(data)


def read_delimited(file: IO[bytes], kind: Any) -> Any:
    """Read a message that write_delimited wrote."""
    length = shift = 0
    while True:
        [byte] = file.read(1)
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return kind.FromString(file.read(length))


class Ciff(Target):
    """A folder with one file, index.ciff."""

    limits = Limits(engine="ciff", significant_bits=INT_BITS, docid_bytes=2**16, most_hits=0)
    resumes = "never"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._file = place.directory / _FILE
        self._runs = work_folder(place.directory) / "postings"
        self._identity: Any = None
        self._documents = 0
        self._held: list[tuple[np.ndarray, np.ndarray, int]] = []
        self._held_postings = 0
        self._docids: Any = None

    @staticmethod
    def schema(identity: Identity) -> str:
        return json.dumps({"file": _FILE, "description": {META_KEY: identity.to_json()}}, indent=1)

    def identity(self) -> Identity | None:
        if not self._file.is_file():
            return None
        text = self._header().description
        if not text.startswith("{"):
            raise InputError(f"{self._file} was not made by export: choose another --output")
        return Identity.parse(json.loads(text).get(META_KEY, ""), str(self._file))

    def create(self, identity: Identity) -> None:
        messages()
        remove(self._runs)
        self._runs.mkdir(parents=True)
        self._docids = (self._runs / "docids.jsonl").open("w", encoding="utf-8")
        self._identity = identity

    def write(self, documents: Sequence[Document]) -> list[Failure]:
        for document in documents:
            self._docids.write(json.dumps([document.docid, sum(document.impacts)]) + "\n")
            dimensions = np.array(document.dimensions, dtype=np.uint32)
            self._held.append((dimensions, np.array(document.impacts, dtype=np.int32), self._documents))
            self._held_postings += len(dimensions)
            self._documents += 1
        if self._held_postings >= RUN_POSTINGS:
            self._write_run()
        return []

    def finish(self) -> None:
        self._write_run()
        self._docids.close()
        with whole_file(self._file, "wb") as out:
            self._write_index(out)
        remove(self._runs)

    def count(self) -> int:
        return int(self._header().num_docs) if self._file.is_file() else 0

    def close(self) -> None:
        if self._docids is not None:
            self._docids.close()

    def _header(self) -> Any:
        with self._file.open("rb") as file:
            return read_delimited(file, messages()["Header"])

    def _write_run(self) -> None:
        """Sort the postings at hand by dimension, and write them with where each dimension begins."""
        if not self._held:
            return
        dimensions = np.concatenate([row for row, _, _ in self._held])
        impacts = np.concatenate([row for _, row, _ in self._held])
        numbers = np.concatenate([np.full(len(row), number, np.int32) for row, _, number in self._held])
        order = np.argsort(dimensions, kind="stable")
        terms, starts = np.unique(dimensions[order], return_index=True)
        run = len(list(self._runs.glob("*.terms.npy")))
        for name, column in (
            ("documents", numbers[order]),
            ("impacts", impacts[order]),
            ("starts", np.append(starts, len(order))),
            ("terms", terms),
        ):
            np.save(self._runs / f"{run:05d}.{name}.npy", column)
        self._held.clear()
        self._held_postings = 0

    def _write_index(self, out: IO[bytes]) -> None:
        kinds = messages()
        runs = [
            _Run(self._runs, file.name.partition(".")[0]) for file in sorted(self._runs.glob("*.terms.npy"))
        ]
        terms = sorted({int(term) for run in runs for term in run.terms}, key=str)
        total = sum(length for _, length in self._docid_rows())
        write_delimited(
            out,
            kinds["Header"](
                version=1,
                num_postings_lists=len(terms),
                num_docs=self._documents,
                total_postings_lists=len(terms),
                total_docs=self._documents,
                total_terms_in_collection=total,
                average_doclength=total / max(1, self._documents),
                description=json.dumps({META_KEY: self._identity.to_json()}),
            ),
        )
        for term in terms:
            parts = [run.postings(term) for run in runs]
            numbers = np.concatenate([part[0] for part in parts])
            impacts = np.concatenate([part[1] for part in parts])
            gaps = np.diff(numbers, prepend=np.int32(0))
            postings = [
                kinds["Posting"](docid=gap, tf=impact)
                for gap, impact in zip(gaps.tolist(), impacts.tolist(), strict=True)
            ]
            cf = int(impacts.sum(dtype=np.int64))
            write_delimited(
                out, kinds["PostingsList"](term=str(term), df=len(postings), cf=cf, postings=postings)
            )
        for number, (docid, length) in enumerate(self._docid_rows()):
            record = kinds["DocRecord"](
                docid=number, collection_docid=docid, doclength=min(length, 2**31 - 1)
            )
            write_delimited(out, record)

    def _docid_rows(self) -> Iterator[tuple[str, int]]:
        with (self._runs / "docids.jsonl").open(encoding="utf-8") as file:
            for line in file:
                docid, length = json.loads(line)
                yield docid, length


class _Run:
    """Sorted postings on the disk."""

    def __init__(self, folder: Path, name: str) -> None:
        self.terms = np.load(folder / f"{name}.terms.npy")
        self._starts = np.load(folder / f"{name}.starts.npy")
        self._documents = np.load(folder / f"{name}.documents.npy", mmap_mode="r")
        self._impacts = np.load(folder / f"{name}.impacts.npy", mmap_mode="r")

    def postings(self, term: int) -> tuple[np.ndarray, np.ndarray]:
        """Documents and impacts of a dimension, in order."""
        place = int(np.searchsorted(self.terms, term))
        if place == len(self.terms) or self.terms[place] != term:
            return self._documents[:0], self._impacts[:0]
        span = slice(int(self._starts[place]), int(self._starts[place + 1]))
        return self._documents[span], self._impacts[span]
