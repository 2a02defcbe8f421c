"""First occurrences among equal values."""

import torch
from torch import Tensor


def first_of_equals(values: Tensor) -> Tensor:
    """(N, K) True where a row of integers (N, K) has a value for the first time."""
    ordered, order = values.sort(dim=1, stable=True)
    is_new = torch.ones_like(ordered, dtype=torch.bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return torch.empty_like(is_new).scatter_(1, order, is_new)
