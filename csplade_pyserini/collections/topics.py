"""Topics `{qid: text}` and qrels `{qid: {docid: grade}}`, from files or ir_datasets. Ids are strings."""

import re
from collections.abc import Iterator
from pathlib import Path

from csplade_pyserini.collections.corpus import IR_DATASETS_PREFIX, load_ir_dataset
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import check_unicode, numbered_lines, parse_record
from csplade_pyserini.files.whole import whole_file

Topics = dict[str, str]
Qrels = dict[str, dict[str, int]]


def read_topics(name: str) -> Topics:
    """Read topics from a file or from `ir_datasets:ID`.

    Files: `FILE.tsv` (`qid<TAB>text`) or `FILE.jsonl` (`_id` or `id`, and `text`), plain or gzip.
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
    """Read qrels of a TREC file (`qid 0 docid grade`) or `ir_datasets:ID`.

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
    parse = _tsv_topic
    if ".jsonl" in path.suffixes:
        parse = _jsonl_topic
    topics: Topics = {}
    for place, line in _lines(path, "topics"):
        qid, text = parse(line, place)
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
    qid = record.get("_id", record.get("id"))
    text = record.get("text")
    if type(qid) not in (str, int) or not isinstance(text, str):
        raise InputError(f"{place}: wanted an object with '_id' or 'id', and 'text'")
    return str(qid), text


def _qrels_of_ir_dataset(name: str) -> Iterator[tuple[str, str, int]]:
    data_set = load_ir_dataset(name)
    if data_set.has_qrels():
        for qrel in data_set.qrels_iter():
            yield qrel.query_id, qrel.doc_id, qrel.relevance


def _qrels_of_file(path: Path) -> Iterator[tuple[str, str, int]]:
    for place, line in _lines(path, "qrels"):
        columns = line.split()
        if len(columns) != 4 or not re.fullmatch(r"-?[0-9]{1,9}", columns[3]):
            raise InputError(f"{place}: got {line.rstrip()!r}; wanted 'qid 0 docid grade'")
        yield columns[0], columns[2], int(columns[3])


def _lines(path: Path, kind: str) -> Iterator[tuple[str, str]]:
    if not path.is_file():
        raise InputError(f"the {kind} file {path} does not exist")
    return numbered_lines(path)
