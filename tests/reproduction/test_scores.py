"""Scores against the definitions, worked out by hand."""

import json
import math

import pytest

from csplade_pyserini.errors import CheckError
from csplade_pyserini.reproduction.catalogue import TopicSet
from csplade_pyserini.reproduction.scores import ALL, evaluate

pytestmark = pytest.mark.jvm
QRELS = """\
q1 0 d1 2
q1 0 d2 1
q2 0 d3 1
q3 0 d4 2
"""
RUN = """\
q1 Q0 d2 1 9.0 run
q1 Q0 d9 2 8.0 run
q1 Q0 d1 3 7.0 run
q3 Q0 d8 1 5.0 run
q3 Q0 d4 2 4.0 run
"""
"""q2 has no hit."""


def topics(*metrics: str, level: int = 1) -> TopicSet:
    return TopicSet(topics="topics.tsv", metrics=metrics, relevance_level=level)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "qrels.txt").write_text(QRELS)
    (tmp_path / "run.txt").write_text(RUN)
    return tmp_path / "qrels.txt", tmp_path / "run.txt"


def test_every_metric_is_as_defined_and_a_topic_without_hits_counts_as_0(files):
    found = evaluate(*files, topics("nDCG@10", "RR@10", "AP", "R@100"))
    ideal = 2 + 1 / math.log2(3)  # trec_eval's gain is the grade itself
    by_hand = {
        "nDCG@10": {"q1": (1 + 2 / math.log2(4)) / ideal, "q3": 1 / math.log2(3)},
        "RR@10": {"q1": 1.0, "q3": 0.5},
        "AP": {"q1": (1 + 2 / 3) / 2, "q3": 0.5},
        "R@100": {"q1": 1.0, "q3": 1.0},
    }
    for metric, values in by_hand.items():
        assert {qid: value for qid, value in found[metric].items() if qid in values} == pytest.approx(
            values, abs=1e-4
        )
        assert found[metric].get("q2", 0.0) == 0.0
        assert found[metric][ALL] == pytest.approx(sum(values.values()) / 3, abs=1e-4)


def test_scores_are_kept_as_long_as_run_and_qrels_are_the_same(files, monkeypatch):
    qrels, run = files
    first = evaluate(qrels, run, topics("AP"))

    def refuse(*_, **__):
        raise AssertionError("evaluated again")

    with monkeypatch.context() as patch:
        patch.setattr("csplade_pyserini.reproduction.scores.subprocess.run", refuse)
        assert evaluate(qrels, run, topics("AP")) == first
        for changed, others in ((qrels, ("AP",)), (run, ("AP",)), (None, ("AP", "R@100"))):
            before = changed.read_text() if changed else ""
            if changed:
                changed.write_text(before.splitlines(keepends=True)[0])
            with pytest.raises(AssertionError, match="evaluated again"):
                evaluate(qrels, run, topics(*others))
            if changed:
                changed.write_text(before)
    assert evaluate(qrels, run, topics("AP")) == first


BROKEN_SCORES = [
    [],
    3,
    "AP",
    None,
    {},
    {"AP": 3},
    {"AP": {}},
    {"AP": {"q1": 1.0}},
    {"AP": {"all": "x"}},
    {"RR": {"all": 1}},
]


def test_broken_scores_beside_a_run_are_made_again(files, monkeypatch):
    qrels, run = files
    first = evaluate(qrels, run, topics("AP"))
    beside = run.with_name(f".{run.name}.scores.json")
    whole = beside.read_bytes()
    table = json.loads(whole)
    made_again = [dict(first)]
    broken = [b"", b"{", b"[]", b"null", b"{}", b"\xff", b'{"made_of": {}}']
    broken += [json.dumps(table | {"scores": scores}).encode() for scores in BROKEN_SCORES]
    monkeypatch.setattr("csplade_pyserini.reproduction.scores._evaluate", lambda *_: made_again[-1])
    for kept in broken:
        beside.write_bytes(kept)
        made_again.append({"AP": {"q1": float(len(made_again)), ALL: 0.5}})
        assert evaluate(qrels, run, topics("AP")) == made_again[-1], kept
    beside.write_bytes(whole)
    assert evaluate(qrels, run, topics("AP")) == first


def test_scores_that_cannot_be_kept_are_given_all_the_same(files):
    qrels, run = files
    run.with_name(
        f".{run.name}.scores.json"
    ).mkdir()  # as unwritable as a read-only folder, for the superuser too
    assert evaluate(qrels, run, topics("AP"))["AP"][ALL] > 0


def test_grades_below_the_level_are_relevant_to_ndcg_alone(files):
    found = evaluate(*files, topics("nDCG@10", "AP", "R@100", level=2))
    assert found["AP"]["q1"] == pytest.approx(1 / 3, abs=1e-4)
    assert found["R@100"]["q1"] == 1.0
    assert found["nDCG@10"] == evaluate(*files, topics("nDCG@10"))["nDCG@10"]


def test_an_evaluation_that_fails_is_no_score_of_0(files, tmp_path):
    with pytest.raises(CheckError, match=r"gave no AP.*missing\.txt"):
        evaluate(files[0], tmp_path / "missing.txt", topics("AP"))
    (tmp_path / "broken.txt").write_text("no run at all\n")
    with pytest.raises(CheckError, match="gave no nDCG@10"):
        evaluate(files[0], tmp_path / "broken.txt", topics("nDCG@10"))


def test_a_run_without_hits_has_0_everywhere_and_says_so(files, tmp_path, capsys):
    (tmp_path / "none.txt").write_text("")
    assert evaluate(files[0], tmp_path / "none.txt", topics("nDCG@10", "AP")) == {
        "nDCG@10": {ALL: 0.0},
        "AP": {ALL: 0.0},
    }
    assert (
        capsys.readouterr().err == f"{tmp_path / 'none.txt'} has no hit of any topic: all its scores are 0\n"
    )
