"""Watch for the dying ReLU: active terms, empty vectors, and dead vocabulary.

All vectors of a backbone can turn to zero within a few steps of contrastive training, for good: without an
active term there is no gradient. That is CSPLADE's first finding (arXiv 2504.10816, 3.1).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from csplade_pyserini.cards import Side
from csplade_pyserini.errors import CheckError

COLLAPSED_SHARE = 0.5
"""Share of empty vectors above which a run has collapsed; a healthy run has none."""
CURES = (
    "an adaptation phase first (train adapt), "
    "a logit scale (logit_scale in [card]; Lion's is hidden_size ** -0.25), "
    "a window in the first steps (window_steps), a lower learning rate or regularisers"
)


class LogNames(NamedTuple):
    """Names of one side's values in a log line."""

    terms: str
    """Mean number of active terms."""
    empty: str
    """Share of empty vectors."""


LOG_NAMES: dict[Side, LogNames] = {
    "query": LogNames("query_terms", "empty_queries"),
    "document": LogNames("document_terms", "empty_documents"),
}


class Activity:
    """Sums over the forward passes since the last log line, on their device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._passes = 0
        self._alive: Tensor | None = None

    @torch.no_grad()
    def add(self, queries: Tensor, documents: Tensor, losses: dict[str, Tensor]) -> None:
        """Add one forward pass: weights (Q, V) and (P, V), and its losses by name."""
        values = {name: loss.detach().float() for name, loss in losses.items()}
        weights: dict[Side, Tensor] = {"query": queries, "document": documents}
        for side, names in LOG_NAMES.items():
            active = (weights[side] > 0).sum(dim=1).float()
            values[names.terms] = active.mean()
            values[names.empty] = (active == 0).float().mean()
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
        alive = (documents > 0).any(dim=0) | (queries > 0).any(dim=0)
        if self._alive is not None:
            alive |= self._alive
        self._alive = alive
        self._passes += 1

    def take(self) -> dict[str, float]:
        """Means since the last call, and `dead_vocabulary`.

        The latter is the share of terms that no text of these passes has.
        """
        if not self._passes or self._alive is None:
            return {}
        means = {name: round(float(value) / self._passes, 6) for name, value in self._sums.items()}
        means["dead_vocabulary"] = round(1 - float(self._alive.float().mean()), 6)
        self.__init__()  # type: ignore[misc]
        return means


def check_alive(step: int, means: dict[str, float]) -> None:
    """Raise CheckError, with the cures, if most vectors are empty."""
    for _, empty in LOG_NAMES.values():
        if not means.get(empty, 0) > COLLAPSED_SHARE:
            continue
        query_terms = means[LOG_NAMES["query"].terms]
        document_terms = means[LOG_NAMES["document"].terms]
        raise CheckError(
            f"collapsed at step {step}: {empty.replace('_', ' ')} {means[empty]:.0%} "
            f"(at most {COLLAPSED_SHARE:.0%} wanted), "
            f"{query_terms:.1f} terms a query and {document_terms:.1f} a document are active. "
            f"What helps: {CURES}. stop_when_collapsed = false goes on all the same"
        )
