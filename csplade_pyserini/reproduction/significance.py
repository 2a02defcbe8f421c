"""Paired comparisons of systems: per-topic wins and losses, and Student's t-test with Holm's correction.

Several comparisons are one family. Holm (1979) multiplies the smallest p-value by their number, the next by
one less, and so on. A larger p-value never falls below a smaller one.
"""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from csplade_pyserini.reproduction.records import Record

TEST = "paired t-test"
CORRECTION = "Holm"
LEVEL = 0.05
"""p-value below which a difference is called significant."""
LEAST_TOPICS = 2
"""Number of topics that a test needs."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One system against a baseline, by one metric on one set of topics."""

    system: str
    baseline: str
    key: str
    """Test collection with its topics."""
    metric: str
    difference: float
    """Mean over topics of the system's score minus the baseline's."""
    wins: int
    """Topics on which the system's score is higher."""
    losses: int
    ties: int
    p: float | None
    """p-value of the two-sided test; None with fewer than 2 topics."""
    corrected: float | None = None
    """p-value after Holm's correction over the family."""

    @property
    def is_significant(self) -> bool:
        """Whether the corrected p-value is below LEVEL."""
        return self.corrected is not None and self.corrected < LEVEL


def compare(records: Sequence[Record], baseline: Record) -> list[Comparison]:
    """Compare systems with a baseline by every metric that both have; all comparisons are one family."""
    found = []
    for record in records:
        if record.system == baseline.system:
            continue
        for key, metrics in record.topics.items():
            others = baseline.topics.get(key, {})
            for metric, values in metrics.items():
                if metric in others:
                    found.append(
                        _compare(record.system, baseline.system, key, metric, values, others[metric])
                    )
    return _corrected(found)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct the p-values of a family by Holm's method, in their order."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected = [0.0] * len(p_values)
    least = 0.0
    for rank, number in enumerate(order):
        least = max(least, min(1.0, p_values[number] * (len(p_values) - rank)))
        corrected[number] = least
    return corrected


def paired_scores(ours: Mapping[str, float], others: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Scores of two systems by qid. A topic without a score counts as 0."""
    return {qid: (ours.get(qid, 0.0), others.get(qid, 0.0)) for qid in {**ours, **others}}


def _compare(
    system: str,
    baseline: str,
    key: str,
    metric: str,
    ours: Mapping[str, float],
    others: Mapping[str, float],
) -> Comparison:
    pairs = list(paired_scores(ours, others).values())
    differences = [one - other for one, other in pairs]
    wins = sum(difference > 0 for difference in differences)
    losses = sum(difference < 0 for difference in differences)
    return Comparison(
        system=system,
        baseline=baseline,
        key=key,
        metric=metric,
        difference=sum(differences) / max(1, len(differences)),
        wins=wins,
        losses=losses,
        ties=len(differences) - wins - losses,
        p=_p_value(pairs),
    )


def _p_value(pairs: Sequence[tuple[float, float]]) -> float | None:
    if len(pairs) < LEAST_TOPICS:
        return None
    differences = {one - other for one, other in pairs}
    if differences == {0.0}:
        return 1.0
    if len(differences) == 1:  # no variance: the test's statistic is infinite
        return 0.0
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # differences that are all nearly one
        result: Any = stats.ttest_rel([one for one, _ in pairs], [other for _, other in pairs])
    return float(result.pvalue)


def _corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    tested = [comparison for comparison in comparisons if comparison.p is not None]
    corrected = holm([comparison.p for comparison in tested if comparison.p is not None])
    values = dict(zip(map(id, tested), corrected, strict=True))
    return [
        dataclasses.replace(comparison, corrected=values.get(id(comparison))) for comparison in comparisons
    ]
