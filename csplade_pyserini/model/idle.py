"""Attention that adds nothing is left out on a CPU, to save its time: two of csplade-tiny's four layers.

A decoder that was made of another model's weights may have more layers than that model. The attention of such
a layer has an output projection of zeros.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_PROJECTIONS = ("out_proj", "o_proj")
"""Names of the output projection, in an attention module that also has a `q_proj`."""


def leave_out_idle_attention(model: nn.Module) -> int:
    """Have attention modules with an output projection of zeros give zeros at once; return their number.

    They compute as before on other devices, in training, and once their projection is no longer zero.
    """
    count = 0
    for module in model.modules():
        projection = next(filter(None, (getattr(module, name, None) for name in _PROJECTIONS)), None)
        if isinstance(projection, nn.Linear) and hasattr(module, "q_proj") and _is_zero(projection):
            module.forward = functools.partial(_attend, module, projection, module.forward)
            count += 1
    return count


def _attend(
    module: nn.Module,
    projection: nn.Linear,
    forward: Callable[..., Any],
    hidden_states: Tensor,
    **options: Any,
) -> Any:
    """Forward pass of an attention module of transformers."""
    is_idle = not module.training and projection.weight.device.type == "cpu" and _is_zero(projection)
    if is_idle:
        return torch.zeros_like(hidden_states), None
    return forward(hidden_states=hidden_states, **options)


def _is_zero(projection: nn.Linear) -> bool:
    is_zero = type(projection.weight) is nn.Parameter and not projection.weight.any()
    return is_zero and (projection.bias is None or not projection.bias.any())
