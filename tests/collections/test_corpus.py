import gzip
import itertools
import json
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import ir_datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csplade_pyserini.collections.corpus import (
    Document,
    IrDatasetsCorpus,
    join_fields,
    measure_corpus,
    open_corpus,
)
from csplade_pyserini.errors import InputError


def write(path: Path, *records: object) -> Path:
    """A JSONL file, gzip where its name says so; a str or bytes among the records is a line as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        r if isinstance(r, bytes) else r.encode() if isinstance(r, str) else json.dumps(r).encode()
        for r in records
    ]
    content = b"".join(line + b"\n" for line in lines)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def doc(docid: object, text: str = "text") -> dict[str, object]:
    return {"id": docid, "contents": text}


def read(path: Path, **flags: object) -> list[tuple[str, str]]:
    return [(document.docid, document.text) for document in open_corpus(str(path), **flags).documents()]


def error_of(path: Path, **flags: object) -> str:
    with pytest.raises(InputError) as error:
        measure_corpus(open_corpus(str(path), **flags))
    return str(error.value)


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz", "corpus.json", "any name at all"])
def test_a_file_is_read_plain_or_gzip(tmp_path, name):
    file = write(tmp_path / name, doc("a", "Zürich"), doc("b", "日本"))
    corpus = open_corpus(str(file))
    assert corpus.name == str(file)
    there = [(document.docid, document.text, str(document.place)) for document in corpus.documents()]
    assert there == [("a", "Zürich", f"{file}:1"), ("b", "日本", f"{file}:2")]
    assert list(corpus.documents()) == list(corpus.documents()), "a corpus can be read again"
    assert measure_corpus(corpus).documents == 2


def test_a_folder_is_read_in_the_order_of_its_file_names(tmp_path):
    write(tmp_path / "2.jsonl", doc("c"))
    write(tmp_path / "1.jsonl.gz", doc("a"), doc("b"))
    write(tmp_path / "10.json", doc("d"))
    (tmp_path / "README.md").write_text("not a corpus")
    documents = list(open_corpus(str(tmp_path)).documents())
    assert [document.docid for document in documents] == ["a", "b", "d", "c"]
    assert [str(document.place) for document in documents] == [
        f"{tmp_path}/{p}" for p in ("1.jsonl.gz:1", "1.jsonl.gz:2", "10.json:1", "2.jsonl:1")
    ]


def test_the_text_is_contents_else_title_and_text_else_text(tmp_path):
    file = write(
        tmp_path / "c.jsonl",
        {"id": "1", "contents": " contents\n", "title": "title", "text": "text"},
        {"id": "2", "title": " title ", "text": "text "},
        {"id": "3", "text": "text"},
        {"id": "4", "title": "", "text": " text"},
        {"id": "5", "title": " \n", "text": ""},
    )
    assert read(file) == [("1", "contents"), ("2", "title text"), ("3", "text"), ("4", "text"), ("5", "")]


def test_fields_asked_for_make_the_text_in_the_order_they_are_asked_for(tmp_path):
    file = write(tmp_path / "c.jsonl", {"id": "1", "contents": "contents", "title": "title", "body": "body"})
    assert read(file, fields=["body", "title"]) == [("1", "body title")]
    assert read(file, fields=["title"]) == [("1", "title")]


def test_fields_that_a_record_lacks_are_cut_out_of_its_contents_as_pyserini_does(tmp_path):
    file = write(tmp_path / "c.jsonl", doc("1", "title\ntext\n"), doc("2", "title\n"))
    assert read(file, fields=["text"]) == [("1", "title\ntext"), ("2", "title")]
    assert (
        list(itertools.islice(open_corpus(str(file), fields=["title", "text"]).documents(), 1))[0].text
        == "title text"
    )
    assert error_of(file, fields=["title", "text"]).startswith(
        f"{file}:2: no field 'title'; it has 'id', 'contents'"
    )


def test_the_docid_is_id_or_what_the_flag_names(tmp_path):
    records = [
        {"id": "a", "_id": "b", "docid": "c", "pid": 7, "text": "t"},
        {"_id": "b2", "docid": "c2", "pid": "007", "text": "t"},
    ]
    file = write(tmp_path / "c.jsonl", *records, {"docid": "c3", "pid": "p", "text": "t"})
    assert [docid for docid, _ in read(file)] == ["a", "b2", "c3"]
    assert [docid for docid, _ in read(file, docid_field="pid")] == ["7", "007", "p"]


BAD_LINES = {
    "not JSON": ('{"id": "b", "contents": "t"', "not JSON"),
    "two objects": ('{"id": "b", "text": "t"} {}', "not JSON"),
    "no character of JSON": ("\u2028x", "not JSON"),
    "a list": ("[1]", "got list; wanted one JSON object a line"),
    "a string": ('"b"', "got str; wanted one JSON object a line"),
    "null": ("null", "got NoneType; wanted one JSON object a line"),
    "no id": ({"contents": "t"}, "no docid; wanted the field id or _id or docid"),
    "null id": (doc(None), "the docid is None"),
    "null id beside another": ({"id": None, "docid": "b", "contents": "t"}, "the docid is None"),
    "id with spaces": (doc("b c"), "the docid is 'b c'"),
    "id with a line end": (doc("b\n"), "the docid is 'b\\n'"),
    "empty id": (doc(""), "the docid is ''"),
    "true id": (doc(True), "the docid is True"),
    "float id": (doc(1.5), "the docid is 1.5"),
    "list id": (doc(["b"]), "the docid is ['b']"),
    "null text": ({"id": "b", "contents": None}, "the field 'contents' is null; wanted a string"),
    "number for a text": ({"id": "b", "title": "t", "text": 5}, "the field 'text' is 5; wanted a string"),
    "no text": ({"id": "b", "title": "t"}, "no text; wanted 'contents', 'title' and 'text', or 'text'"),
}


@pytest.mark.parametrize(("line", "complaint"), BAD_LINES.values(), ids=BAD_LINES)
@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
def test_a_bad_line_is_an_error_that_names_its_place(tmp_path, ending, line, complaint):
    write(tmp_path / f"1{ending}", doc("first"), doc("second"))
    file = write(tmp_path / f"2{ending}", doc("third"), doc("fourth"), line, doc("last"))
    assert error_of(tmp_path).startswith(f"{file}:3: {complaint}")


def test_a_missing_field_is_an_error_that_names_place_and_field(tmp_path):
    file = write(tmp_path / "c.jsonl", {"id": "1", "body": "b"}, {"id": "2", "text": "t"})
    assert error_of(file, fields=["body"]).startswith(f"{file}:2: no field 'body'; it has 'id', 'text'")
    assert error_of(file, docid_field="pid").startswith(f"{file}:1: no docid; wanted the field pid")


def test_a_repeated_docid_is_an_error_that_names_both_places(tmp_path):
    first = write(tmp_path / "1.jsonl", doc("a"), doc("b"), doc("c"))
    second = write(tmp_path / "2.jsonl.gz", doc("d"), doc("b"), doc("a"))
    assert error_of(tmp_path) == f"{second}:2: docid 'b' is also at {first}:2"


def test_a_number_and_a_string_can_be_the_same_docid(tmp_path):
    file = write(tmp_path / "c.jsonl", doc(7), doc("07"), doc("7"))
    assert error_of(file) == f"{file}:3: docid '7' is also at {file}:1"


def test_equal_hashes_of_different_docids_are_no_error(tmp_path, monkeypatch):
    for module in ("corpus", "docids"):
        monkeypatch.setattr(f"csplade_pyserini.collections.{module}.docid_hash", len)
    file = write(tmp_path / "c.jsonl", doc("a"), doc("b"), doc("cc"))
    assert measure_corpus(open_corpus(str(file))).documents == 3
    write(file, doc("a"), doc("b"), doc("a"))
    assert error_of(file) == f"{file}:3: docid 'a' is also at {file}:1"


@pytest.mark.parametrize("cut", [1, 9, 400, 9_000])
def test_a_truncated_gzip_is_an_error_at_the_line_where_it_breaks_off(tmp_path, cut):
    file = write(tmp_path / "c.jsonl.gz", *(doc(i, str(2**i)) for i in range(400)))
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    readable = zlib.decompressobj(wbits=31).decompress(whole[:-cut]).count(b"\n")
    assert 0 < readable <= 400
    assert error_of(file).startswith(f"{file}:{readable + 1}: cannot be read: ")


def test_what_only_calls_itself_gzip_is_an_error_that_names_it(tmp_path):
    file = tmp_path / "c.jsonl.gz"
    file.write_bytes(b'{"id": "a", "contents": "t"}\n')
    assert error_of(file).startswith(f"{file}:1: cannot be read: Not a gzipped file")


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz"])
def test_invalid_utf8_is_an_error_that_names_the_file(tmp_path, name):
    file = write(tmp_path / name, b'{"id": "a", "contents": "\xff"}', doc("b"))
    message = error_of(file)
    assert message.startswith(f"{file}:1: cannot be read: ")
    assert "utf-8" in message


def test_an_empty_corpus_is_an_error(tmp_path):
    for name in ("c.jsonl", "c.jsonl.gz"):
        file = write(tmp_path / name)
        assert error_of(file) == f"the corpus {file} is empty"
    assert error_of(tmp_path) == f"the corpus {tmp_path} is empty"


def test_a_corpus_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(InputError) as error:
        open_corpus(str(tmp_path / "nowhere"))
    assert str(error.value).startswith(f"the corpus {tmp_path}/nowhere does not exist; wanted a JSONL file")


def test_a_folder_without_jsonl_is_an_error(tmp_path):
    (tmp_path / "corpus.tsv").write_text("1\ttext\n")
    with pytest.raises(InputError) as error:
        open_corpus(str(tmp_path))
    assert str(error.value).startswith(f"the corpus {tmp_path} holds data that is not read: corpus.tsv; ")
    (tmp_path / "corpus.tsv").unlink()
    with pytest.raises(InputError) as error:
        open_corpus(str(tmp_path))
    assert str(error.value).startswith(f"the corpus {tmp_path} has no file that ends in .jsonl, .json, ")


def test_a_folder_named_like_a_file_is_a_folder(tmp_path):
    (tmp_path / "c.jsonl").mkdir()
    write(tmp_path / "c.jsonl" / "1.jsonl", doc("a"))
    assert read(tmp_path) == [("a", "text")]


@settings(deadline=None, max_examples=60)
@given(
    files=st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=4),
    count=st.integers(1, 12),
)
def test_shards_hold_every_document_once_and_in_order(tmp_path_factory, files, count):
    folder = tmp_path_factory.mktemp("shards")
    for number, (documents, compressed) in enumerate(files):
        lines = "".join(f"{json.dumps(doc(f'{number}-{i}'))}\n" for i in range(documents)).encode()
        (folder / f"{number}.jsonl{'.gz' * compressed}").write_bytes(
            gzip.compress(lines) if compressed else lines
        )
    corpus = open_corpus(str(folder))
    shards = [
        [document.docid for document in corpus.shard(number, count).documents()] for number in range(count)
    ]
    whole = [document.docid for document in corpus.documents()]
    assert sorted(docid for shard in shards for docid in shard) == sorted(whole)
    if not any(compressed for _, compressed in files):
        assert [docid for shard in shards for docid in shard] == whole
    assert all(shard == [docid for docid in whole if docid in shard] for shard in shards)


def test_documents_are_read_as_they_are_asked_for(tmp_path):
    file = write(tmp_path / "c.jsonl", doc("1"), doc("2"), doc("3"), doc("4"), "{ broken", doc("6"))
    corpus = open_corpus(str(file))
    assert [document.docid for document in itertools.islice(corpus.documents(), 3)] == ["1", "2", "3"]
    with pytest.raises(InputError, match=f"{file}:5: not JSON"):
        list(corpus.documents())
    assert [document.docid for document in corpus.shard(0, 2).documents()] == ["1", "2", "3"]


def test_a_file_that_another_shard_has_is_not_opened(tmp_path, monkeypatch):
    files = [
        write(tmp_path / f"{number}.jsonl", doc(f"{number}-1"), doc(f"{number}-2")) for number in range(3)
    ]
    opened = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda file, *a, **k: opened.append(file) or real(file, *a, **k))
    assert [document.docid for document in open_corpus(str(tmp_path)).shard(1, 3).documents()] == [
        "1-1",
        "1-2",
    ]
    assert set(opened) == {files[1]}


def test_join_fields_leaves_the_record_as_it_is():
    record = {"contents": "title\ntext"}
    assert join_fields(record, ["title", "text"], "here") == "title text"
    assert record == {"contents": "title\ntext"}


class TitledDoc(NamedTuple):
    doc_id: str
    title: str
    text: str
    url: str


class FakeDataSet:
    """The part of an ir_datasets data set that this package uses."""

    def __init__(self, docs=None):
        self.docs = docs

    def has_docs(self):
        return self.docs is not None

    def docs_iter(self):
        return iter(self.docs)

    def docs_count(self):
        return len(self.docs)


@pytest.fixture
def data_sets(monkeypatch):
    """Data sets that ir_datasets knows, by their ID."""
    known: dict[str, FakeDataSet] = {}
    monkeypatch.setattr(ir_datasets, "load", known.__getitem__)
    return known


def test_an_ir_data_set_is_a_corpus(data_sets):
    data_sets["fake/docs"] = FakeDataSet(
        [TitledDoc("d1", "title ", "text", "url"), TitledDoc("d2", "", "text", "url")]
    )
    corpus = open_corpus("ir_datasets:fake/docs")
    assert list(corpus.documents()) == [
        Document("d1", "title text", "ir_datasets:fake/docs, document 1"),
        Document("d2", "text", "ir_datasets:fake/docs, document 2"),
    ]
    assert [
        document.text for document in open_corpus("ir_datasets:fake/docs", fields=["url"]).documents()
    ] == ["url", "url"]
    assert measure_corpus(corpus).documents == 2


@pytest.mark.parametrize("sliced", [False, True])
def test_shards_of_an_ir_data_set_are_ranges_of_it(data_sets, sliced):
    fake = FakeDataSet([TitledDoc(f"d{number}", "", "text", "url") for number in range(7)])
    if sliced:  # as the data sets whose files ir_datasets can seek in
        fake.docs_iter = lambda: fake.docs
    data_sets["fake"] = fake
    shards = [list(open_corpus("ir_datasets:fake").shard(number, 3).documents()) for number in range(3)]
    assert [[document.docid for document in shard] for shard in shards] == [
        ["d0", "d1"],
        ["d2", "d3"],
        ["d4", "d5", "d6"],
    ]
    assert shards[1][0].place == "ir_datasets:fake, document 3"


def test_an_error_in_an_ir_data_set_names_the_document(data_sets):
    data_sets["fake"] = FakeDataSet([TitledDoc("d1", "t", "t", "u"), TitledDoc("d1", "t", "t", "u")])
    with pytest.raises(InputError) as error:
        measure_corpus(IrDatasetsCorpus("ir_datasets:fake"))
    assert (
        str(error.value) == "ir_datasets:fake, document 2: docid 'd1' is also at ir_datasets:fake, document 1"
    )
    with pytest.raises(InputError, match="ir_datasets:fake, document 1: no field 'body'; it has "):
        measure_corpus(IrDatasetsCorpus("ir_datasets:fake", ("body",)))


def test_an_ir_data_set_without_documents_is_an_error(data_sets):
    data_sets["fake"] = FakeDataSet()
    with pytest.raises(InputError, match="^ir_datasets:fake has no documents$"):
        measure_corpus(open_corpus("ir_datasets:fake"))


def test_an_unknown_ir_data_set_is_an_error():
    with pytest.raises(InputError) as error:
        measure_corpus(open_corpus("ir_datasets:no-such-set"))
    assert (
        str(error.value)
        == "ir_datasets:no-such-set: ir_datasets knows no such data set; see https://ir-datasets.com"
    )


def test_ir_data_sets_have_docids_of_their_own():
    with pytest.raises(
        InputError, match="--docid-field pid: documents of ir_datasets:fake have their docids already"
    ):
        open_corpus("ir_datasets:fake", docid_field="pid")


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz"])
def test_invalid_utf8_is_an_error_at_its_line(tmp_path, name):
    content = b'{"id": "a", "contents": "t"}\n{"id": "b", "contents": "t"}\n{"id": "c", "contents": "\xff"}\n'
    file = tmp_path / name
    file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert error_of(file).startswith(f"{file}:3: ")


def test_a_damaged_gzip_is_an_error(tmp_path):
    content = bytearray(gzip.compress(os.urandom(3000).hex().encode()))
    content[200:260] = bytes(byte ^ 0xFF for byte in content[200:260])
    file = tmp_path / "c.jsonl.gz"
    file.write_bytes(content)
    assert error_of(file).startswith(f"{file}:1: cannot be read")


@pytest.mark.parametrize(
    "line",
    [
        b'{"id": "\\ud800", "contents": "t"}',
        b'{"id": "a", "contents": "\\ud800"}',
        b"[" * 200_000,
        b'{"id": ' + b"1" * 5000 + b"}",
    ],
    ids=["lone surrogate in the id", "lone surrogate in the text", "deep nesting", "huge number"],
)
def test_a_line_that_json_or_utf8_cannot_hold_is_an_error(tmp_path, line):
    file = tmp_path / "c.jsonl"
    file.write_bytes(line + b"\n")
    assert error_of(file).startswith(f"{file}:1: ")
