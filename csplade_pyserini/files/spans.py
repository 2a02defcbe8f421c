"""Spans of text files: the lines in a range of bytes, read without what comes before."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.compressed import open_bytes
from csplade_pyserini.files.lines import decode_line, say_blank

_BLOCK_BYTES = 1 << 20


class Span(NamedTuple):
    """Lines of an uncompressed file that begin at bytes `start` to `end`, `end` excluded."""

    file: Path
    start: int
    end: int


@dataclass(frozen=True)
class Place:
    """Position of a line in a file. The line number is counted only when an error prints it."""

    file: Path
    offset: int

    def __str__(self) -> str:
        return f"{self.file}:{1 + self._lines_before()}"

    def _lines_before(self) -> int:
        if not self.offset:
            return 0
        left = self.offset
        lines = 0
        with self.file.open("rb") as file:
            while left > 0 and (block := file.read(min(left, _BLOCK_BYTES))):
                lines += block.count(b"\n")
                left -= len(block)
        return lines


def span_lines(span: Span) -> Iterator[tuple[Place, str]]:
    """Lines of a span that are not blank, each with its place.

    Raises InputError if the file cannot be read or is not UTF-8.
    """
    offset = span.start
    blank = 0
    try:
        with open_bytes(span.file) as file:
            if span.start:  # the line that holds the byte before belongs to another span
                file.seek(span.start - 1)
                offset = span.start - 1 + len(file.readline())
            while offset < span.end and (line := file.readline()):
                text = decode_line(line)
                if text.strip():
                    yield Place(span.file, offset), text
                else:
                    blank += 1
                offset += len(line)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{Place(span.file, offset)}: cannot be read: {error}") from error
    say_blank(span.file, blank)


def spans_between(sizes: dict[Path, int], start: int, end: int) -> list[Span]:
    """Spans of files that make up bytes `start` to `end` of their concatenation.

    sizes: bytes of each file, in order.
    """
    spans = []
    before = 0
    for file, size in sizes.items():
        first = max(start - before, 0)
        last = min(end - before, size)
        if first < last:
            spans.append(Span(file, first, last))
        before += size
    return spans
