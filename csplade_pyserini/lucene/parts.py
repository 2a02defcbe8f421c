"""Parts of a collection: pieces of its files, each indexed by any process, and kept when a build stops.

The plan depends on the files' sizes alone, so a build goes on with another number of threads.
"""

from collections.abc import Iterator
from pathlib import Path

from csplade_pyserini.collections.vectors import collection_files
from csplade_pyserini.files.compressed import is_compressed
from csplade_pyserini.files.lines import numbered_lines
from csplade_pyserini.files.spans import Place, Span, span_lines

PART_BYTES = 24_000_000
"""Size of a part at least; it costs seconds, and a stop loses no more."""
MOST_PARTS = 64
"""Number of parts at most: each is an index of a dozen files, all open when they are merged."""


def plan_parts(files: list[Path]) -> list[Span]:
    """Cut files into parts, in order, none of them empty; a compressed file is one part."""
    sizes = {file: file.stat().st_size for file in files}
    size = max(PART_BYTES, -(-sum(sizes.values()) // MOST_PARTS))
    parts = []
    for file, total in sizes.items():
        step = total if is_compressed(file) else size
        for start in range(0, total, max(1, step)):
            parts.append(Span(file, start, min(start + step, total)))
    return parts


def part_lines(part: Span) -> Iterator[tuple[Place | str, str]]:
    """Lines of a part, each with its place. Raises InputError if the file cannot be read or is not UTF-8."""
    if is_compressed(part.file):
        yield from numbered_lines(part.file)
    else:
        yield from span_lines(part)


def collection_lines(collection: Path) -> Iterator[tuple[Place | str, str]]:
    """Every line of a collection, in the order of its parts. Raises InputError as they do."""
    for part in plan_parts(collection_files(collection)):
        yield from part_lines(part)
