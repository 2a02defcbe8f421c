"""Bidirectional attention lets the first position see the last token; causal attention does not."""

import importlib.util

import pytest
import torch
from tiny_models import ARCHITECTURES, tiny_model

from csplade_pyserini.errors import InputError
from csplade_pyserini.model.attention import first_sees_last, set_attention

IMPLEMENTATIONS = [
    "sdpa",
    "eager",
    pytest.param(
        "flash_attention_2",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("flash_attn") is None or not torch.cuda.is_available(),
            reason="needs flash-attn and a CUDA device",
        ),
    ),
]


def first_states(model, last_token, *, padding):
    """State of the first position of `5 6 7 LAST`, with `padding` pad tokens behind."""
    ids = torch.tensor([[5, 6, 7, last_token] + [0] * padding])
    mask = torch.tensor([[1] * 4 + [0] * padding])
    return model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[0, 0]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("padding", [0, 3])
@torch.inference_mode()
def test_the_first_state_depends_on_the_last_token_only_without_causal_mask(
    architecture, implementation, padding
):
    model = tiny_model(architecture, implementation=implementation)
    for attention, depends in (("causal", False), ("bidirectional", True), ("causal", False)):
        set_attention(model, attention)
        difference = (
            (first_states(model, 8, padding=padding) - first_states(model, 9, padding=padding)).abs().max()
        )
        assert (difference > 1e-3) == depends, attention


@torch.inference_mode()
def test_padding_is_never_attended_to():
    model = tiny_model("llama")
    set_attention(model, "bidirectional")
    torch.testing.assert_close(
        first_states(model, 8, padding=0), first_states(model, 8, padding=5), rtol=1e-4, atol=1e-5
    )


def test_a_model_that_does_not_obey_is_refused():
    model = tiny_model("llama")
    with torch.no_grad():  # a model without attention at all: nothing can make it see its right context
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
    with pytest.raises(InputError, match="the first position does not see the last token"):
        set_attention(model, "bidirectional")
    set_attention(model, "causal")
    assert first_sees_last(model) == (False, False)
