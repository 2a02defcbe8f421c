"""Work of a process in an index build: one part of the collection after the other."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np

from csplade_pyserini.collections.docids import docid_hash
from csplade_pyserini.collections.index_shards import folders_to_write, shard_of
from csplade_pyserini.collections.vectors import DELIMITER, postings_of_line, read_record, to_postings
from csplade_pyserini.files.spans import Place, Span
from csplade_pyserini.files.tables import read_json
from csplade_pyserini.files.whole import whole_file, whole_output
from csplade_pyserini.lucene.classes import java_errors
from csplade_pyserini.lucene.parts import part_lines
from csplade_pyserini.lucene.postings import MEMORY_MEGABYTES, PostingsWriter, raw_text

REPORTED = 500
"""Number of documents after which a worker updates the progress bar."""
_counter: "Synchronized[int] | None" = None
"""Documents read by all workers, for the progress bar."""


@dataclass(kw_only=True)
class PartCounts:
    """Counts of the records read from a part: the index has to hold as much."""

    documents: int = 0
    empties: int = 0
    postings: int = 0
    impacts: int = 0
    """Counted only without a manifest, which has this sum already."""

    @classmethod
    def total(cls, parts: Sequence["PartCounts"]) -> "PartCounts":
        """Add up the counts of all parts."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: sum(getattr(part, name) for part in parts) for name in names})


def start_worker(counter: "Synchronized[int] | None", java_options: Sequence[str]) -> None:
    """Set the counter of a new worker process, and the options of its JVM, which has not started yet."""
    import jnius_config

    global _counter
    _counter = counter
    jnius_config.add_options(*java_options)


def index_part(part: Span, folder: Path, store_raw: bool, checked: bool, shards: int) -> None:
    """Index a part into `folder`, whole or not at all, with its counts and docids beside it.

    shards: number of Lucene indexes that its documents are split into, by docid.
    checked: the collection is ours and has not changed since it was written. Raises InputError on a bad
    record, CheckError on an error of Java's.
    """
    counts = PartCounts()
    hashes = []
    with whole_output(folder) as partial:
        with java_errors(f"indexing {part.file} into {folder}"):
            writers = [
                PostingsWriter(target, store_raw=store_raw, memory=MEMORY_MEGABYTES / shards)
                for target in folders_to_write(partial, shards)
            ]
            for place, line in part_lines(part):
                docid, postings = _docid_and_postings(line, place, checked, counts)
                shard = shard_of(docid, shards) if shards > 1 else 0
                writers[shard].add(docid, postings, raw_text(line) if store_raw else "")
                hashes.append(docid_hash(docid))
                counts.documents += 1
                counts.empties += not postings
                counts.postings += postings.count(DELIMITER)
                if counts.documents % REPORTED == 0:
                    _report(REPORTED)
            for writer in writers:
                writer.close()
        _report(counts.documents % REPORTED)
        np.save(beside(folder, "docids.npy"), np.array(hashes, dtype=np.uint64))
        with whole_file(beside(folder, "json")) as file:
            json.dump(dataclasses.asdict(counts), file)


def counts_of(folder: Path) -> PartCounts:
    """Read the counts of an indexed part."""
    return PartCounts(**read_json(beside(folder, "json")))


def beside(folder: Path, ending: str) -> Path:
    """Path of a part's file beside its index."""
    return folder.with_name(f"{folder.name}.{ending}")


def _docid_and_postings(line: str, place: Place | str, checked: bool, counts: PartCounts) -> tuple[str, str]:
    """Read a line by text alone if it was checked before, else as JSON; add its impacts to the counts."""
    quick = postings_of_line(line) if checked else None
    if quick is not None:
        return quick
    record = read_record(line, place)
    postings = to_postings(record.vector, place)
    counts.impacts += sum(record.vector.values())
    return record.docid, postings


def _report(documents: int) -> None:
    if _counter is not None:
        with _counter.get_lock():
            _counter.value += documents
