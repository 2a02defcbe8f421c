"""Watch for the dying ReLU: how many terms are active, how many vectors empty, how much of the vocabulary dead.

CSPLADE's first finding (arXiv 2504.10816, 3.1) is that a backbone's vectors can all turn to zero within a
few steps of contrastive training, for good: where nothing is active, nothing has a gradient.
"""

import torch
from torch import Tensor

from csplade_pyserini.errors import CheckError

COLLAPSED_SHARE = 0.5
"""Share of empty vectors at which a run counts as collapsed; a healthy one has none."""
CURES = (
    "an adaptation phase first (train adapt), a logit scale (logit_scale in [card]; Lion's is hidden_size ** -0.25), "
    "a window in the first steps (window_steps), a lower learning rate or regularisers"
)


class Activity:
    """Sums over the forward passes since the last log line, on the device where they are made."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._passes = 0
        self._alive: Tensor | None = None

    @torch.no_grad()
    def add(self, queries: Tensor, documents: Tensor, losses: dict[str, Tensor]) -> None:
        """One forward pass: weights (Q, V) and (P, V), and its losses by name."""
        values = {name: loss.detach().float() for name, loss in losses.items()}
        for side, weights in (("query", queries), ("document", documents)):
            active = (weights > 0).sum(dim=1).float()
            values[f"{side}_terms"] = active.mean()
            values[f"empty_{'queries' if side == 'query' else 'documents'}"] = (active == 0).float().mean()
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
        alive = (documents > 0).any(dim=0) | (queries > 0).any(dim=0)
        self._alive = alive if self._alive is None else self._alive | alive
        self._passes += 1

    def take(self) -> dict[str, float]:
        """Means since the last call, and `dead_vocabulary`: the share of terms active in no text of these passes."""
        if not self._passes or self._alive is None:
            return {}
        means = {name: round(float(value) / self._passes, 6) for name, value in self._sums.items()}
        means["dead_vocabulary"] = round(1 - float(self._alive.float().mean()), 6)
        self.__init__()  # type: ignore[misc]
        return means


def check_alive(step: int, means: dict[str, float]) -> None:
    """Raise CheckError, naming the cures, where most vectors are empty."""
    for name in ("empty_queries", "empty_documents"):
        if means.get(name, 0) > COLLAPSED_SHARE:
            raise CheckError(
                f"collapsed at step {step}: {name.replace('_', ' ')} {means[name]:.0%} (at most {COLLAPSED_SHARE:.0%} wanted), "
                f"{means['query_terms']:.1f} terms a query and {means['document_terms']:.1f} a document are active. "
                f"What helps: {CURES}. stop_when_collapsed = false goes on all the same"
            )
