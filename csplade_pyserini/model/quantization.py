"""Quantized weights of a backbone: the five methods of arXiv 2504.10816, section 5.3.

torchao and bitsandbytes quantize the decoder's linear layers, after an adapter is merged. Embeddings and
norms never are quantized. The LM head is if the card has `quantize_head`, and then only by int8.
Activations and the other weights keep the model's dtype.
"""

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from csplade_pyserini.errors import InputError

GROUP_SIZES = (128, 64, 32)
"""Columns that share a scale in int4: the largest size that divides a layer is used."""
HEAD_METHODS = ("int8",)
"""Methods that can quantize the LM head."""
BNB_OUTLIER = 6.0
"""LLM.int8's threshold: columns with larger activations stay unquantized.

So a text's vector depends a little on its batch.
"""
_CONVERSION_ERRORS = (NotImplementedError, RuntimeError, AssertionError, ImportError, ValueError)
"""Errors of torchao and bitsandbytes on a device, dtype or shape that they cannot do."""


def quantize(
    model: PreTrainedModel, method: str, device: torch.device, *, head: bool = False
) -> PreTrainedModel:
    """Quantize a model in place, and move it to `device`, one layer at a time.

    model: on the CPU. head: quantize the LM head too. Raises InputError if the method's library is missing,
    or if it cannot do this on the device, in the model's dtype or with its shapes.
    """
    if method == "none":
        return model.to(device)
    library, convert = METHODS[method]
    version = _version(library, method)
    for name, layer in _layers(model, method, head=head).items():
        try:
            model.set_submodule(name, convert(layer.to(device)))
        except _CONVERSION_ERRORS as error:
            raise InputError(
                f"quantization={method} does not work on {device} in {layer.weight.dtype} for {name} "
                f"{tuple(layer.weight.shape)} with {library} {version}: {error}"
            ) from error
    return model.to(device)


def _version(library: str, method: str) -> str:
    """Version of the method's library. Raises InputError if it is not installed."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"quantization={method} needs {library}: pip install csplade_pyserini[quantization]"
        ) from None


def _layers(model: PreTrainedModel, method: str, *, head: bool) -> dict[str, nn.Linear]:
    """Layers to quantize, by name."""
    output = model.get_output_embeddings()
    layers = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not output:
            layers[name] = module
    if head:
        layers |= _head(model, output, method)
    return layers


def _head(model: PreTrainedModel, head: Any, method: str) -> dict[str, nn.Linear]:
    """The LM head, by name. Raises InputError if the method cannot quantize it, or memory would grow."""
    if method not in HEAD_METHODS:
        raise InputError(
            f"the card has quantize_head, which goes with quantization={' or '.join(HEAD_METHODS)}; "
            f"got {method}"
        )
    if head.weight is model.get_input_embeddings().weight:
        raise InputError(
            "the card has quantize_head, but the head shares its weights with the embeddings: "
            "a copy would add memory"
        )
    return {name: module for name, module in model.named_modules() if module is head}


def _torchao(make: Callable[[nn.Linear], Any]) -> Callable[[nn.Linear], nn.Module]:
    """Make a conversion of one layer from torchao's configuration for it."""

    def convert(layer: nn.Linear) -> nn.Module:
        _imported("torchao.quantization").quantize_(layer, make(layer))
        return layer

    return convert


def _int8(layer: nn.Linear) -> Any:
    return _imported("torchao.quantization").Int8WeightOnlyConfig(set_inductor_config=False)


def _int8_dynamic(layer: nn.Linear) -> Any:
    return _imported("torchao.quantization").Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)


def _int4(layer: nn.Linear) -> Any:
    group = next((size for size in GROUP_SIZES if layer.in_features % size == 0), 0)
    if not group:  # torchao would only log it, and leave the layer as it is
        raise ValueError(f"{layer.in_features} columns are no multiple of {GROUP_SIZES[-1]}")
    if layer.weight.device.type == "cpu":
        prototype = _imported("torchao.prototype.quantization.int4")  # torchao's only int4 on a CPU
        return prototype.PrototypeInt4WeightOnlyConfig(group_size=group, set_inductor_config=False)
    torchao = _imported("torchao.quantization")
    return torchao.Int4WeightOnlyConfig(
        group_size=group, int4_packing_format="tile_packed_to_4d", set_inductor_config=False
    )


def _bnb_int8(layer: nn.Linear) -> nn.Module:
    bnb = _imported("bitsandbytes.nn")
    new = bnb.Linear8bitLt(
        layer.in_features,
        layer.out_features,
        layer.bias is not None,
        has_fp16_weights=False,
        threshold=BNB_OUTLIER,
    )
    weight = bnb.Int8Params(layer.weight.data.cpu(), requires_grad=False, has_fp16_weights=False)
    return _bnb(layer, new, weight)


def _bnb_nf4(layer: nn.Linear) -> nn.Module:
    bnb = _imported("bitsandbytes.nn")
    new = bnb.Linear4bit(
        layer.in_features,
        layer.out_features,
        layer.bias is not None,
        compute_dtype=layer.weight.dtype,
        quant_type="nf4",
    )
    weight = bnb.Params4bit(layer.weight.data.cpu(), requires_grad=False, quant_type="nf4")
    return _bnb(layer, new, weight)


def _bnb(layer: nn.Linear, new: Any, weight: nn.Parameter) -> nn.Module:
    """Give `new` the weights of `layer`, and move it to the device, where it quantizes them."""
    new.weight = weight
    new.bias = layer.bias
    converted: nn.Module = new.to(layer.weight.device)
    return converted


def _imported(module: str) -> Any:
    """Import a library without types that only this file needs."""
    return importlib.import_module(module)


METHODS: dict[str, tuple[str, Callable[[nn.Linear], nn.Module]]] = {
    "int8": ("torchao", _torchao(_int8)),
    "int8-dynamic": ("torchao", _torchao(_int8_dynamic)),
    "int4": ("torchao", _torchao(_int4)),
    "bnb-int8": ("bitsandbytes", _bnb_int8),
    "bnb-nf4": ("bitsandbytes", _bnb_nf4),
}
"""Library of a method, and its conversion of one linear layer that is on its device."""
