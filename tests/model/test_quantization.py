"""Quantized backbones are near the unquantized, smaller, and their batches alike; errors are a sentence."""

import importlib.util

import pytest
import torch
from tiny_models import tiny_model

from csplade_pyserini import load_encoder
from csplade_pyserini.cards import QUANTIZATIONS
from csplade_pyserini.errors import InputError
from csplade_pyserini.model import encoder as encoders
from csplade_pyserini.model import quantization
from csplade_pyserini.model.quantization import METHODS, quantize

CPU = torch.device("cpu")
TEXTS = ["what is a manhattan project", "the", "nuclear reactors and their history in a few words", "paris"]
WIDE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
}
needs = {
    library: pytest.mark.skipif(
        not importlib.util.find_spec(library), reason=f"needs {library}: pip install .[quantization]"
    )
    for library in ("torchao", "bitsandbytes")
}
ALL = [pytest.param(method, marks=needs[library]) for method, (library, _) in METHODS.items()]
LARGEST_ERROR = {"int8": 0.02, "int8-dynamic": 0.02, "bnb-int8": 0.02, "int4": 0.15, "bnb-nf4": 0.15}
"""Error of a layer's output, relative to its norm.

A step of 8 bits is 1/127 of the largest value; 4 bits have 16 values. The largest of normal weights is about
3 deviations. So steps are 0.02 and 0.4 deviations, and the error is 0.29 steps on average.
"""
DEPEND_ON_BATCHES = ("int8-dynamic", "bnb-int8")
"""Methods whose vectors depend on the batch a little.

They round activations too, and the last digits of floats may decide. LLM.int8 finds outliers per batch.
"""


def linear_layers(model) -> dict[str, torch.nn.Linear]:
    """All of the decoder, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }


def test_every_method_of_the_names_is_there():
    assert ("none", *METHODS) == tuple(sorted(QUANTIZATIONS, key=("none", *METHODS).index))


@pytest.mark.parametrize("method", ALL)
def test_a_quantized_backbone_is_near_the_unquantized_and_not_equal(method):
    plain, model = tiny_model("llama", **WIDE), quantize(tiny_model("llama", **WIDE), method, CPU)
    for name, layer in linear_layers(plain).items():
        inputs = torch.randn(50, layer.in_features, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            exact, near = layer(inputs), model.get_submodule(name)(inputs)
        assert 1e-4 < float((near - exact).norm() / exact.norm()) < LARGEST_ERROR[method], name


@pytest.mark.parametrize("method", ALL)
def test_every_linear_layer_but_the_head_is_quantized(method):
    plain, model = tiny_model("llama", **WIDE), quantize(tiny_model("llama", **WIDE), method, CPU)
    assert model.lm_head.weight.dtype == torch.float32
    assert torch.equal(model.lm_head.weight, plain.lm_head.weight)
    assert torch.equal(model.get_input_embeddings().weight, plain.get_input_embeddings().weight)
    assert len(linear_layers(plain)) == 7 * plain.config.num_hidden_layers
    for name, layer in linear_layers(plain).items():
        after = model.get_submodule(name).weight
        assert (
            type(after.data) is not torch.Tensor
            or after.element_size() * after.numel() < layer.weight.numel() * 2
        ), name


@pytest.mark.parametrize("method", [param for param in ALL if param.values[0] not in DEPEND_ON_BATCHES])
def test_batches_change_no_vector(make_encoder, method):
    encoder = make_encoder("llama", config=WIDE)
    encoder.model = quantize(encoder.model, method, CPU)
    alone = [encoder.encode_documents([text])[0] for text in TEXTS]
    for one, other in zip(alone, encoder.encode_documents(TEXTS), strict=True):
        assert {term for term, impact in one.items() if impact > 2} <= other.keys()
        assert all(abs(impact - one.get(term, 0)) <= 1 for term, impact in other.items())


@needs["torchao"]
def test_the_head_is_quantized_where_the_card_says_so(make_encoder):
    untied = WIDE | {"tie_word_embeddings": False}
    plain = make_encoder("llama", config=untied)
    model = quantize(tiny_model("llama", **untied), "int8", CPU, head=True)
    encoder = encoders.SparseEncoder(
        plain.card, model, plain.tokenizer
    )  # checks the streamed head against the model's own
    assert type(model.lm_head.weight.data) is not torch.Tensor
    assert encoder.encode_documents(TEXTS) != plain.encode_documents(TEXTS)
    with pytest.raises(InputError, match="quantize_head, which goes with quantization=int8; got int4"):
        quantize(tiny_model("llama", **untied), "int4", CPU, head=True)
    with pytest.raises(InputError, match="shares its weights with the embeddings"):
        quantize(tiny_model("llama", **WIDE), "int8", CPU, head=True)


@needs["torchao"]
def test_a_shape_that_int4_has_no_groups_for_is_named():
    with pytest.raises(
        InputError, match=r"quantization=int4 does not work on cpu.*q_proj.*are no multiple of 32"
    ):
        quantize(tiny_model("llama", **(WIDE | {"hidden_size": 48})), "int4", CPU)


def test_a_missing_library_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setitem(quantization.METHODS, "int8", ("no-such-library", None))
    with pytest.raises(
        InputError, match=r"needs no-such-library: pip install csplade_pyserini\[quantization\]"
    ):
        quantize(tiny_model("llama"), "int8", CPU)


@needs["torchao"]
def test_an_encoders_name_asks_for_it(checkpoint_folder, monkeypatch):
    encoder = load_encoder(f"{checkpoint_folder}:quantization=int8")
    layer = encoder.model.base_model.layers[0].self_attn.q_proj
    assert type(layer.weight.data) is not torch.Tensor
