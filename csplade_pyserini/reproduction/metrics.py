"""Metrics under the names that papers use: those of ir_measures, and a few that trec_eval alone can give."""

import importlib.metadata
import importlib.util
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from csplade_pyserini.errors import InputError


@dataclass(frozen=True)
class Metric:
    """One metric, as trec_eval takes and prints it."""

    asked: str
    """Name that trec_eval's -m takes."""
    printed: str
    """Name that trec_eval prints."""
    options: tuple[str, ...] = ()
    binary: bool = True
    """Whether it ignores grades. Then the least grade that counts as relevant matters."""


METRICS = {
    "nDCG@10": Metric("ndcg_cut.10", "ndcg_cut_10", binary=False),
    "RR@10": Metric("recip_rank", "recip_rank", ("-M", "10")),
    "AP": Metric("map", "map"),
    "R@100": Metric("recall.100", "recall_100"),
    "R@1000": Metric("recall.1000", "recall_1000"),
}
"""Metrics that need no ir_measures: Pyserini's trec_eval has them."""


def has_ir_measures() -> bool:
    """Whether ir_measures is installed."""
    return importlib.util.find_spec("ir_measures") is not None


def ir_measures_version() -> str:
    """Version of ir_measures."""
    return importlib.metadata.version("ir_measures")


def check_metrics(names: Iterable[str], origin: str) -> None:
    """Raise InputError that names `origin` on a metric that cannot be computed here, or that stands twice."""
    names = list(names)
    if not names:
        raise InputError(f"{origin}: no metric; wanted one or more, such as nDCG@10")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{origin}: the metric {name!r} stands twice")
        if name not in METRICS:
            _check_measure(name, origin)


def to_measure(name: str, relevance_level: int = 1) -> Any:
    """Make ir_measures' object of a metric.

    relevance_level: least grade that counts as relevant, for binary metrics that do not say theirs (`rel`).
    Raises ValueError on an unknown name.
    """
    import ir_measures

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its parser uses old names of `ast`
        try:
            measure = ir_measures.parse_measure(name)
            measure.validate_params()
        except (NameError, AssertionError, SyntaxError, AttributeError, TypeError) as error:
            raise ValueError(str(error)) from error
    takes_level = "rel" in measure.SUPPORTED_PARAMS and "rel" not in measure.params
    if takes_level and relevance_level != 1:
        measure = measure(rel=relevance_level)
    return measure


def _check_measure(name: str, origin: str) -> None:
    known = ", ".join(METRICS)
    if not has_ir_measures():
        raise InputError(
            f"{origin}: unknown metric {name!r}; known: {known}; for all others of ir_measures "
            f"run: pip install 'csplade_pyserini[measures]'"
        )
    import ir_measures

    try:
        is_supported = ir_measures.DefaultPipeline.supports(to_measure(name))
    except ValueError as error:
        raise InputError(
            f"{origin}: unknown metric {name!r} ({error}); known: {known}, and all others of ir_measures"
        ) from error
    if not is_supported:
        raise InputError(f"{origin}: no package that is installed computes {name!r} for ir_measures")
