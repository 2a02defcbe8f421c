"""Inputs broken by rule, each with a name. What a program has to make of them is the tests' business.

Nothing here knows our code: rules are what files, JSON, TOML, gzip and Unicode can do to a reader.
"""

import gzip
import json
from collections.abc import Iterator
from typing import Any

UNICODE = {
    "nul": "a\x00b",
    "controls": "".join(map(chr, range(1, 32))),
    "c1 controls": "".join(map(chr, range(0x7F, 0xA0))),
    "nbsp": "a\u00a0b",
    "all white space": "\u2000\u2003\u2009\u202f\u205f\u3000\u1680\u2028\u2029\u0085",
    "byte order mark": "\ufeffbegins with one",
    "right to left": "שלום \u202eעולם\u202c مرحبا",
    "left-to-right isolates": "\u2066a\u2069\u200f\u200e",
    "combining": "e" + "\u0301" * 50,
    "joined emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 20,
    "beyond the first plane": "𝒜𝔹\U0010ffff",
    "noncharacters": "\ufffe\uffff\ufdd0",
    "replacement": "\ufffd" * 9,
    "private use": "\ue000\uf8ff",
    "zero width": "a\u200b\u200c\u200d\u2060b",
    "cjk": "漢字かな交じり文" * 30,
    "unassigned": "\u0378\U000e0fff",
    "lone surrogate high": "\ud800",
    "lone surrogate low": "a\udfffb",
    "surrogates the wrong way": "\udc00\ud800",
    "byte of a file name": "\udcff",
    "empty": "",
    "blank": " \t ",
    "one long word": "x" * 1_000_000,
    "one long word of many": "äö漢😀" * 60_000,
    "long text": "word " * 100_000,
    "script": "<script>document.title='run'</script>",
    "lucene query": '+a -b "c d"~2 [1 TO 2] {x} (y OR z)^4 \\ /re/ *:* AND NOT',
    "format": "%s %n {0} ${x} $(id) `id`",
    "special tokens": "<s></s><|endoftext|><|begin_of_text|>[MASK]",
    "quotes": "'\"\\\\\"'",
}
"""Texts of every kind; some no UTF-8 can hold."""


def holds_surrogates(text: str) -> bool:
    """Whether UTF-8 cannot hold it."""
    return any(0xD800 <= ord(character) < 0xE000 for character in text)


def as_json(value: Any) -> bytes:
    """JSON in UTF-8; a lone surrogate as the bytes that a careless program writes for it."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def broken_json() -> Iterator[tuple[str, bytes]]:
    """Lines that no JSON reader ought to take for one object."""
    whole = b'{"id": "x", "contents": "text", "vector": {"a": 1}}'
    for cut in (1, 2, 5, 9, 12, 20, 30, 45, len(whole) - 1):
        yield f"cut after {cut} bytes", whole[:cut]
    yield from {
        "empty": b"",
        "blank": b"   ",
        "null": b"null",
        "true": b"true",
        "number": b"17",
        "string": b'"text"',
        "array": b'[{"id": "x", "contents": "text"}]',
        "two objects": whole + whole,
        "trailing comma": whole[:-1] + b",}",
        "trailing garbage": whole + b" x",
        "single quotes": whole.replace(b'"', b"'"),
        "bare keys": b"{id: 1, contents: 2}",
        "comment": b"// " + whole,
        "deep arrays": b"[" * 100_000,
        "deep objects": b'{"a":' * 100_000,
        "deep and whole": b'{"id": "x", "contents": "t", "vector": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        "a number of 5000 digits": b'{"id": ' + b"9" * 5000 + b', "contents": "t", "vector": {"a": 1}}',
        "utf-16": whole.decode().encode("utf-16"),
        "latin-1": '{"id": "x", "contents": "é", "vector": {"é": 1}}'.encode("latin-1"),
        "overlong utf-8": b'{"id": "x", "contents": "\xc0\x80", "vector": {"a": 1}}',
        "cut utf-8": b'{"id": "x", "contents": "\xe6\xbc", "vector": {"a": 1}}',
        "raw surrogate": b'{"id": "x\xed\xa0\x80", "contents": "t", "vector": {"a": 1}}',
        "raw newline": b'{"id": "x", "contents": "a\nb", "vector": {"a": 1}}',
        "raw control": b'{"id": "x", "contents": "a\x01b", "vector": {"a": 1}}',
        "bad escape": b'{"id": "x", "contents": "\\x41", "vector": {"a": 1}}',
        "short escape": b'{"id": "x", "contents": "\\u12", "vector": {"a": 1}}',
        "nul bytes": b"\x00" * 20,
        "binary": bytes(range(256)),
        "csv": b"x,text",
        "xml": b"<doc><id>x</id></doc>",
        "byte order mark": b"\xef\xbb\xbf" + whole,
    }.items()


WRONG_VALUES: dict[str, Any] = {
    "null": None, "true": True, "zero": 0, "minus one": -1, "huge": 10**30, "float": 1.5,
    "not a number": float("nan"), "infinity": float("inf"), "empty": "", "blank": " ",
    "words": "two words", "tab": "a\tb", "newline": "a\nb",
    "list": [], "full list": [1, "a"], "table": {}, "full table": {"a": {"b": []}},
    "path": "../../../etc/passwd", "absolute": "/etc/passwd", "surrogate": "\ud800", "nul": "a\x00b",
}  # fmt: skip
"""Values of wrong types, to put under any key."""


def broken_values(record: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The record without each key, with each of WRONG_VALUES under each key, and with an unknown key."""
    for key in record:
        yield f"no {key}", {name: value for name, value in record.items() if name != key}
        for name, wrong in WRONG_VALUES.items():
            yield f"{key} is {name}", record | {key: wrong}
    yield "a strange key", record | {"ecko": True}
    yield "no key at all", {}


def broken_bytes(content: bytes) -> Iterator[tuple[str, bytes]]:
    """A file cut, emptied, doubled, overwritten."""
    for part in (1, 2, 3):
        yield f"cut after {part} quarters", content[: len(content) * part // 4]
    yield "without its last byte", content[:-1]
    yield "without its first byte", content[1:]
    yield "empty", b""
    yield "doubled", content * 2
    yield "of nuls", b"\x00" * len(content)
    yield "with nuls in it", content[: len(content) // 2] + b"\x00" * 8 + content[len(content) // 2 :]
    yield "of other bytes", bytes(255 - byte for byte in content)
    yield "in utf-16", content.decode("utf-8", "replace").encode("utf-16")
    yield "in gzip", gzip.compress(content, mtime=0)
    yield "null", b"null"
    yield "an array", b"[1, 2]"
    yield "deep", b"[" * 100_000


def broken_gzip(content: bytes) -> Iterator[tuple[str, bytes]]:
    """A gzip file that is not whole."""
    whole = gzip.compress(content, mtime=0)  # names of tests hold it
    for part in (1, 2, 3):
        yield f"cut after {part} quarters", whole[: len(whole) * part // 4]
    yield "without its checksum", whole[:-8]
    yield "without its last byte", whole[:-1]
    yield "with another checksum", whole[:-8] + b"\x00" * 8
    yield "with garbage behind", whole + b"garbage"
    yield "with a broken middle", whole[: len(whole) // 2] + b"\xff" * 8 + whole[len(whole) // 2 + 8 :]
    yield "not compressed", content
    yield "of a broken header", b"\x1f\x8b\xff" + whole[3:]
    yield "an empty file", b""
