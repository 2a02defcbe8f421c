"""Topics and qrels: `{qid: text}` and `{qid: {docid: grade}}`, from files or ir_datasets; ids are strings."""

import re
from collections.abc import Iterator
from pathlib import Path

from csplade_pyserini.collections.corpus import IR_DATASETS_PREFIX, load_ir_dataset, parse_record, read_lines
from csplade_pyserini.collections.files import whole_file
from csplade_pyserini.errors import InputError
from csplade_pyserini.utf8 import check_unicode

Topics = dict[str, str]
Qrels = dict[str, dict[str, int]]


def read_topics(name: str) -> Topics:
    """Topics of `FILE.tsv` (`qid<TAB>text`), `FILE.jsonl` (`_id` or `id`, and `text`) or `ir_datasets:ID`.

    Raises InputError that names the file and line, and where there are none.
    """
    topics = (
        _topics_of_ir_dataset(name) if name.startswith(IR_DATASETS_PREFIX) else _topics_of_file(Path(name))
    )
    if not topics:
        raise InputError(f"{name} has no topics")
    return topics


def write_topics(topics: Topics, path: Path) -> None:
    """Write `qid<TAB>text` lines; white space inside a text becomes one space each."""
    with whole_file(path) as file:
        for qid, text in topics.items():
            file.write(f"{qid}\t{' '.join(text.split())}\n")


def read_qrels(name: str) -> Qrels:
    """Qrels of a TREC file (`qid 0 docid grade`) or of `ir_datasets:ID`. Raises InputError, also where there are none."""
    qrels: Qrels = {}
    for qid, docid, grade in (
        _qrels_of_ir_dataset(name) if name.startswith(IR_DATASETS_PREFIX) else _qrels_of_file(Path(name))
    ):
        qrels.setdefault(qid, {})[docid] = grade
    if not qrels:
        raise InputError(f"{name} has no qrels")
    return qrels


def _qrels_of_ir_dataset(name: str) -> Iterator[tuple[str, str, int]]:
    data_set = load_ir_dataset(name)
    if data_set.has_qrels():
        yield from ((qrel.query_id, qrel.doc_id, qrel.relevance) for qrel in data_set.qrels_iter())


def _qrels_of_file(path: Path) -> Iterator[tuple[str, str, int]]:
    for number, line in enumerate(_lines(path, "qrels"), start=1):
        columns = line.split()
        if len(columns) != 4 or not re.fullmatch(r"-?[0-9]{1,9}", columns[3]):
            raise InputError(f"{path}:{number}: got {line.rstrip()!r}; wanted 'qid 0 docid grade'")
        yield columns[0], columns[2], int(columns[3])


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
    is_jsonl = ".jsonl" in path.suffixes
    for number, line in enumerate(_lines(path, "topics"), start=1):
        place = f"{path}:{number}"
        qid, text = _jsonl_topic(line, place) if is_jsonl else _tsv_topic(line, place)
        check_unicode(qid + text, place)
        if qid.split() != [qid]:
            raise InputError(f"{place}: the qid is {qid!r}; wanted one without white space")
        if qid in topics:
            raise InputError(f"{place}: qid {qid!r} is there already")
        topics[qid] = text
    return topics


def _tsv_topic(line: str, place: str) -> tuple[str, str]:
    qid, tab, text = line.rstrip("\r\n").partition("\t")
    if not tab or not qid.strip():
        raise InputError(f"{place}: got {line.rstrip()!r}; wanted qid<TAB>text")
    return qid.strip(), text


def _jsonl_topic(line: str, place: str) -> tuple[str, str]:
    record = parse_record(line, place)
    qid, text = record.get("_id", record.get("id")), record.get("text")
    if type(qid) not in (str, int) or not isinstance(text, str):
        raise InputError(f"{place}: wanted an object with '_id' or 'id', and 'text'")
    return str(qid), text


def _lines(path: Path, what: str) -> Iterator[str]:
    if not path.is_file():
        raise InputError(f"the {what} file {path} does not exist")
    return read_lines(path)
