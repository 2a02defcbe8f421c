import gzip
import json
from types import SimpleNamespace

import ir_datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csplade_pyserini.collections.topics import read_qrels, read_topics, write_qrels, write_topics
from csplade_pyserini.errors import InputError

ID = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=8)
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)


def write(path, content: str | bytes):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def error_of(read, path) -> str:
    with pytest.raises(InputError) as error:
        read(str(path))
    return str(error.value)


def test_topics_of_a_tsv_file_keep_order_leading_zeros_and_tabs(tmp_path):
    file = write(tmp_path / "topics.tsv", "007\twho is bond\n7\tseven\twith a tab\r\nq-1\t\n")
    assert list(read_topics(str(file)).items()) == [
        ("007", "who is bond"),
        ("7", "seven\twith a tab"),
        ("q-1", ""),
    ]


def test_topics_of_a_jsonl_file_have_an_underscored_id_or_a_plain_one(tmp_path):
    records = [
        {"_id": "007", "text": "Zürich"},
        {"id": 8, "text": "b"},
        {"_id": "9", "id": "x", "text": "c", "metadata": {}},
    ]
    content = "".join(json.dumps(record) + "\n" for record in records)
    assert read_topics(str(write(tmp_path / "topics.jsonl", content))) == {
        "007": "Zürich",
        "8": "b",
        "9": "c",
    }


def test_topics_may_be_gzip(tmp_path):
    tsv = write(tmp_path / "topics.tsv.gz", gzip.compress(b"01\ta\n"))
    jsonl = write(tmp_path / "topics.jsonl.gz", gzip.compress(b'{"id": "01", "text": "a"}\n'))
    assert read_topics(str(tsv)) == read_topics(str(jsonl)) == {"01": "a"}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("3 no tab", "got '3 no tab'; wanted qid<TAB>text"),
        ("", "got ''; wanted qid<TAB>text"),
        ("\tno qid", "got '\\tno qid'; wanted qid<TAB>text"),
        (" \tno qid", "got ' \\tno qid'; wanted qid<TAB>text"),
        ("01\tagain", "qid '01' is there already"),
    ],
)
def test_a_bad_line_of_a_tsv_file_is_an_error_that_names_its_place(tmp_path, line, complaint):
    file = write(tmp_path / "topics.tsv", f"01\ta\n02\tb\n{line}\n04\td\n")
    assert error_of(read_topics, file) == f"{file}:3: {complaint}"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not JSON"),
        ('"text"', "got str; wanted one JSON object a line"),
        ('{"text": "no qid"}', "wanted an object with '_id' or 'id', and 'text'"),
        ('{"_id": null, "text": "null qid"}', "wanted an object with '_id' or 'id', and 'text'"),
        ('{"id": "3"}', "wanted an object with '_id' or 'id', and 'text'"),
        ('{"id": "3", "text": null}', "wanted an object with '_id' or 'id', and 'text'"),
        ('{"id": "2", "text": "again"}', "qid '2' is there already"),
    ],
)
def test_a_bad_line_of_a_jsonl_file_is_an_error_that_names_its_place(tmp_path, line, complaint):
    file = write(tmp_path / "topics.jsonl", f'{{"id": 1, "text": "a"}}\n{{"id": 2, "text": "b"}}\n{line}\n')
    assert error_of(read_topics, file).startswith(f"{file}:3: {complaint}")


def test_missing_and_empty_files_are_errors_that_name_them(tmp_path):
    nowhere, empty = tmp_path / "nowhere.tsv", write(tmp_path / "empty.tsv", "")
    assert error_of(read_topics, nowhere) == f"the topics file {nowhere} does not exist"
    assert error_of(read_topics, tmp_path) == f"the topics file {tmp_path} does not exist"
    assert error_of(read_topics, empty) == f"{empty} has no topics"
    assert error_of(read_qrels, nowhere) == f"the qrels file {nowhere} does not exist"


def test_topics_that_are_not_utf8_are_an_error_that_names_the_file(tmp_path):
    file = write(tmp_path / "topics.tsv", b"1\tZ\xfcrich\n")
    assert error_of(read_topics, file).startswith(f"{file}:1: cannot be read: ")


@settings(deadline=None)
@given(st.dictionaries(ID, TEXT, min_size=1, max_size=5))
def test_topics_survive_a_round_trip_up_to_white_space(tmp_path_factory, topics):
    file = tmp_path_factory.mktemp("topics") / "topics.tsv"
    write_topics(topics, file)
    assert list(read_topics(str(file)).items()) == [
        (qid, " ".join(text.split())) for qid, text in topics.items()
    ]


@settings(deadline=None)
@given(
    st.dictionaries(
        ID, st.dictionaries(ID, st.integers(-2, 4), min_size=1, max_size=4), min_size=1, max_size=4
    )
)
def test_qrels_survive_a_round_trip(tmp_path_factory, qrels):
    file = tmp_path_factory.mktemp("qrels") / "qrels.txt"
    write_qrels(qrels, file)
    assert read_qrels(str(file)) == qrels


def test_qrels_are_read_from_columns_however_they_are_spaced(tmp_path):
    file = write(tmp_path / "qrels.txt", "01 0 d1 1\n01\tQ0\td2\t0\n  2   0 d1  -2\r\n")
    assert read_qrels(str(file)) == {"01": {"d1": 1, "d2": 0}, "2": {"d1": -2}}


@pytest.mark.parametrize("line", ["1 0 d1", "1 0 d1 1 x", "", "1 0 d1 high", "1 0 d1 1.0", "1 0 d1 -"])
def test_a_bad_line_of_qrels_is_an_error_that_names_its_place(tmp_path, line):
    file = write(tmp_path / "qrels.txt", f"1 0 d0 1\n{line}\n")
    assert error_of(read_qrels, file) == f"{file}:2: got {line!r}; wanted 'qid 0 docid grade'"


class FakeDataSet:
    """The part of an ir_datasets data set that this package uses."""

    def __init__(self, queries=None, qrels=None):
        self.queries, self.qrels = queries, qrels

    def has_queries(self):
        return self.queries is not None

    def has_qrels(self):
        return self.qrels is not None

    def queries_iter(self):
        return iter(
            SimpleNamespace(query_id=qid, default_text=lambda text=text: text) for qid, text in self.queries
        )

    def qrels_iter(self):
        return iter(
            SimpleNamespace(query_id=qid, doc_id=docid, relevance=grade) for qid, docid, grade in self.qrels
        )


def test_topics_and_qrels_of_an_ir_data_set(monkeypatch):
    data_set = FakeDataSet([("01", "a"), ("2", "b")], [("01", "d1", 1), ("2", "d1", 0), ("01", "d2", 3)])
    monkeypatch.setattr(ir_datasets, "load", {"fake/set": data_set, "bare": FakeDataSet()}.__getitem__)
    assert read_topics("ir_datasets:fake/set") == {"01": "a", "2": "b"}
    assert read_qrels("ir_datasets:fake/set") == {"01": {"d1": 1, "d2": 3}, "2": {"d1": 0}}
    assert error_of(read_topics, "ir_datasets:bare") == "ir_datasets:bare has no queries"
    assert error_of(read_qrels, "ir_datasets:bare") == "ir_datasets:bare has no qrels"
    assert error_of(read_topics, "ir_datasets:other").startswith(
        "ir_datasets:other: ir_datasets knows no such data set"
    )


def test_a_grade_with_two_signs_is_an_error(tmp_path):
    (tmp_path / "qrels.txt").write_text("1 0 d --1\n")
    with pytest.raises(InputError, match=r"qrels.txt:1: got '1 0 d --1'"):
        read_qrels(str(tmp_path / "qrels.txt"))


@pytest.mark.parametrize("qid", ['""', '"a b"', "true"])
def test_a_qid_is_one_word(tmp_path, qid):
    (tmp_path / "topics.jsonl").write_text(f'{{"_id": {qid}, "text": "t"}}\n')
    with pytest.raises(InputError, match=r"topics.jsonl:1"):
        read_topics(str(tmp_path / "topics.jsonl"))


def test_qrels_without_a_line_are_an_error(tmp_path):
    (tmp_path / "qrels.txt").touch()
    with pytest.raises(InputError, match="qrels.txt has no qrels"):
        read_qrels(str(tmp_path / "qrels.txt"))
