"""A collection in parts: pieces of its files, each indexed on its own by any process, and kept when a build stops.

The plan is a function of the files' sizes alone, so that a build goes on with another number of threads.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import read_lines
from csplade_pyserini.files.spans import Place, Span, span_lines

PART_BYTES = 24_000_000
"""A part of at most so many bytes costs seconds; a stop loses no more."""
MOST_PARTS = 64
"""A large collection has larger parts: each is an index of a dozen files, all open when they are merged."""


def collection_files(collection: Path) -> list[Path]:
    """Every file in a folder and those below it, in order: Anserini reads them all, whatever their names.

    Raises InputError where there is none.
    """
    files = sorted(Path(folder) / name for folder, _, names in os.walk(collection) for name in names)
    if not files:
        raise InputError(
            f"{collection} {'has no file' if collection.is_dir() else 'does not exist'}; wanted a folder of JSONL files"
        )
    return files


def plan_parts(files: list[Path]) -> list[Span]:
    """The files in parts, in order, none empty; a compressed file is one."""
    sizes = {file: file.stat().st_size for file in files}
    size = max(PART_BYTES, -(-sum(sizes.values()) // MOST_PARTS))
    return [
        Span(file, start, min(start + step, total))
        for file, total in sizes.items()
        for step in [total if _is_compressed(file) else size]
        for start in range(0, total, max(1, step))
    ]


def part_lines(part: Span) -> Iterator[tuple[Place | str, str]]:
    """The part's lines, each with its place. Raises InputError where the file cannot be read or is not UTF-8."""
    if not _is_compressed(part.file):
        yield from span_lines(part)
        return
    for number, line in enumerate(read_lines(part.file), start=1):
        yield f"{part.file}:{number}", line


def collection_lines(collection: Path) -> Iterator[tuple[Place | str, str]]:
    """Every line of a collection, in the order of its parts, each with its place. Raises InputError as they do."""
    for part in plan_parts(collection_files(collection)):
        yield from part_lines(part)


def _is_compressed(file: Path) -> bool:
    return file.suffix == ".gz"
