"""Output files that are written once and then kept."""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import whole_file

Record = dict[str, Any]
"""One JSON object of a JSON Lines file."""


def absent(path: Path) -> bool:
    """Return whether `path` still has to be made, and report a kept one on stderr."""
    if path.exists():
        print(f"{path} is there, kept", file=sys.stderr)
        return False
    return True


def write_lines(path: Path, records: Iterable[Record]) -> None:
    """Write a whole JSON Lines file or none. Raises InputError if it cannot be written."""
    with whole_file(path) as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_contents(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the id and contents of each record in a JSON Lines file. Raises InputError."""
    try:
        with file.open(encoding="utf-8") as lines:
            for record in map(json.loads, lines):
                yield record["id"], record["contents"]
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
