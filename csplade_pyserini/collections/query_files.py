"""Query files, which `encode_queries` writes: the vectors of topics by their texts."""

from collections.abc import Iterator
from pathlib import Path

from csplade_pyserini.collections.topics import Topics
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import numbered_lines, parse_record
from csplade_pyserini.impacts import Vector


def is_query_file(name: str) -> bool:
    """Whether `--encoder NAME` means a query file, as Pyserini takes it."""
    return name.endswith(".jsonl") and Path(name).is_file()


def vectors_of_file(file: Path, topics: Topics) -> dict[str, Vector]:
    """Read the vectors of topics, by qid. Raises InputError if a topic has none."""
    by_text = dict(_records(file))
    vectors = {}
    for qid, text in topics.items():
        if text.strip() not in by_text:
            raise InputError(f"{file} has no vector of topic {qid!r}, {text.strip()!r}: encode these topics")
        vectors[qid] = by_text[text.strip()]
    return vectors


def _records(file: Path) -> Iterator[tuple[str, Vector]]:
    for place, line in numbered_lines(file):
        record = parse_record(line, place)
        text = record.get("contents")
        vector = record.get("vector")
        if not isinstance(text, str) or not isinstance(vector, dict):
            raise InputError(f"{place}: wanted an object with 'contents' and 'vector'")
        yield text.strip(), vector
