"""The record of a JsonVectorCollection, `{"id", "contents", "vector"}`, and of a query file.

Records are written, read, checked and turned into Lucene postings here alone. A record of ours becomes
postings by text alone, which depends on how `record_line` writes it.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from csplade_pyserini.collections.docids import check_docid
from csplade_pyserini.collections.manifests import VectorFile
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import numbered_lines, parse_record
from csplade_pyserini.files.stamps import file_hash
from csplade_pyserini.files.whole import WORK_NAME
from csplade_pyserini.impacts import LUCENE_MAX_TERM_LENGTH, Vector, is_empty_term

DELIMITER = "\x01"
"""Character between term and frequency in postings. No vocabulary has it; other terms with it are refused."""
MOST_IMPACT = 2**31 - 1
"""Largest frequency: Lucene holds Java ints."""
JAVA_SPACE = re.compile(r"[\t-\r\x1c- \u1680\u2000-\u2006\u2008-\u200a\u2028\u2029\u205f\u3000]")
"""Characters that Lucene's WhitespaceTokenizer cuts at: Character.isWhitespace."""
_VECTOR_MARK = '"vector":{'
"""Text before the vector in a record of ours. Inside a JSON string its quotes would be escaped."""
_COLON_FIRST = re.compile('[0-9],":')
"""An impact, then a term that begins with a colon; the term `,` has a quote before its comma."""


class VectorRecord(NamedTuple):
    """A line of a collection, parsed; its impacts are not checked yet."""

    docid: str
    vector: dict[str, Any]
    place: object


def record_line(docid: str, contents: str, vector: Vector) -> str:
    """Format one line of a JsonVectorCollection file."""
    record = {"id": docid, "contents": contents, "vector": vector}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"


def query_line(text: str, vector: Vector) -> str:
    """Format one line of a query file, as Pyserini reads it by `--encoder FILE.jsonl`."""
    return json.dumps({"contents": text, "vector": vector}, ensure_ascii=False) + "\n"


def read_record(line: str, place: object) -> VectorRecord:
    """Parse a line of a collection. Raises InputError on a record that Anserini would lose."""
    record = parse_record(line, place)
    for key in ("id", "vector"):
        if key not in record:
            raise InputError(f"{place}: no {key}; Anserini would lose this record and the rest of its file")
    _check_is_object(record["vector"], place)
    return VectorRecord(check_docid(record["id"], place), record["vector"], place)


def read_docid(line: str, place: object) -> str:
    """Return the docid of a line, even of a broken record. Raises InputError if it is no JSON object."""
    return str(parse_record(line, place).get("id", ""))


def read_records(files: Iterable[Path]) -> Iterator[VectorRecord]:
    """Records of a collection's files, in order. Raises InputError as read_record does."""
    for file in files:
        for place, line in numbered_lines(file):
            yield read_record(line, place)


def read_vectors(files: Iterable[Path]) -> Iterator[Vector]:
    """Vectors of collection files or query files, in order. Raises InputError that names file and line."""
    for file in files:
        for place, line in numbered_lines(file):
            vector = parse_record(line, place).get("vector")
            if not isinstance(vector, dict):
                raise InputError(f"{place}: no vector; wanted an object with 'vector'")
            yield vector


def collection_files(collection: Path) -> list[Path]:
    """Every file in a folder and below it, in order: Anserini reads them all, whatever their names.

    Work in progress is left out. Raises InputError if there is none.
    """
    files = []
    for folder, folders, names in os.walk(collection):
        folders[:] = [name for name in folders if name != WORK_NAME]
        files += [Path(folder) / name for name in names]
    if files:
        return sorted(files)
    problem = "has no file" if collection.is_dir() else "does not exist"
    raise InputError(f"{collection} {problem}; wanted a folder of JSONL files")


def describe_file(file: Path) -> VectorFile:
    """Count and hash a collection file that another program wrote.

    Raises InputError on a record that Anserini would lose.
    """
    documents = empties = terms = impacts = 0
    for record in read_records([file]):
        check_impacts(record.vector, record.place)
        documents += 1
        empties += all(map(is_empty_term, record.vector))
        terms += len(record.vector)
        impacts += sum(record.vector.values())
    return VectorFile(
        file=file.name,
        first=0,
        documents=documents,
        empties=empties,
        terms=terms,
        impacts=impacts,
        sha256=file_hash(file),
    )


def to_postings(vector: dict[str, Any], place: object) -> str:
    """Format a vector as `TERM DELIMITER FREQUENCY`, separated by spaces.

    Raises InputError on impacts and terms that Lucene would lose or cut.
    """
    check_impacts(vector, place)
    text = " ".join([f"{term}{DELIMITER}{impact}" for term, impact in vector.items()])
    # Cheap signs first: Python's white space includes Java's; a character is at most two UTF-16 units.
    words = text.split()
    is_cut = len(words) != len(vector) or " ".join(words) != text
    is_split = text.count(DELIMITER) != len(vector) or "" in vector
    if is_cut or is_split or max(map(len, vector), default=0) > LUCENE_MAX_TERM_LENGTH // 2:
        _check_terms(vector, place)
    return text


def postings_of_line(line: str) -> tuple[str, str] | None:
    """Docid and postings of a line as `record_line` writes it, by text alone: a tenth of the cost.

    Only for lines that were checked when they were written and have not changed since. None if the line has
    to be parsed as JSON: it has another form, escapes, or a term that begins with a colon.
    """
    head, mark, rest = line.rstrip().partition(_VECTOR_MARK)
    if not mark or not rest.endswith("}}"):
        return None
    vector = rest[:-2]
    is_doubtful = "\\" in vector or vector.startswith('":')
    if is_doubtful or (',":' in vector and _COLON_FIRST.search(vector)):
        return None
    docid = json.loads(f"{head}{_VECTOR_MARK}}}}}")["id"]
    return docid, vector[1:].replace('":', DELIMITER).replace(',"', " ")


def check_impacts(vector: dict[str, Any], place: object) -> None:
    """Raise InputError on an impact that is no whole number from 1 to MOST_IMPACT: Lucene would lose it."""
    _check_is_object(vector, place)
    impacts = vector.values()
    if not vector or (set(map(type, impacts)) == {int} and min(impacts) >= 1 and max(impacts) <= MOST_IMPACT):
        return
    for term, impact in vector.items():
        if type(impact) is not int or not 1 <= impact <= MOST_IMPACT:
            raise InputError(
                f"{place}: the impact of {term!r} is {impact!r}; "
                f"wanted a whole number from 1 to {MOST_IMPACT}, as Lucene would lose it"
            )


def _check_is_object(vector: object, place: object) -> None:
    if not isinstance(vector, dict):
        raise InputError(
            f"{place}: the vector is {type(vector).__name__}; wanted an object of terms and impacts"
        )


def _check_terms(vector: dict[str, Any], place: object) -> None:
    for term in vector:
        if not term or JAVA_SPACE.search(term) or DELIMITER in term:
            raise InputError(f"{place}: the term {term!r} is not one word: Lucene would cut it or lose it")
        if len(term.encode("utf-16-le", "surrogatepass")) // 2 > LUCENE_MAX_TERM_LENGTH:
            raise InputError(
                f"{place}: the term {term[:20]!r}... has more than {LUCENE_MAX_TERM_LENGTH} characters: "
                f"Lucene would cut it"
            )
