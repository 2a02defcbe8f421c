"""Input files of a test collection: written once, and never for another one."""

import dataclasses
import json

import pytest

from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.reproduction import catalogue
from csplade_pyserini.reproduction.inputs import Inputs


@pytest.fixture
def collection(tmp_path):
    (tmp_path / "docs.jsonl").write_text('{"id": "d1", "contents": "heart"}\n')
    (tmp_path / "topics.tsv").write_text("q1\theart\nq2\tnot judged\n")
    (tmp_path / "qrels.txt").write_text("q1 0 d1 1\n")
    topics = catalogue.TopicSet(
        topics=str(tmp_path / "topics.tsv"), qrels=str(tmp_path / "qrels.txt"), metrics=("AP",)
    )
    return catalogue.TestCollection(
        name="set", corpus=str(tmp_path / "docs.jsonl"), topics=(topics,), documents=1
    )


def test_only_judged_topics_are_written(tmp_path, collection):
    inputs = Inputs(tmp_path / "out")
    inputs.write(collection)
    [topics] = collection.topics
    assert inputs.topics_file(topics).read_text() == "q1\theart\n"
    assert inputs.qrels_file(topics).read_text() == "q1 0 d1 1\n"


def test_topics_and_judgements_that_do_not_meet_are_named(tmp_path, collection, capsys):
    (tmp_path / "qrels.txt").write_text("q1 0 d1 1\nq8 0 d1 1\nq9 0 d1 0\n")
    Inputs(tmp_path / "out").write(collection)
    said = capsys.readouterr().err
    assert f"topics.tsv: 1 without a judgement in {tmp_path / 'qrels.txt'}, left out: q2\n" in said
    assert f"qrels.txt: 2 judged that {tmp_path / 'topics.tsv'} lacks, counted as 0: q8, q9\n" in said


def test_topics_of_which_none_is_judged_are_refused(tmp_path, collection):
    (tmp_path / "qrels.txt").write_text("01 0 d1 1\n")
    with pytest.raises(InputError, match=r"judges no topic of .*: it has the qids 01, they are q1, q2$"):
        Inputs(tmp_path / "out").write(collection)


def test_the_stamp_is_that_of_version_0_1_0(tmp_path, collection):
    Inputs(tmp_path / "out").write(collection)
    stamp = json.loads((tmp_path / "out" / "collection.json").read_text())
    assert stamp == {"collection": "set", "topics": ["set"], "corpus": "1 files, 34 bytes", "documents": 1}


def test_another_test_collection_is_refused(tmp_path, collection):
    inputs = Inputs(tmp_path / "out")
    inputs.write(collection)
    inputs.write(collection)
    with pytest.raises(
        InputError, match="out holds the collection 'set', not 'other': choose another --output"
    ):
        inputs.write(dataclasses.replace(collection, name="other"))
    with (tmp_path / "docs.jsonl").open("a") as file:
        file.write('{"id": "d2", "contents": "attack"}\n')
    with pytest.raises(InputError, match="holds the corpus '1 files, 34 bytes', not '1 files, 69 bytes'"):
        inputs.write(collection)


def test_a_corpus_of_another_size_is_no_such_test_collection(tmp_path, collection):
    with pytest.raises(CheckError, match=r"docs.jsonl has 1 documents; set has 2"):
        Inputs(tmp_path / "out").write(dataclasses.replace(collection, documents=2))
    assert not (tmp_path / "out" / "collection.json").exists()


def test_a_damaged_stamp_is_named(tmp_path, collection):
    inputs = Inputs(tmp_path / "out")
    inputs.write(collection)
    (tmp_path / "out" / "collection.json").write_text("{")
    with pytest.raises(InputError, match=r"collection.json is not JSON"):
        inputs.write(collection)
