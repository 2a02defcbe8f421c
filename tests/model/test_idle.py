"""Attention without an effect is left out, and nothing else changes."""

import copy

import pytest
import torch
from tiny_models import tiny_model

from csplade_pyserini.model.idle import leave_out_idle_attention
from csplade_pyserini.model.states import last_hidden_states

IDS = torch.tensor([[5, 6, 7, 8], [9, 5, 5, 6]])


def model_with_idle_layer(architecture: str):
    """A model, and the output projection of its first layer, which is zero."""
    model = tiny_model(architecture)
    projection = next(
        module
        for name, module in model.named_modules()
        if name.endswith(("self_attn.out_proj", "self_attn.o_proj"))
    )
    with torch.no_grad():
        for parameter in projection.parameters():
            parameter.zero_()
    return model, projection


@pytest.mark.parametrize("architecture", ["opt", "llama"])
def test_states_stay_as_they_are(architecture):
    model, _ = model_with_idle_layer(architecture)
    other = copy.deepcopy(model)
    assert leave_out_idle_attention(other) == 1
    calls = []
    idle, busy = (layer.self_attn for layer in layers(other))
    for attention in (idle, busy):
        attention.q_proj.register_forward_hook(lambda *_, name=attention.layer_idx: calls.append(name))
    assert torch.equal(last_hidden_states(other, IDS), last_hidden_states(model, IDS))
    assert calls == [busy.layer_idx]


def layers(model):
    decoder = getattr(model.base_model, "decoder", model.base_model)
    return decoder.layers[:2]


@pytest.mark.parametrize("architecture", ["opt", "llama"])
def test_a_model_with_attention_everywhere_is_left_alone(architecture):
    assert leave_out_idle_attention(tiny_model(architecture)) == 0


@pytest.mark.parametrize("architecture", ["opt", "llama"])
def test_training_reaches_the_projection_and_its_effect_counts_then(architecture):
    model, projection = model_with_idle_layer(architecture)
    leave_out_idle_attention(model)
    before = last_hidden_states(model, IDS)
    model.train()
    last_hidden_states(model, IDS).square().sum().backward()
    assert projection.weight.grad.any()
    with torch.no_grad():
        projection.weight.sub_(projection.weight.grad)
    assert not torch.allclose(last_hidden_states(model.eval(), IDS), before)
