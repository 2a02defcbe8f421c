"""The forward pass of a decoder, up to its last hidden states."""

from typing import Any

from torch import Tensor


def last_hidden_states(model: Any, ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Last hidden states (B, L, H) of token ids (B, L), before the LM head.

    model: a PreTrainedModel with an LM head. attention_mask (B, L): 1 at tokens, 0 at padding; None: all
    tokens.
    """
    output = model.base_model(input_ids=ids, attention_mask=attention_mask, use_cache=False)
    states: Tensor = output.last_hidden_state
    return states
