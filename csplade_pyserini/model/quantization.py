"""Quantized weights of a backbone, by torchao and bitsandbytes: the five ways of arXiv 2504.10816, section 5.3.

The linear layers of the decoder are quantized, after an adapter has been merged. Embeddings and norms never are; the LM head
is where the card says so (`quantize_head`), and then by int8 alone. Activations and what is left keep the model's dtype.
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
"""Columns that share a scale in int4: the largest that divides a layer."""
HEAD_METHODS = ("int8",)
BNB_OUTLIER = 6.0
"""LLM.int8's threshold: columns with larger activations stay unquantized, so that a text's vector depends on its batch a little."""


def quantize(
    model: PreTrainedModel, method: str, device: torch.device, *, head: bool = False
) -> PreTrainedModel:
    """Quantize `model`, which is on the CPU, in place, and move it to `device`, one layer at a time.

    Raises InputError where the method's library is missing or cannot do it on the device, in the model's dtype or with its shapes.
    """
    if method == "none":
        return model.to(device)
    library, convert = METHODS[method]
    try:
        importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"quantization={method} needs {library}: pip install csplade_pyserini[quantization]"
        ) from None
    output = model.get_output_embeddings()
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not output
    }
    if head:
        layers |= _head(model, output, method)
    for name, layer in layers.items():
        try:
            model.set_submodule(name, convert(layer.to(device)))
        except (NotImplementedError, RuntimeError, AssertionError, ImportError, ValueError) as error:
            raise InputError(
                f"quantization={method} does not work on {device} in {layer.weight.dtype} for {name} {tuple(layer.weight.shape)} "
                f"with {library} {importlib.metadata.version(library)}: {error}"
            ) from error
    return model.to(device)


def _head(model: PreTrainedModel, head: Any, method: str) -> dict[str, nn.Linear]:
    if method not in HEAD_METHODS:
        raise InputError(
            f"the card has quantize_head, which goes with quantization={' or '.join(HEAD_METHODS)}; got {method}"
        )
    if head.weight is model.get_input_embeddings().weight:
        raise InputError(
            "the card has quantize_head, but the head shares its weights with the embeddings: a copy would add memory"
        )
    return {name: module for name, module in model.named_modules() if module is head}


def _torchao(make: Callable[[nn.Linear], Any]) -> Callable[[nn.Linear], nn.Module]:
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
    if not group:  # torchao would leave the layer as it is, and say so in a log
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
    return _bnb(
        layer, new, bnb.Int8Params(layer.weight.data.cpu(), requires_grad=False, has_fp16_weights=False)
    )


def _bnb_nf4(layer: nn.Linear) -> nn.Module:
    bnb, dtype = _imported("bitsandbytes.nn"), layer.weight.dtype
    new = bnb.Linear4bit(
        layer.in_features, layer.out_features, layer.bias is not None, compute_dtype=dtype, quant_type="nf4"
    )
    return _bnb(layer, new, bnb.Params4bit(layer.weight.data.cpu(), requires_grad=False, quant_type="nf4"))


def _bnb(layer: nn.Linear, new: Any, weight: nn.Parameter) -> nn.Module:
    """`new` in place of `layer`; it quantizes its weight when it comes to the device."""
    new.weight, new.bias = weight, layer.bias
    converted: nn.Module = new.to(layer.weight.device)
    return converted


def _imported(module: str) -> Any:
    """A library that is needed here alone, and has no types."""
    return importlib.import_module(module)


METHODS: dict[str, tuple[str, Callable[[nn.Linear], nn.Module]]] = {
    "int8": ("torchao", _torchao(_int8)),
    "int8-dynamic": ("torchao", _torchao(_int8_dynamic)),
    "int4": ("torchao", _torchao(_int4)),
    "bnb-int8": ("bitsandbytes", _bnb_int8),
    "bnb-nf4": ("bitsandbytes", _bnb_nf4),
}
"""Library, and how it converts one linear layer that is on its device."""
