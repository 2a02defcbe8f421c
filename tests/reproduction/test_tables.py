"""Tables of collections and of expected scores: what they say, and what a wrong one is told."""

import json
import shlex
import statistics
from pathlib import Path

import pytest
from programs import run_python

from csplade_pyserini import reproduce
from csplade_pyserini.cards import shipped_cards
from csplade_pyserini.errors import InputError
from csplade_pyserini.reproduction.catalogue import (
    find_collections,
    known_collections,
    read_collections,
)
from csplade_pyserini.reproduction.score_tables import (
    differences,
    encoding_options,
    expected_scores,
    read_expected,
)

COLLECTION = """
[[collection]]
name = "mine"
corpus = "docs.jsonl"

[[collection.topics]]
topics = "topics.tsv"
qrels = "$QRELS/qrels.txt"
metrics = ["nDCG@10"]
"""
EXPECTED = """
[[expected]]
encoder = "mine"
origin = "measured"
source = "here"
tolerance = 0.01
[expected.scores."set/test"]
"nDCG@10" = 0.5
"""


def test_the_papers_13_and_cqadupstacks_12_are_there():
    assert len(find_collections("beir")) == 13
    assert len(find_collections("cqadupstack")) == 12
    assert {collection.name for collection in known_collections() if collection.remove_query} == {
        "beir/arguana",
        "beir/quora/test",
    }
    assert [collection.name for collection in find_collections("beir/nfcorpus")] == ["beir/nfcorpus/test"]


def test_trec_dl_takes_grade_2_for_relevant():
    [msmarco] = find_collections("msmarco-v1-passage")
    assert {topics.name: topics.relevance_level for topics in msmarco.topics} == {
        "dev": 1,
        "dl19": 2,
        "dl20": 2,
    }


PYSERINI_NAMES = """
import json
from pyserini.search import _base as base

if hasattr(base, "topics_mapping"):
    names = [*base.topics_mapping], [*base.qrels_mapping]
else:
    names = [*base._get_topics_mapping()], [*base._get_qrels_mapping()]
print(json.dumps(names))
"""


@pytest.mark.jvm
def test_pyserini_knows_every_name_that_is_said_to_be_its():
    names = [
        topics.pyserini
        for collection in known_collections()
        for topics in collection.topics
        if topics.pyserini
    ]
    result = run_python("-c", PYSERINI_NAMES)
    if "URLError" in result.stderr:
        pytest.skip("Pyserini 2.4 fetches its names: run this where there is a network, or with Pyserini 2.3")
    assert result.returncode == 0, result.stderr
    topics, qrels = json.loads(result.stdout.splitlines()[-1])
    assert len(names) == 28
    assert set(names) <= set(topics) & set(qrels)


def test_a_file_of_collections_has_paths_beside_it_and_environment_variables(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text(COLLECTION)
    monkeypatch.setenv("QRELS", "/elsewhere")
    [collection] = find_collections(str(tmp_path / "mine.toml"))
    assert collection.corpus == str(tmp_path / "docs.jsonl")
    assert [(topics.topics, topics.qrels) for topics in collection.topics] == [
        (str(tmp_path / "topics.tsv"), "/elsewhere/qrels.txt")
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("nDCG@10", "nDGC@10", r"unknown metric 'nDGC@10'.*; known: nDCG@10"),
        ('name = "mine"', "", "'name' is missing"),
        ("[[collection.topics]]", "[collection.more]", r"no \[\[collection.topics\]\]"),
        ("[[collection]]", "[[test]]", r"no \[\[collection\]\]"),
        (None, None, "qrels is '.QRELS/qrels.txt', and the environment variable is not set"),
    ],
)
def test_a_wrong_file_of_collections_is_named(tmp_path, monkeypatch, old, new, told):
    if old:
        monkeypatch.setenv("QRELS", "/elsewhere")
    (tmp_path / "mine.toml").write_text(COLLECTION.replace(old, new) if old else COLLECTION)
    with pytest.raises(InputError, match=told) as raised:
        read_collections(tmp_path / "mine.toml")
    assert "mine.toml" in str(raised.value)


def test_the_tables_are_found_in_a_checkout_without_an_installed_package():
    program = (
        "from csplade_pyserini.reproduction.score_tables import read_expected; print(len(read_expected()))"
    )
    done = run_python("-S", "-c", program, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(read_expected())


def test_every_encoder_that_ships_has_scores_of_its_own():
    measured = {table.encoder for table in read_expected() if table.origin == "measured"}
    assert measured >= {"csplade-tiny", "csplade-bi-smol", "BM25"}
    assert measured <= {*shipped_cards(), "BM25"}


AVERAGES = {
    "csplade-1b": 48.8, "csplade-echo-1b": 49.5, "csplade-bi-1b": 49.4,
    "csplade-8b": 53.1, "csplade-echo-8b": 55.0, "csplade-bi-8b": 55.3,
}  # fmt: skip
"""arXiv 2504.10816, tables 2 and 4, last row."""


@pytest.mark.parametrize("encoder", AVERAGES)
def test_the_papers_cells_give_the_average_that_the_paper_prints(encoder):
    """So the cells were copied right."""
    [table] = [table for table in read_expected() if table.encoder == encoder and table.origin == "paper"]
    cells = [scores["nDCG@10"] for key, scores in table.scores.items() if key.startswith("beir/")]
    assert len(cells) == 13
    assert 100 * statistics.mean(cells) == pytest.approx(AVERAGES[encoder], abs=0.051)


def test_a_score_is_held_against_our_own_measurement_before_a_papers(tmp_path):
    (tmp_path / "a.toml").write_text(EXPECTED.replace('"measured"', '"paper"').replace("0.5", "0.6"))
    (tmp_path / "b.toml").write_text(EXPECTED)
    table = expected_scores(read_expected(tmp_path), "mine", "set/test")
    assert table.scores["set/test"] == {"nDCG@10": 0.5}
    assert differences(table, "set/test", {"nDCG@10": 0.51}) == []
    [sentence] = differences(table, "set/test", {"nDCG@10": 0.4898})
    assert sentence == "set/test nDCG@10 is 0.4898; expected 0.5000 within 0.0100 (measured: here)"
    assert differences(table, "set/test", {"nDCG@10": float("nan")})
    assert expected_scores(read_expected(tmp_path), "mine", "set/dev") is None


@pytest.mark.parametrize(
    ("old", "new"), [("0.5", "50.0"), ("0.5", '"0.5"'), ("measured", "guessed"), ("source", "sauce")]
)
def test_a_wrong_table_of_expected_scores_is_named(tmp_path, old, new):
    (tmp_path / "mine.toml").write_text(EXPECTED.replace(old, new))
    with pytest.raises(InputError, match=r"mine.toml \[\[expected\]\] 1"):
        read_expected(tmp_path)


QUERY = {"max_length": 255, "document_prefix": "query: "}


@pytest.mark.parametrize(
    ("encoder", "collection", "options"),
    [
        ("lion-sp-8b", "msmarco-v1-passage", {}),
        ("lion-sp-8b", "beir/scifact/test", {"max_length": 511}),
        ("lion-sp-1b", "beir/cqadupstack/unix", {"max_length": 511}),
        ("laconic-1b", "beir/scifact/test", {"max_length": 255}),
        ("laconic-3b", "beir/quora/test", QUERY),
        ("laconic-8b", "beir/cqadupstack/unix", QUERY),
        ("laconic-8b", "beir/quorate", {"max_length": 255}),
        ("laconic-8b", "beirut", {}),
        ("csplade-bi-8b", "beir/quora/test", {}),
    ],
)
def test_published_scores_come_with_the_lengths_and_prefixes_they_were_made_with(
    encoder, collection, options
):
    """Lion-SP reads BEIR at 512 tokens; LACONIC cuts at 255, and documents of two collections are queries."""
    assert encoding_options(read_expected(), encoder, collection) == options


@pytest.mark.parametrize(
    ("encoder", "collection", "run_as"),
    [
        ("laconic-1b", "beir/quora", "laconic-1b:max_length=255,document_prefix=query: "),
        ("utahnlp/laconic-1b", "beir/quora", "utahnlp/laconic-1b:max_length=255,document_prefix=query: "),
        ("lion-sp-8b:device=cpu", "beir/scifact", "lion-sp-8b:device=cpu,max_length=511"),
        ("lion-sp-8b:max_length=64", "beir/scifact", "lion-sp-8b:max_length=64"),
        ("lion-sp-8b", "msmarco-v1-passage", "lion-sp-8b"),
    ],
)
def test_reproduce_encodes_documents_and_queries_with_them(encoder, collection, run_as, tmp_path, capsys):
    words = ["--collection", collection, "--encoder", encoder, "--output", str(tmp_path), "--dry-run"]
    assert reproduce.main(words) == 0
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    used = [
        words[words.index("--encoder") + 1] for words in commands if "csplade_pyserini.encode" in words[2]
    ]
    assert set(used) == {run_as}
    assert {words[2] for words in commands} >= {"csplade_pyserini.encode", "csplade_pyserini.encode_queries"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ('"beir" = 511', "wanted a table of max_length"),
        ('"beir" = {length = 511}', "wanted a table of max_length"),
        ('"beir" = {max_length = "511"}', "max_length for 'beir' is '511'; wanted int"),
        ('"beir" = {document_prefix = "a, b"}', "wanted str, without a comma"),
    ],
)
def test_wrong_options_are_an_error(tmp_path, options, told):
    (tmp_path / "mine.toml").write_text(f"{EXPECTED}[expected.options]\n{options}\n")
    with pytest.raises(InputError, match=told):
        read_expected(tmp_path)
