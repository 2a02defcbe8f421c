"""Causal or bidirectional attention of a decoder-only model, by what transformers 5 already offers.

transformers builds every decoder's mask in `create_causal_mask` and its sliding-window sister; both
return the bidirectional mask when `config.is_causal` is False. Where the mask is left out because
nothing is padded, SDPA and flash attention read `is_causal` of the attention module instead. Setting
both removes the causal mask without a copy of any model class (CSPLADE-Bi, arXiv 2504.10816, 3.2).
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from csplade_pyserini.errors import InputError


def set_attention(model: PreTrainedModel, attention: str) -> None:
    """Make `model` attend as `attention` (`causal` or `bidirectional`) says, and prove that it does.

    Raises InputError where the architecture does not obey (it builds its mask in its own way).
    """
    causal = attention == "causal"
    for module in model.modules():
        if hasattr(module, "is_causal"):
            module.is_causal = causal
        if isinstance(getattr(module, "config", None), type(model.config)):
            module.config.is_causal = causal
    if set(first_sees_last(model)) != {not causal}:
        raise InputError(
            f"attention is {attention!r} in the card, but in {type(model).__name__} the first position "
            f"{'sees' if causal else 'does not see'} the last token: use another backbone or attention"
        )


@torch.inference_mode()
def first_sees_last(model: PreTrainedModel) -> tuple[bool, bool]:
    """Whether the first position's hidden state depends on the last token: (unpadded, padded).

    The two are asked apart because SDPA gets a mask for the one and a flag for the other.
    """
    low, high = 1, min(model.config.vocab_size - 1, 3)
    ids = torch.tensor([[low, low, low], [low, low, high]], device=model.device)
    unpadded = _first_state(model, ids, torch.ones_like(ids))
    padded = _first_state(model, torch.nn.functional.pad(ids, (0, 1)), torch.tensor([[1, 1, 1, 0]] * 2))
    differs = [not torch.allclose(state[0], state[1], rtol=0, atol=1e-6) for state in (unpadded, padded)]
    return differs[0], differs[1]


def _first_state(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    states: Tensor = model.base_model(
        input_ids=ids, attention_mask=mask.to(ids.device), use_cache=False
    ).last_hidden_state
    return states[:, 0].float()
