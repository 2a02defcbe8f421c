"""A collection in parts: pieces of its files, each indexed on its own by any process, and kept when a build stops.

The plan is a function of the files' sizes alone, so that a build goes on with another number of threads.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from csplade_pyserini.collections.corpus import read_lines
from csplade_pyserini.errors import InputError

PART_BYTES = 24_000_000
"""A part of at most so many bytes costs seconds; a stop loses no more."""
MOST_PARTS = 64
"""A large collection has larger parts: each is an index of a dozen files, all open when they are merged."""


class Part(NamedTuple):
    """The lines of a file that begin at its bytes `start` to `end`; a compressed file is one part."""

    file: Path
    start: int
    end: int


@dataclass(frozen=True)
class Place:
    """Where a line stands. Its number is counted only when an error asks for it."""

    file: Path
    offset: int

    def __str__(self) -> str:
        left, number = self.offset, 1
        with self.file.open("rb") as file:
            while left > 0 and (block := file.read(min(left, 1 << 20))):
                number, left = number + block.count(b"\n"), left - len(block)
        return f"{self.file}:{number}"


def collection_files(collection: Path) -> list[Path]:
    """Every file in a folder and those below it, in order: Anserini reads them all, whatever their names.

    Raises InputError where there is none.
    """
    files = sorted(Path(folder) / name for folder, _, names in os.walk(collection) for name in names)
    if not files:
        raise InputError(f"{collection} {'has no file' if collection.is_dir() else 'does not exist'}; wanted a folder of JSONL files")
    return files


def plan_parts(files: list[Path]) -> list[Part]:
    """The files in parts, in order, none empty."""
    sizes = {file: file.stat().st_size for file in files}
    size = max(PART_BYTES, -(-sum(sizes.values()) // MOST_PARTS))
    return [
        Part(file, start, min(start + step, total))
        for file, total in sizes.items()
        for step in [total if _is_compressed(file) else size]
        for start in range(0, total, max(1, step))
    ]


def part_lines(part: Part) -> Iterator[tuple[Place | str, str]]:
    """The part's lines, each with its place. Raises InputError where the file cannot be read or is not UTF-8."""
    if _is_compressed(part.file):
        for number, line in enumerate(read_lines(part.file), start=1):
            yield f"{part.file}:{number}", line
        return
    with part.file.open("rb") as file:
        if part.start:  # the line that the byte before belongs to is the other part's
            file.seek(part.start - 1)
            file.readline()
        while (offset := file.tell()) < part.end and (line := file.readline()):
            try:
                yield Place(part.file, offset), line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"{Place(part.file, offset)}: not UTF-8: {error}") from error


def _is_compressed(file: Path) -> bool:
    return file.suffix == ".gz"
