"""Significance against definitions: Holm's by hand, the t-test's by its formula."""

import math
import random
import statistics

import pytest
from scipy import stats

from csplade_pyserini.reproduction.records import Record
from csplade_pyserini.reproduction.significance import compare, holm


def record(system: str, *values: float, metric: str = "AP", key: str = "set") -> Record:
    topics = {f"q{number}": value for number, value in enumerate(values)}
    return Record(
        system=system,
        collection="set",
        scores={key: {metric: sum(values) / max(1, len(values))}},
        topics={key: {metric: topics}},
        index_bytes=1,
    )


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
    ],
)
def test_holm_multiplies_by_what_is_left_and_never_falls(p_values, corrected):
    assert holm(p_values) == pytest.approx(corrected)


def test_holm_rejects_as_the_step_down_procedure_does():
    chance = random.Random(0)
    for _ in range(200):
        p_values = [chance.random() ** 4 for _ in range(chance.randint(1, 8))]
        rejected = set()
        for rank, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if p_values[number] >= 0.05 / (len(p_values) - rank):
                break
            rejected.add(number)
        assert {number for number, p in enumerate(holm(p_values)) if p < 0.05} == rejected


def test_a_comparison_counts_topics_and_tests_their_differences():
    ours, others = (0.5, 0.75, 0.25, 0.5, 1.0), (0.25, 0.5, 0.5, 0.5, 0.0)
    [found] = compare([record("mine", *ours)], record("BM25", *others))
    assert (found.system, found.baseline, found.metric) == ("mine", "BM25", "AP")
    assert (found.wins, found.losses, found.ties) == (3, 1, 1)
    differences = [one - other for one, other in zip(ours, others, strict=True)]
    assert found.difference == pytest.approx(statistics.mean(differences))
    t = statistics.mean(differences) / (statistics.stdev(differences) / math.sqrt(5))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), 4))
    assert found.corrected == found.p
    assert not found.is_significant


def test_all_comparisons_are_one_family_and_the_baseline_is_in_none():
    chance = random.Random(1)
    values = [[chance.random() for _ in range(30)] for _ in range(4)]
    records = [record(f"s{number}", *row) for number, row in enumerate(values)]
    found = compare(records, records[0])
    assert [one.system for one in found] == ["s1", "s2", "s3"]
    assert [one.corrected for one in found] == pytest.approx(holm([one.p for one in found]))


def test_a_topic_without_a_score_counts_as_0():
    [found] = compare([record("mine", 0.5, 0.5, 0.25)], record("BM25", 0.5))
    assert (found.wins, found.losses, found.ties) == (2, 0, 1)


@pytest.mark.parametrize(
    ("ours", "others", "p"),
    [
        ((0.5,), (0.25,), None),
        ((), (), None),
        ((0.5, 0.5), (0.5, 0.5), 1.0),
        ((0.5, 0.75), (0.25, 0.5), 0.0),
    ],
)
def test_where_no_test_is_possible_its_limit_is_given(ours, others, p):
    [found] = compare([record("mine", *ours)], record("BM25", *others))
    assert found.p == p


def test_metrics_and_topics_that_the_baseline_lacks_are_left_out():
    assert compare([record("mine", 0.5, metric="RR@10")], record("BM25", 0.5)) == []
    assert compare([record("mine", 0.5, key="other")], record("BM25", 0.5)) == []
