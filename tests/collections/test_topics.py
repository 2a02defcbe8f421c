import gzip
import json
from types import SimpleNamespace

import ir_datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csplade_pyserini.collections.topics import read_qrels, read_topics, write_qrels, write_topics
from csplade_pyserini.errors import InputError

ID = st.text(
    alphabet=st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="\ufeff"),
    min_size=1,
    max_size=8,
)
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)


def write(path, content: str | bytes):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def error_of(read, path) -> str:
    with pytest.raises(InputError) as error:
        read(str(path))
    return str(error.value)


def test_topics_of_a_tsv_file_keep_order_and_leading_zeros(tmp_path):
    file = write(tmp_path / "topics.tsv", "007\twho is bond\n7\tseven\r\nq-1\t\n")
    assert list(read_topics(str(file)).items()) == [("007", "who is bond"), ("7", "seven"), ("q-1", "")]


def test_the_second_column_is_the_text_and_wider_topics_are_counted(tmp_path, capsys):
    file = write(tmp_path / "topics.tsv", "1\ta question\tits source\t\n2\tb\t\n3\tc\td\n")
    assert read_topics(str(file)) == {"1": "a question", "2": "b", "3": "c"}
    assert f"{file}: 2 topics have more than two columns" in capsys.readouterr().err


FORMS = {
    "pyserini.jsonl": '{"id": 1, "title": "a b"}\n{"id": "2", "title": "c", "text": "longer"}\n',
    "beir.jsonl": '{"_id": "1", "text": "a b", "metadata": {}}\n{"_id": "2", "title": "", "text": "c"}\n',
    "raw.ndjson": '{"qid": 1, "query": "a b"}\n{"query_id": 2, "query": "c"}\n',
    "m-beir.jl": '{"qid": "1", "query_txt": "a b"}\n{"qid": "2", "query_txt": "c"}\n',
    "pyserini.json": '{"1": {"title": "a b"}, "2": {"title": "c"}}',
    "lines.json": '{"id": "1", "title": "a b"}\n{"id": "2", "title": "c"}\n',
    "new.trec": "<top>\n<num> Number: 1\n<title> a b\n\n<desc> Description:\nx < y\n</top>\n"
    "<top>\n\n<num> Number: 002 \n<title>\nc\n\n<narr> Narrative:\n<title> no\n</top>\n",
    "old.trec": "<top>\n<head> Tipster\n<num> Number: 001\n<title> Topic:  a\n b\n<desc>\n</top>\n"
    "<top>\n<num> Number:  002\n<title> Topic: c\n<desc>\n</top>",
    "fire.trec": "<top lang='en'>\n<num>1</num>\n<title>a b</title>\n</top>\n"
    "<top lang='en'>\n<num>2</num><title>c</title>\n<desc>d</desc></top>\n",
    "topics.txt": "1\ta b\n2\tc\n",
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_topics_of_every_form_are_the_same(tmp_path, name, ending):
    content = FORMS[name].encode()
    file = write(tmp_path / f"{name}{ending}", gzip.compress(content) if ending else content)
    assert read_topics(str(file)) == {"1": "a b", "2": "c"}


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (
            "a.trec",
            "<top>\n</top>\n\n<top>\n<num> 2\n<title> b\n</top>",
            ":1: a topic without <num> or <title>",
        ),
        ("a.trec", "1\ta\n", " has no topics"),
        ("a.json", '{"1": {"title": "a"}, "2": {}}', ": topic '2' has no text; known: title, text, "),
        ("a.json", "[1]", ":1: got list; wanted one JSON object a line"),
        (
            "a.trec",
            "<top>\n<num> 1\n<title> a\n</top>\n<top>\n<num> 01\n<title> b\n",
            ":5: qid '1' is there already",
        ),
    ],
)
def test_a_bad_topic_of_another_form_is_an_error_that_names_it(tmp_path, name, content, complaint):
    file = write(tmp_path / name, content)
    assert error_of(read_topics, file).startswith(f"{file}{complaint}")


def test_qrels_of_beir_have_a_header_and_three_columns(tmp_path):
    file = write(tmp_path / "test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\r\n")
    assert read_qrels(str(file)) == {"q1": {"d1": 2, "d2": 0}}
    write(tmp_path / "test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\n")
    assert error_of(read_qrels, file) == f"{file}:2: got 'q1\\td1'; wanted 'query-id corpus-id score'"
    write(tmp_path / "test.tsv", "q1\td1\t2\n")
    assert error_of(read_qrels, file) == f"{file}:1: got 'q1\\td1\\t2'; wanted 'qid 0 docid grade'"


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


@pytest.mark.parametrize("line", ["1 0 d1", "1 0 d1 1 x", "1 0 d1 high", "1 0 d1 1.0", "1 0 d1 -"])
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
