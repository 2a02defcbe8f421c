"""Lines of text files, plain or compressed; JSON objects in them; and the characters that UTF-8 cannot hold.

A byte-order mark at the start of a line is left out: editors write one, and `cat` moves it into the middle.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.compressed import COMPRESSIONS, UNREADABLE, compression_of, open_bytes
from csplade_pyserini.files.json_text import parse_json
from csplade_pyserini.files.notes import say_once

JSONL_ENDINGS = (".jsonl", ".json", ".ndjson", ".jl")
"""Endings of files with a JSON object in each line, before that of a compression."""
BYTE_ORDER_MARK = "\ufeff"


def is_jsonl(name: str) -> bool:
    """Whether a file's name says that it holds JSON lines, plain or compressed, in letters of any case."""
    return plain_name(name).endswith(JSONL_ENDINGS)


def plain_name(name: str) -> str:
    """Name of a file in lower case, without the ending of its compression."""
    return name.lower().removesuffix(compression_of(name))


def jsonl_endings() -> str:
    """Format the endings of JSONL files, for errors."""
    return f"{', '.join(JSONL_ENDINGS)}, plain or with {', '.join(COMPRESSIONS)}"


def decode_line(line: bytes) -> str:
    """Decode a line as UTF-8, without a byte-order mark. Raises UnicodeDecodeError."""
    return line.decode("utf-8").removeprefix(BYTE_ORDER_MARK)


def read_lines(file: Path) -> Iterator[str]:
    """Lines of a text file, plain or compressed. Raises InputError if it is broken or not UTF-8."""
    number = 0
    try:
        with open_bytes(file) as lines:
            for line in lines:
                text = decode_line(line)  # one line at a time, so that an error has its line
                number += 1
                yield text
    except UNREADABLE as error:
        raise InputError(f"{file}:{number + 1}: cannot be read: {error}") from error


def numbered_lines(file: Path) -> Iterator[tuple[str, str]]:
    """Lines of a text file that are not blank, each with its place `FILE:NUMBER`.

    Raises InputError as read_lines does.
    """
    blank = 0
    for number, line in enumerate(read_lines(file), start=1):
        if line.strip():
            yield f"{file}:{number}", line
        else:
            blank += 1
    say_blank(file, blank)


def say_blank(file: Path, blank: int) -> None:
    """Say how many blank lines of a file were skipped, if any."""
    if blank:
        say_once(f"{file}: {blank} blank {'line is' if blank == 1 else 'lines are'} skipped")


def parse_record(line: str, place: object) -> dict[str, Any]:
    """Parse a line as a JSON object. Raises InputError that names the place."""
    try:
        record = parse_json(line)
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
