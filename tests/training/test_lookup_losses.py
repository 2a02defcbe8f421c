"""The losses of a lookup's fit against slow twins and numerical slopes."""

import math

import numpy as np
import pytest
from scipy import optimize

from csplade_pyserini.training.lookup import _TEMPERATURE, kl_loss, squared_loss

SIZES = np.array([4, 1, 7, 3])
STARTS = np.array([0, 4, 5, 12])


def split(values: np.ndarray) -> list[list[float]]:
    return [list(map(float, part)) for part in np.split(values, STARTS[1:])]


def squared_twin(scores: np.ndarray, targets: np.ndarray) -> float:
    """Mean over the queries: squared error of centred scores, over the variance of the targets."""
    total = 0.0
    for found, wanted in zip(split(scores), split(targets), strict=True):
        errors = [score - target for score, target in zip(found, wanted, strict=True)]
        shift = sum(errors) / len(errors)
        mean = sum(wanted) / len(wanted)
        variance = sum((target - mean) ** 2 for target in wanted) / len(wanted)
        if variance > 0:
            total += sum((error - shift) ** 2 for error in errors) / len(errors) / variance
    return total / len(SIZES)


def kl_twin(scores: np.ndarray, targets: np.ndarray) -> float:
    """Mean over the queries: sum of p log(p / q), softmaxes at a temperature by the targets' deviation."""
    total = 0.0
    for found, wanted in zip(split(scores), split(targets), strict=True):
        mean = sum(wanted) / len(wanted)
        deviation = math.sqrt(sum((target - mean) ** 2 for target in wanted) / len(wanted))
        cold = max(_TEMPERATURE * deviation, 1e-6)
        p, q = ([math.exp((value - max(values)) / cold) for value in values] for values in (wanted, found))
        for one, other in zip(p, q, strict=True):
            total += one / sum(p) * math.log((one / sum(p)) / (other / sum(q)))
    return total / len(SIZES)


LOSSES = [(squared_loss, squared_twin), (kl_loss, kl_twin)]


@pytest.mark.parametrize(("loss", "twin"), LOSSES)
@pytest.mark.parametrize("seed", range(5))
def test_a_loss_and_its_slope_are_the_slow_twins(loss, twin, seed):
    drawn = np.random.default_rng(seed)
    targets = drawn.normal(50, 10, SIZES.sum())
    scores = targets + drawn.normal(0, 5, SIZES.sum())
    value, slope = loss(scores, targets, STARTS, SIZES)
    assert value == pytest.approx(twin(scores, targets), rel=1e-9)
    assert value > 0
    numerical = optimize.approx_fprime(scores, lambda changed: twin(changed, targets), 1e-6)
    np.testing.assert_allclose(slope, numerical, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("loss", "twin"), LOSSES)
def test_a_constant_of_a_query_changes_no_loss(loss, twin):
    drawn = np.random.default_rng(1)
    targets = drawn.normal(50, 10, SIZES.sum())
    moved = targets + np.repeat([3.0, -8.0, 0.5, 100.0], SIZES)
    value, slope = loss(moved, targets, STARTS, SIZES)
    assert value == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(slope, 0, atol=1e-9)
    assert twin(moved, targets) == pytest.approx(0, abs=1e-9)


def test_a_query_that_tells_no_documents_apart_counts_nothing_in_the_squared_loss():
    targets = np.full(SIZES.sum(), 4.0)
    value, slope = squared_loss(targets + np.arange(SIZES.sum()), targets, STARTS, SIZES)
    assert value == 0
    assert not slope.any()
