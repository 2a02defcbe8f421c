"""Topics `{qid: text}` and qrels `{qid: {docid: grade}}`, from files or ir_datasets. Ids are strings."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from csplade_pyserini.collections.corpus import IR_DATASETS_PREFIX, load_ir_dataset
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.json_text import parse_json
from csplade_pyserini.files.lines import (
    check_unicode,
    is_jsonl,
    numbered_lines,
    parse_record,
    plain_name,
    read_lines,
)
from csplade_pyserini.files.notes import say_once
from csplade_pyserini.files.whole import whole_file

Topics = dict[str, str]
Qrels = dict[str, dict[str, int]]

QID_FIELDS = ("_id", "id", "qid", "query_id")
"""Fields of a JSON topic that hold its qid; the first that is there counts."""
TEXT_FIELDS = ("title", "text", "query", "query_txt", "contents")
"""Fields of a JSON topic that hold its text; `title` is Pyserini's own."""
BEIR_HEADER = ["query-id", "corpus-id", "score"]
_TREC_TOPIC = re.compile(r"<top\b.*?(?=<top\b|\Z)", re.DOTALL | re.IGNORECASE)
_TREC_NUMBER = re.compile(r"<num>\s*(?:Number:)?\s*([^\s<]+)", re.IGNORECASE)
_TREC_TITLE = re.compile(r"<title>\s*(?:Topic:)?(.*?)(?=</?[a-z]|\Z)", re.DOTALL | re.IGNORECASE)


class _Topic(NamedTuple):
    """A topic as read, and the place that errors about it name."""

    place: str
    qid: str
    text: str


def read_topics(name: str) -> Topics:
    """Read topics from a file or from `ir_datasets:ID`.

    Files, plain or compressed: `FILE.tsv` (`qid<TAB>text`), `FILE.jsonl` (QID_FIELDS and TEXT_FIELDS),
    `FILE.json` (`{qid: {"title": text}}`), `FILE.trec`; any other name counts as TSV.
    Raises InputError that names file and line, and if there are none.
    """
    if name.startswith(IR_DATASETS_PREFIX):
        topics = _topics_of_ir_dataset(name)
    else:
        topics = _topics_of_file(Path(name))
    if not topics:
        raise InputError(f"{name} has no topics")
    return topics


def write_topics(topics: Topics, path: Path) -> None:
    """Write one `qid<TAB>text` line per topic; white space inside a text becomes single spaces."""
    with whole_file(path) as file:
        for qid, text in topics.items():
            file.write(f"{qid}\t{' '.join(text.split())}\n")


def read_qrels(name: str) -> Qrels:
    """Read qrels of a TREC file (`qid 0 docid grade`), a BEIR file with its header, or `ir_datasets:ID`.

    Raises InputError that names file and line, and if there are none.
    """
    if name.startswith(IR_DATASETS_PREFIX):
        grades = _qrels_of_ir_dataset(name)
    else:
        grades = _qrels_of_file(Path(name))
    qrels: Qrels = {}
    for qid, docid, grade in grades:
        qrels.setdefault(qid, {})[docid] = grade
    if not qrels:
        raise InputError(f"{name} has no qrels")
    return qrels


def write_qrels(qrels: Qrels, path: Path) -> None:
    """Write TREC qrels: `qid 0 docid grade`."""
    with whole_file(path) as file:
        for qid, grades in qrels.items():
            file.writelines(f"{qid} 0 {docid} {grade}\n" for docid, grade in grades.items())


def _topics_of_ir_dataset(name: str) -> Topics:
    data_set = load_ir_dataset(name)
    if not data_set.has_queries():
        raise InputError(f"{name} has no queries")
    return {query.query_id: query.default_text() for query in data_set.queries_iter()}


def _topics_of_file(path: Path) -> Topics:
    topics: Topics = {}
    for place, qid, text in _topic_reader(path)(path):
        check_unicode(qid + text, place)
        if qid.split() != [qid]:
            raise InputError(f"{place}: the qid is {qid!r}; wanted one without white space")
        if qid in topics:
            raise InputError(f"{place}: qid {qid!r} is there already")
        topics[qid] = text
    return topics


def _topic_reader(path: Path) -> Callable[[Path], Iterator[_Topic]]:
    """Reader of a file's form. Its name tells the form, as in Pyserini."""
    _check_is_there(path, "topics")
    name = plain_name(path.name)
    if name.endswith(".trec"):
        return _trec_topics
    if name.endswith(".json"):
        return _json_topics
    if is_jsonl(name):
        return _jsonl_topics
    return _tsv_topics


def _tsv_topics(path: Path) -> Iterator[_Topic]:
    """Topics `qid<TAB>text`. Further columns are left out, as in Pyserini, and counted."""
    wider = 0
    for place, line in numbered_lines(path):
        qid, *columns = line.rstrip("\r\n").split("\t")
        if not columns or not qid.strip():
            raise InputError(f"{place}: got {line.rstrip()!r}; wanted qid<TAB>text")
        wider += any(column.strip() for column in columns[1:])
        yield _Topic(place, qid.strip(), columns[0])
    if wider:
        say_once(f"{path}: {wider} topics have more than two columns; the second is the text, as in Pyserini")


def _jsonl_topics(path: Path) -> Iterator[_Topic]:
    """Topics in an object a line: Pyserini's own form, BEIR's, and those of its other readers."""
    for place, line in numbered_lines(path):
        record = parse_record(line, place)
        qid = next((record[key] for key in QID_FIELDS if key in record), None)
        text = _text_of(record)
        if type(qid) not in (str, int) or text is None:
            raise InputError(
                f"{place}: wanted an object with '_id' or 'id', and 'text' "
                f"(known: {', '.join(QID_FIELDS)}; {', '.join(TEXT_FIELDS)})"
            )
        yield _Topic(place, str(qid), text)


def _json_topics(path: Path) -> Iterator[_Topic]:
    """Topics of one object, `{qid: {"title": text}}`, as Pyserini reads it; else of an object a line."""
    try:
        table = parse_json("".join(read_lines(path)))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        table = None
    is_table = isinstance(table, dict) and all(isinstance(value, dict) for value in table.values())
    if not is_table:
        yield from _jsonl_topics(path)
        return
    for qid, record in table.items():
        text = _text_of(record)
        if text is None:
            raise InputError(f"{path}: topic {qid!r} has no text; known: {', '.join(TEXT_FIELDS)}")
        yield _Topic(f"{path}: topic {qid!r}", qid, text)


def _text_of(record: dict[str, Any]) -> str | None:
    """First text of a topic that is not blank; None if none of its fields is a text."""
    texts: list[str] = [record[key] for key in TEXT_FIELDS if isinstance(record.get(key), str)]
    if not texts:
        return None
    return next(filter(str.strip, texts), texts[0])


def _trec_topics(path: Path) -> Iterator[_Topic]:
    """Titles of TREC's ad hoc topics. A number loses its leading zeros, as in Pyserini and in qrels."""
    content = "".join(read_lines(path))
    for topic in _TREC_TOPIC.finditer(content):
        place = f"{path}:{1 + content.count(chr(10), 0, topic.start())}"
        number = _TREC_NUMBER.search(topic[0])
        title = _TREC_TITLE.search(topic[0])
        if number is None or title is None:
            raise InputError(f"{place}: a topic without <num> or <title>")
        qid = number[1]
        if qid.isdecimal():
            qid = str(int(qid))
        yield _Topic(place, qid, " ".join(title[1].split()))


def _qrels_of_ir_dataset(name: str) -> Iterator[tuple[str, str, int]]:
    data_set = load_ir_dataset(name)
    if data_set.has_qrels():
        for qrel in data_set.qrels_iter():
            yield qrel.query_id, qrel.doc_id, qrel.relevance


def _qrels_of_file(path: Path) -> Iterator[tuple[str, str, int]]:
    """Qrels of TREC's form, or of BEIR's, which its first line names: `query-id`, `corpus-id`, `score`."""
    _check_is_there(path, "qrels")
    is_beir = False
    for number, (place, line) in enumerate(numbered_lines(path)):
        columns = line.split()
        if number == 0 and columns == BEIR_HEADER:
            is_beir = True
            continue
        if is_beir and len(columns) == len(BEIR_HEADER):
            columns.insert(1, "0")
        if len(columns) != 4 or not re.fullmatch(r"-?[0-9]{1,9}", columns[3]):
            wanted = "qid 0 docid grade"
            if is_beir:
                wanted = " ".join(BEIR_HEADER)
            raise InputError(f"{place}: got {line.rstrip()!r}; wanted {wanted!r}")
        yield columns[0], columns[2], int(columns[3])


def _check_is_there(path: Path, kind: str) -> None:
    """Raise InputError if there is no such file. A pipe is one: it is read once."""
    if not path.exists() or path.is_dir():
        raise InputError(f"the {kind} file {path} does not exist")
