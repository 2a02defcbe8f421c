"""Lines of a part of a text file: a span of its bytes, so that nobody has to read what comes before."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from csplade_pyserini.errors import InputError


class Span(NamedTuple):
    """The lines of an uncompressed file that begin at its bytes `start` up to but not with `end`."""

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
        if left:
            with self.file.open("rb") as file:
                while left > 0 and (block := file.read(min(left, 1 << 20))):
                    number, left = number + block.count(b"\n"), left - len(block)
        return f"{self.file}:{number}"


def span_lines(span: Span) -> Iterator[tuple[Place, str]]:
    """The span's lines, each with its place. Raises InputError where the file cannot be read or is not UTF-8."""
    offset = span.start
    try:
        with span.file.open("rb") as file:
            if span.start:  # the line that the byte before belongs to is another span's
                file.seek(span.start - 1)
                offset = span.start - 1 + len(file.readline())
            while offset < span.end and (line := file.readline()):
                text = line.decode("utf-8")
                yield Place(span.file, offset), text
                offset += len(line)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{Place(span.file, offset)}: cannot be read: {error}") from error


def spans_between(sizes: dict[Path, int], start: int, end: int) -> list[Span]:
    """The spans that bytes `start` to `end` of all files together are, one after the other."""
    spans, before = [], 0
    for file, size in sizes.items():
        first, last = max(start - before, 0), min(end - before, size)
        if first < last:
            spans.append(Span(file, first, last))
        before += size
    return spans
