"""Pyserini in one process of Python: by its commands however launched, and by its classes."""

import json
from pathlib import Path
from typing import Any

import pytest
from programs import SAMPLE, run_python

from csplade_pyserini.lucene.stock import bm25_index_command

pytestmark = pytest.mark.jvm
BM25_ERROR = "is an impact index by csplade-tiny@"
TOPICS = 4
PROGRAM = Path(__file__).with_name("in_pyserini.py")


@pytest.fixture(scope="module")
def found(sample_index, tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("in-pyserini")
    (folder / "corpus").mkdir()
    (folder / "corpus" / "corpus.jsonl").symlink_to(SAMPLE / "corpus.jsonl")
    built = run_python(
        *bm25_index_command(folder / "corpus", folder / "texts", threads=1, store_raw=True)[1:]
    )
    assert built.returncode == 0, built.stderr
    lines = (SAMPLE / "topics.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "topics.tsv").write_text("".join(lines[:TOPICS]), encoding="utf-8")
    done = run_python(PROGRAM, sample_index, folder / "texts", folder / "topics.tsv", folder)
    assert done.returncode == 0, done.stderr[-3000:]
    findings: dict[str, Any] = json.loads((folder / "findings.json").read_text())
    return findings


def errors(finding: dict[str, Any]) -> list[str]:
    """The last two lines of a program that stopped before it wrote anything."""
    assert "run" not in finding
    assert "Traceback" not in finding["errors"]
    return finding["errors"].splitlines()[-2:]


def has_impact_scores(finding: dict[str, Any]) -> bool:
    scores = [float(line.split()[4]) for line in finding["run"].splitlines()]
    return len(scores) == 3 * TOPICS and min(scores) > 1_000  # BM25's are below 30


def test_bm25_on_an_index_of_ours_stops_with_one_sentence_however_it_is_launched(found):
    assert len(found["launchers"]) == 4
    for launcher, findings in found["launchers"].items():
        sentence = [line for line in findings["bm25"]["errors"].splitlines() if line.startswith("error: ")]
        assert "run" not in findings["bm25"], launcher
        assert len(sentence) == 1, launcher
        assert BM25_ERROR in sentence[0], launcher


def test_an_index_of_ours_is_searched_with_its_own_encoder_however_it_is_launched(found):
    for launcher, findings in found["launchers"].items():
        assert findings["none"]["run"] == findings["ours"]["run"], launcher
        assert (
            "index knows its encoder: --impact --encoder csplade-tiny is implied"
            in findings["none"]["errors"]
        )


def test_an_index_that_was_copied_without_its_manifest_still_knows_its_encoder(found):
    lines = found["command_lines"]
    assert lines["copy"]["run"] == found["launchers"]["runpy"]["ours"]["run"]
    assert BM25_ERROR in errors(lines["copy by bm25"])[0]
    assert "the queries by naver/splade-v3" in errors(lines["copy by another"])[0]


@pytest.mark.parametrize("option", ["--qld", "--bm25qs", "--k1=1.2", "--b=0.4"])
def test_options_of_searches_by_words_are_refused_on_an_index_of_ours(found, option):
    assert BM25_ERROR in errors(found["command_lines"][option])[0]


def test_impact_alone_means_the_indexs_encoder_for_texts_and_none_for_terms(found):
    """Topics that `pyserini.encode.query` wrote repeat each term as often as its impact says."""
    lines = found["command_lines"]
    assert lines["impact"]["run"] == found["launchers"]["runpy"]["ours"]["run"]
    assert "is implied" not in lines["terms"]["errors"]
    scores = [float(line.split()[4]) for line in lines["terms"]["run"].splitlines()]
    assert len(scores) == 3
    assert min(scores) > 100


def test_an_index_of_another_program_is_searched_as_without_us(found):
    assert "csplade_pyserini" not in found["command_lines"]["texts"]["errors"]
    assert found["command_lines"]["texts"]["run"] == found["command_lines"]["another index"]["run"]
    assert found["encoders"]["none"].startswith("TypeError: ")
    assert "query_encoder" in found["encoders"]["none"]


def test_a_searcher_without_an_encoder_takes_the_indexs_own(found):
    assert found["encoders"]["index's own"] == found["encoders"]["ours"]
    assert found["encoders"]["terms"] == "TokFreqQueryEncoder"


def test_an_encoder_of_ours_implies_impact_however_it_is_launched(found):
    for launcher, findings in found["launchers"].items():
        assert has_impact_scores(findings["ours"]), launcher
        assert "csplade_pyserini: --encoder csplade-tiny implies --impact" in findings["ours"]["errors"]


@pytest.mark.parametrize("name", ["beside a file", "twice"])
def test_the_card_is_meant_beside_a_file_of_its_name_and_the_last_of_several_options(found, name):
    assert has_impact_scores(found["command_lines"][name])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("mistyped", "error: unknown encoder 'csplade-tinny'; did you mean csplade-tiny?"),
        ("mistyped impact", "error: unknown encoder 'csplade-tinny:device=cpu'; did you mean csplade-tiny?"),
        ("onnx", "error: csplade-tiny has no ONNX model: name it by --encoder, not by --onnx-encoder"),
        (
            "dense",
            "error: csplade-tiny is a sparse encoder, it makes no dense vectors: "
            "run pyserini.search.lucene --impact --encoder csplade-tiny",
        ),
        (
            "to faiss",
            "error: --to-faiss writes dense vectors, csplade-tiny makes sparse ones: leave it out, "
            "and build the index by pyserini.index.lucene --impact --pretokenized",
        ),
    ],
)
def test_a_command_that_cannot_do_what_is_meant_says_so_and_stops(found, name, sentence):
    assert errors(found["command_lines"][name]) == [sentence, "exit 2"]
    assert not found["command_lines"]["litter"]


def test_an_encoder_that_cannot_be_looked_up_runs_no_bm25_on_an_index_of_ours(found):
    sentence, code = errors(found["command_lines"]["foreign"])
    assert BM25_ERROR in sentence
    assert "someone/offline is not known as an encoder of ours" in sentence
    assert code == "exit 2"


def test_bm25_goes_on_where_the_index_is_not_ours_or_it_is_meant(found):
    for name in ("another index", "meant"):
        assert found["command_lines"][name]["run"], name


def test_impacts_of_queries_are_quantized_once_however_the_options_are_spelt(found):
    """Abbreviated, and given twice."""
    one, other = (found["command_lines"][name] for name in ("abbreviated", "given twice"))
    assert one["run"] == other["run"]
    assert len(one["run"].split()) > 1_000
    assert "--weight-range 5 is replaced by 1" in one["errors"]
    assert "--quant-range 256 is replaced by 1" in one["errors"]
    assert "--weight-range 5 is replaced by 1" in other["errors"]


def test_a_collection_and_an_index_know_their_encoder_however_the_programs_were_launched(found):
    assert found["command_lines"]["encoder of vectors"].startswith("csplade-tiny@")
    assert found["command_lines"]["encoder of built"] == found["command_lines"]["encoder of vectors"]


def test_bm25_searchers_open_an_index_of_ours_for_its_documents_alone(found):
    findings = found["bm25_in_python"]
    for way in ("search", "fields", "search_raw", "batch_search", "Java", "fusion", "a link", "a slash"):
        assert findings[way].startswith("InputError: "), way
        assert BM25_ERROR in findings[way], way
    assert findings["docid"] == json.loads((SAMPLE / "corpus.jsonl").read_text().splitlines()[0])["id"]
    assert findings["other index"] > 0
    assert findings["meant"].startswith("no error")


def test_classes_that_users_derive_keep_what_they_define(found):
    findings = found["encoders"]
    assert findings["init"] == "csplade-tiny"
    assert findings["mixin"] is True
    assert findings["dict"] == 0
    assert findings["junk"].startswith("TypeError: ")


def test_an_encoder_of_pyserinis_class_with_our_name_is_of_that_class_and_encodes_as_ours(found):
    assert found["encoders"]["isinstance"] is True
    assert found["encoders"]["encode"] is True
    assert found["encoders"]["auto"] == found["encoders"]["ours"]


def test_a_mistyped_name_is_refused_in_python_too(found):
    for place in ("mistyped", "mistyped searcher"):
        assert (
            found["encoders"][place]
            == "InputError: unknown encoder 'csplade-tinny'; did you mean csplade-tiny?"
        )


def test_only_the_type_makes_an_encoder_ours(found):
    findings = found["encoders"]
    assert findings["min_idf"] == [-1, 0, 0]
    for encoder in ("lookalike", "mocked"):
        assert all(scores for scores in findings[encoder])


def test_an_encode_of_the_users_own_is_asked_one_by_one_and_in_batches(found):
    findings = found["encoders"]
    assert findings["calls"] == 2
    ours, first, second = findings["doubled"]
    assert ours == first == second == [2 * score for score in findings["ours"][0]]
    ours, first, second = findings["halved"]
    assert ours == first == second
    assert ours[0] == pytest.approx(findings["ours"][0][0] / 2, rel=0.1)


def test_modules_that_are_loaded_again_keep_their_patches(found):
    findings = found["reloaded"]
    assert findings["impact"] == "SparseEncoder"
    assert BM25_ERROR in findings["bm25"]
    assert findings["encoder"] > 5
