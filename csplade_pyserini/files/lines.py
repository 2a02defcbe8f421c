"""Lines of text files, plain or gzip; JSON objects in them; and the characters that UTF-8 cannot hold."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from csplade_pyserini.errors import InputError

JSONL_ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz")


def read_lines(file: Path) -> Iterator[str]:
    """Lines of a text file, plain or gzip. Raises InputError if it is broken or not UTF-8."""
    number = 0
    try:
        if file.suffix == ".gz" and not file.stat().st_size:
            raise EOFError("it has no byte, so it is no gzip file")  # Python's gzip reads it as empty
        opener = gzip.open if file.suffix == ".gz" else open
        with opener(file, "rb") as lines:
            for line in lines:
                text = line.decode("utf-8")  # one line at a time, so that an error has its line
                number += 1
                yield text
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{file}:{number + 1}: cannot be read: {error}") from error


def numbered_lines(file: Path) -> Iterator[tuple[str, str]]:
    """Lines of a text file, each with its place `FILE:NUMBER`. Raises InputError as read_lines does."""
    for number, line in enumerate(read_lines(file), start=1):
        yield f"{file}:{number}", line


def parse_record(line: str, place: object) -> dict[str, Any]:
    """Parse a line as a JSON object. Raises InputError that names the place."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", error)
        raise InputError(f"{place}: not JSON ({reason}); wanted one object a line") from error
    if not isinstance(record, dict):
        raise InputError(f"{place}: got {type(record).__name__}; wanted one JSON object a line")
    return record


def lone_surrogates(text: str) -> str:
    """First lone surrogates of a text, or the empty string.

    JSON escapes and undecodable bytes make them; UTF-8, and so every file and Java string, cannot hold them.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return text[error.start : error.end]
    return ""


def check_unicode(text: str, place: object) -> None:
    """Raise InputError on a lone surrogate, which JSON can hold and UTF-8 cannot."""
    if broken := lone_surrogates(text):
        raise InputError(f"{place}: a lone surrogate, {broken!r}, which UTF-8 cannot hold")
