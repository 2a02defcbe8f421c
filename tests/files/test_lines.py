"""Byte-order marks and blank lines, wherever text is read."""

import json

import pytest

from csplade_pyserini.cards.card import read_card
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.topics import read_qrels, read_topics
from csplade_pyserini.collections.vectors import read_vectors
from csplade_pyserini.files.lines import numbered_lines
from csplade_pyserini.files.tables import read_json, read_toml

MARK = "\ufeff".encode()
READERS = {
    "corpus.jsonl": ('{"id": "1", "contents": "a"}\n', lambda file: list(open_corpus(str(file)).documents())),
    "topics.tsv": ("1\ta\n", lambda file: read_topics(str(file))),
    "topics.jsonl": ('{"_id": "1", "text": "a"}\n', lambda file: read_topics(str(file))),
    "topics.json": ('{"1": {"title": "a"}}\n', lambda file: read_topics(str(file))),
    "topics.trec": ("<top>\n<num> Number: 1\n<title> a\n</top>\n", lambda file: read_topics(str(file))),
    "qrels.txt": ("1 0 d 1\n", lambda file: read_qrels(str(file))),
    "qrels.tsv": ("query-id\tcorpus-id\tscore\n1\td\t1\n", lambda file: read_qrels(str(file))),
    "queries.jsonl": ('{"contents": "a", "vector": {"a": 1}}\n', lambda file: list(read_vectors([file]))),
    "card.toml": ('name = "mine"\n', read_card),
    "settings.toml": ("a = 1\n", lambda file: read_toml(file, "settings")),
    "table.json": ('{"a": 1}\n', read_json),
}


@pytest.mark.parametrize("name", READERS)
def test_a_byte_order_mark_changes_nothing(tmp_path, name):
    text, read = READERS[name]
    file = tmp_path / name
    file.write_bytes(text.encode())
    plain = read(file)
    assert plain
    file.write_bytes(MARK + text.encode())
    assert read(file) == plain


@pytest.mark.parametrize("name", [name for name in READERS if not name.endswith((".toml", ".json"))])
def test_blank_lines_change_nothing_and_are_counted_once(tmp_path, name, capsys):
    text, read = READERS[name]
    file = tmp_path / name
    file.write_bytes(text.encode())
    plain = [str(value) for value in read(file)]
    file.write_bytes(text.encode() + b"\n \t\r\n\n")
    assert [str(value) for value in read(file)] == plain
    read(file)
    count = 0 if name.endswith(".trec") else 1  # blank lines belong to its form
    assert capsys.readouterr().err.count(f"{file}: 3 blank lines are skipped") == count


def test_the_mark_of_a_file_that_cat_put_behind_another_is_left_out(tmp_path):
    file = tmp_path / "topics.tsv"
    file.write_bytes(MARK + b"1\ta\n" + MARK + b"2\tb\n")
    assert read_topics(str(file)) == {"1": "a", "2": "b"}


def test_places_count_blank_lines(tmp_path):
    file = tmp_path / "a"
    file.write_text("\none\n\n\ntwo")
    assert [place for place, _ in numbered_lines(file)] == [f"{file}:2", f"{file}:5"]


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_blank_lines_and_marks_cost_no_shard_a_document(tmp_path, shards):
    lines = [json.dumps({"id": number, "contents": "text"}) for number in range(20)]
    file = tmp_path / "a.jsonl"
    file.write_text("\ufeff\n" + "\n\n".join(lines) + "\n\n", encoding="utf-8")
    corpus = open_corpus(str(file))
    read = [doc.docid for shard in range(shards) for doc in corpus.shard(shard, shards).documents()]
    assert read == [str(number) for number in range(20)]
