"""What a worker process of an index build does: one part of the collection after the other."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np

from csplade_pyserini.collections.corpus import check_docid, docid_hash
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import parse_record
from csplade_pyserini.files.spans import Place, Span
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.lucene import postings
from csplade_pyserini.lucene.parts import part_lines

REPORTED = 500
"""Documents after which a worker tells the progress bar."""
VECTOR_MARK = '"vector":{'
"""What to_record writes before a vector; inside a JSON string the quotes would be escaped."""
_counter: "Synchronized[int] | None" = None
"""Documents read by all workers, for the progress bar."""


@dataclass(frozen=True)
class PartCounts:
    """What a worker read out of a part: the index has to hold as much."""

    documents: int
    empties: int
    postings: int
    impacts: int
    """Of collections without a manifest, which has this sum already."""

    @classmethod
    def total(cls, parts: Sequence["PartCounts"]) -> "PartCounts":
        """The counts of all parts together."""
        return cls(*(sum(getattr(part, name) for part in parts) for name in cls.__dataclass_fields__))


def start_worker(counter: "Synchronized[int] | None") -> None:
    """Before a worker's first part: where it counts the documents that it has read."""
    global _counter
    _counter = counter


def index_part(part: Span, folder: Path, store_raw: bool, checked: bool) -> None:
    """Index a part, with its counts and docids beside, and put it into `folder` whole. Raises InputError.

    checked: the collection is ours and has not changed since it was written.
    """
    partial = folder.with_name(f"{folder.name}.writing")
    shutil.rmtree(partial, ignore_errors=True)
    documents = empties = count = impacts = 0
    hashes = []
    with postings.java_errors(f"indexing {part.file} into {folder}"):
        writer = postings.PostingsWriter(partial, store_raw=store_raw)
        for place, line in part_lines(part):
            read = read_checked(line) if checked else None
            if read is None:
                docid, vector = read_record(line, place)
                read = docid, postings.postings_text(vector, place)
                impacts += sum(vector.values())
            docid, text = read
            writer.add(docid, text, postings.raw_text(line) if store_raw else "")
            hashes.append(docid_hash(docid))
            documents, empties, count = (
                documents + 1,
                empties + (not text),
                count + text.count(postings.DELIMITER),
            )
            if documents % REPORTED == 0:
                _report(REPORTED)
        writer.close()
    _report(documents % REPORTED)
    np.save(beside(folder, "docids.npy"), np.array(hashes, dtype=np.uint64))
    with whole_file(beside(folder, "json")) as file:
        json.dump(asdict(PartCounts(documents, empties, count, impacts)), file)
    partial.rename(folder)


def read_checked(line: str) -> tuple[str, str] | None:
    """Docid and postings_text of a line as `to_record` writes it; None where it has to be read as JSON."""
    head, mark, vector = line.rstrip().partition(VECTOR_MARK)
    if not mark or not vector.endswith("}}"):
        return None
    text = postings.checked_postings_text(vector[:-2])
    return None if text is None else (json.loads(f"{head}{VECTOR_MARK}}}}}")["id"], text)


def _report(documents: int) -> None:
    if _counter is not None:
        with _counter.get_lock():
            _counter.value += documents


def read_record(line: str, place: Place | str) -> tuple[str, dict[str, int]]:
    """A record's docid and vector. Raises InputError."""
    record = parse_record(line, place)
    if "id" not in record or "vector" not in record:
        raise InputError(
            f"{place}: no {'vector' if 'id' in record else 'id'}; Anserini would lose this record and the rest of its file"
        )
    return check_docid(record["id"], place), record["vector"]


def counts_of(folder: Path) -> PartCounts:
    return PartCounts(**json.loads(beside(folder, "json").read_text(encoding="utf-8")))


def beside(folder: Path, ending: str) -> Path:
    return folder.with_name(f"{folder.name}.{ending}")
