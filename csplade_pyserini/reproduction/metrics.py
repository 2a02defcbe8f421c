"""Metrics under the names that papers use."""

from dataclasses import dataclass


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
