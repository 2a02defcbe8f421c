"""Stamps: what an output was made of, kept as JSON, so that a change is noticed.

A command that goes on with earlier work calls `refuse_changes`. One that skips finished work asks
`is_made_of`, or `read_stamp` if the stamp keeps results.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.tables import read_json
from csplade_pyserini.files.whole import whole_file

MADE_OF = "made_of"
"""Key of a stamp's inputs, beside the results that it may hold."""


def refuse_changes(before: Mapping[str, Any], now: Mapping[str, Any], place: Path, sentence: str) -> None:
    """Raise InputError on the first key of `now` that has another value in `before`.

    A key that `before` lacks counts as None. sentence: the error, a format string with {place}, {key},
    {before} and {now}.
    """
    for key, value in now.items():
        was = before.get(key)
        if _as_json(was) != _as_json(value):
            raise InputError(sentence.format(place=place, key=key, before=repr(was), now=repr(value)))


def write_stamp(file: Path, made_of: Mapping[str, Any], **results: Any) -> None:
    """Write what an output was made of, and any results to keep with it. Raises InputError."""
    with whole_file(file) as out:
        json.dump({MADE_OF: made_of, **results}, out, indent=1)


def read_stamp(file: Path, made_of: Mapping[str, Any]) -> dict[str, Any]:
    """Results that a stamp keeps; empty if it is missing, damaged or of other inputs."""
    try:
        table = read_json(file)
    except InputError:
        return {}
    if table.pop(MADE_OF, None) != _as_json(made_of):
        return {}
    return table


def is_made_of(file: Path, made_of: Mapping[str, Any]) -> bool:
    """Whether a file without results, written by write_made_of, tells of the same inputs."""
    try:
        return bool(read_json(file) == _as_json(made_of))
    except InputError:
        return False


def write_made_of(file: Path, made_of: Mapping[str, Any]) -> None:
    """Write a stamp without results: the inputs alone. Raises InputError."""
    with whole_file(file) as out:
        json.dump(made_of, out, indent=1)


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of the names and hashes of all files below a folder.

    Files of unchanged size and time are read once per process: one step's output is the next one's input.
    """
    files = [path]
    if not path.is_file():
        files = sorted(file for file in path.rglob("*") if file.is_file())
    return _content_hash(path, tuple((file, *_size_and_time(file)) for file in files))


def json_hash(value: Any) -> str:
    """SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


@functools.cache
def _content_hash(path: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    if path.is_file():
        return file_hash(path)
    lines = (f"{file.relative_to(path)} {file_hash(file)}\n" for file, _, _ in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _size_and_time(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _as_json(value: Any) -> Any:
    """Return a value as it comes back from JSON: tuples as lists, keys as strings."""
    return json.loads(json.dumps(value))
