"""Causal or bidirectional attention of a decoder-only model, with what transformers 5 already offers.

transformers builds every decoder's mask in `create_causal_mask` and in its sliding-window twin. Both return
the bidirectional mask if `config.is_causal` is False. Without padding there may be no mask. Then SDPA and
flash attention read `is_causal` of the attention module instead. Setting both removes the causal mask
without a copy of any model class (CSPLADE-Bi, arXiv 2504.10816, 3.2).
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from csplade_pyserini.errors import InputError
from csplade_pyserini.model.states import last_hidden_states

_DISOBEDIENCE = {"causal": "sees", "bidirectional": "does not see"}
"""Verb of the error, by the attention that was asked for."""


def set_attention(model: PreTrainedModel, attention: str) -> None:
    """Set a model's attention to `causal` or `bidirectional`, and test it.

    Raises InputError if the architecture does not obey, because it builds its mask in its own way.
    """
    is_causal = attention == "causal"
    for module in model.modules():
        if hasattr(module, "is_causal"):
            module.is_causal = is_causal
        if isinstance(getattr(module, "config", None), type(model.config)):
            module.config.is_causal = is_causal
    if set(first_sees_last(model)) != {not is_causal}:
        raise InputError(
            f"attention is {attention!r} in the card, but in {type(model).__name__} the first position "
            f"{_DISOBEDIENCE[attention]} the last token: use another backbone or attention"
        )


@torch.inference_mode()
def first_sees_last(model: PreTrainedModel) -> tuple[bool, bool]:
    """Whether the first hidden state depends on the last token: (unpadded, padded).

    Each has its own test, because SDPA gets a flag without padding and a mask with padding.
    """
    low = 1
    high = min(model.config.vocab_size - 1, 3)
    ids = torch.tensor([[low, low, low], [low, low, high]], device=model.device)
    mask = torch.ones_like(ids)
    padded_ids = torch.nn.functional.pad(ids, (0, 1))
    padded_mask = torch.nn.functional.pad(mask, (0, 1))
    return _first_states_differ(model, ids, mask), _first_states_differ(model, padded_ids, padded_mask)


def _first_states_differ(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> bool:
    """Whether the first hidden states of two texts, ids (2, L), differ."""
    first, second = last_hidden_states(model, ids, mask)[:, 0].float()
    return not torch.allclose(first, second, rtol=0, atol=1e-6)
