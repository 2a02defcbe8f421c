"""Scores against the definitions, worked out by hand."""

import json
import math
import random
from pathlib import Path

import pytest

from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.reproduction import metrics, scores
from csplade_pyserini.reproduction.catalogue import TopicSet
from csplade_pyserini.reproduction.metrics import METRICS, check_metrics
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


@pytest.fixture(params=["ir_measures", "trec_eval"], autouse=True)
def engine(request, monkeypatch) -> str:
    """Name of the program that computes the scores: ir_measures, or Pyserini's trec_eval without it."""
    if request.param == "ir_measures":
        pytest.importorskip("ir_measures")
    monkeypatch.setattr(scores, "has_ir_measures", lambda: request.param == "ir_measures")
    return request.param


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
        patch.setattr(scores, "_by_ir_measures", refuse)
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


def write_random_run(folder: Path) -> tuple[Path, Path]:
    """Qrels and a run of many topics: ties, hits that nobody judged, topics without hits."""
    chance = random.Random(0)
    judged, ranked = [], []
    for topic in range(60):
        docids = [f"d{number}" for number in range(1200)]
        judged += [f"q{topic} 0 {docid} {chance.randint(0, 3)}\n" for docid in chance.sample(docids, 40)]
        if topic % 10 == 0:
            continue
        for rank, docid in enumerate(chance.sample(docids, chance.randint(1, 1100)), start=1):
            score = 90_000 - chance.choice((rank, rank // 5)) + chance.choice((0.0, 0.000001))
            ranked.append(f"q{topic} Q0 {docid} {rank} {score:.6f} run\n")
    (folder / "qrels.txt").write_text("".join(judged))
    (folder / "run.txt").write_text("".join(ranked))
    return folder / "qrels.txt", folder / "run.txt"


@pytest.mark.parametrize("level", [1, 2])
def test_ir_measures_and_pyserinis_trec_eval_give_the_same_values(engine, level, tmp_path, monkeypatch):
    if engine == "trec_eval":
        pytest.skip("compared once")
    files = write_random_run(tmp_path)
    found = evaluate(*files, topics(*METRICS, level=level))
    monkeypatch.setattr(scores, "has_ir_measures", lambda: False)
    reference = evaluate(*files, topics(*METRICS, level=level))
    assert found.keys() == reference.keys() == METRICS.keys()
    for metric, values in reference.items():
        assert len(values) == 55
        for qid, value in values.items():
            assert found[metric][qid] == pytest.approx(value, abs=0.00006), (metric, qid)


def test_any_metric_of_ir_measures_is_computed(engine, files):
    if engine == "trec_eval":
        pytest.skip("trec_eval has a few metrics only")
    found = evaluate(*files, topics("Judged@10", "P(rel=2)@1", "P@1", "MRR@10", "RR@10"))
    assert found["Judged@10"] == pytest.approx({"q1": 2 / 3, "q2": 0.0, "q3": 0.5, ALL: 7 / 18})
    assert found["P(rel=2)@1"][ALL] == 0.0
    assert found["P@1"][ALL] == pytest.approx(1 / 3)
    assert found["MRR@10"] == found["RR@10"]


def test_metrics_that_trec_eval_lacks_need_ir_measures_and_our_own_qrels(engine, files, monkeypatch):
    if engine == "ir_measures":
        with pytest.raises(InputError, match="trec_eval does not compute Judged@10: leave --pyserini-names"):
            evaluate("dl19-passage", files[1], topics("Judged@10"))
        return
    monkeypatch.setattr(metrics, "has_ir_measures", lambda: False)
    check_metrics(METRICS, "mine.toml")
    with pytest.raises(InputError, match=r"unknown metric 'Judged@10'.*pip install 'csplade_pyserini\[measu"):
        check_metrics(["AP", "Judged@10"], "mine.toml")


@pytest.mark.parametrize(
    "name", ["nDCG_10", "foo@10", "nDCG@", "nDCG@x", "nDCG(foo=2)@3", "1+1", "", "__import__('os')", "a b"]
)
def test_an_unknown_metric_is_refused_with_the_known_ones(name):
    with pytest.raises(InputError, match=r"^--measures: unknown metric .*; known: nDCG@10, RR@10"):
        check_metrics([name], "--measures")


def test_no_metric_and_one_that_stands_twice_are_refused():
    with pytest.raises(InputError, match="no metric; wanted one or more"):
        check_metrics([], "mine.toml")
    with pytest.raises(InputError, match="the metric 'AP' stands twice"):
        check_metrics(["AP", "RR@10", "AP"], "mine.toml")
