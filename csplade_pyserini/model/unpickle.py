"""Pickled weights to safetensors. It runs in a process of its own, and knows nothing of the package.

It reads a job as JSON from stdin, writes safetensors files, and prints what it did as JSON. Pickle is read by
torch.load(weights_only=True), which makes tensors and runs nothing else.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ADAPTER_FILE = "adapter_model.safetensors"
WHOLE_FILE = "model.safetensors"
PEFT_PREFIX = "base_model.model."
_NESTS = ("state_dict", "model_state_dict", "model", "module")
"""Keys under which trainers keep a model's weights beside their own state."""
_WRAPPERS = ("_fsdp_wrapped_module", "_orig_mod", "_checkpoint_wrapped_module", "_fpw_module")
"""Parts of keys that FSDP, torch.compile and activation checkpointing add anywhere."""
_BUFFERS = ("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias")
"""Ends of keys that older versions of transformers saved, and that are computed today."""
_LORA_NAME = re.compile(r"\.(lora_(?:[AB]|embedding_[AB]|magnitude_vector))\.(?!weight$)[^.]+")
"""Part of a key with the name of its adapter, which peft's files leave out."""
_SAVED_NAME = re.compile(r"\.modules_to_save\.[^.]+")
_SHOWN = 3


class ConversionError(Exception):
    """The weights cannot be converted."""


def load(file: Path) -> dict[str, Tensor]:
    """Load the tensors of a pickled file by key. Raises ConversionError."""
    try:
        try:
            loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # the format before torch 1.6 cannot be mapped
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise ConversionError(f"{file} is not read: {type(error).__name__}: {lines[0]}") from error
    while isinstance(loaded, Mapping) and not any(isinstance(value, Tensor) for value in loaded.values()):
        inner = [key for key in _NESTS if isinstance(loaded.get(key), Mapping)]
        if not inner:
            break
        loaded = loaded[inner[0]]
    if not isinstance(loaded, Mapping) or not loaded:
        raise ConversionError(f"{file} holds {type(loaded).__name__}; wanted tensors by key")
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ConversionError(f"{file}: {key!r} is {type(value).__name__}; wanted a tensor")
    return dict(loaded)


def unwrapped(key: str) -> str:
    """Return a key without the parts that wrappers of a model add to it."""
    parts = [part for part in key.split(".") if part not in _WRAPPERS]
    while len(parts) > 1 and parts[0] == "module":  # DDP
        parts = parts[1:]
    return ".".join(parts)


def is_adapter(keys: Iterable[str]) -> bool:
    """Whether keys are of a LoRA adapter, with or without the base's own weights."""
    return any(".lora_" in key for key in keys)


def adapter_names(keys: Iterable[str]) -> dict[str, str]:
    """Keys of an adapter's weights as peft's files have them, by the key found.

    Keys of the base's own weights, which some trainers save along, are left out.
    """
    plain = {key: unwrapped(key) for key in keys}
    adapted = {key.partition(".lora_")[0] for key in plain.values() if ".lora_" in key}
    has_base = any(
        ".base_layer." in key or ".original_module." in key or key.removesuffix(".weight") in adapted
        for key in plain.values()
    )
    names = {}
    for found, key in plain.items():
        if has_base and ".lora_" not in key and ".modules_to_save." not in key:
            continue
        key = _SAVED_NAME.sub("", _LORA_NAME.sub(r".\1", key))
        start = key.find(PEFT_PREFIX)
        if start < 0:
            key = PEFT_PREFIX + key.removeprefix("encoder.")
        names[found] = key[max(0, start) :]
    return names


def whole_names(keys: Iterable[str], wanted: Iterable[str]) -> dict[str, str]:
    """Keys of whole weights as the model has them, by the key found.

    wanted: the model's keys. Buffers that are computed today are left out. Raises ConversionError if a key is
    none of the model's.
    """
    known = set(wanted)
    plain = {key: unwrapped(key) for key in keys}
    prefixes = Counter(_prefix(key, known) for key in plain.values())
    del prefixes[None]
    if not prefixes:
        raise ConversionError(f"no key is one of the config's model: {_some(plain.values())}")
    [(prefix, _)] = prefixes.most_common(1)
    names = {}
    strays = []
    for found, key in plain.items():
        name = key.removeprefix(str(prefix))
        if name in known:
            names[found] = name
        elif not name.endswith(_BUFFERS):
            strays.append(key)
    if strays:
        raise ConversionError(f"{len(strays)} keys are none of the config's model: {_some(strays)}")
    if len(set(names.values())) < len(names):
        raise ConversionError(f"two keys are the same one of the config's model, after {prefix!r}")
    return names


def _prefix(key: str, known: set[str]) -> str | None:
    """Shortest prefix of a key after which it is a known one; None if there is none."""
    start = 0
    while key[start:] not in known:
        start = key.find(".", start) + 1
        if not start:
            return None
    return key[:start]


def separate(tensors: dict[str, Tensor], tied: Iterable[str]) -> tuple[dict[str, Tensor], list[str]]:
    """Make tensors that share memory their own, as safetensors wants them.

    tied: keys that the model ties to others by itself; they are left out if they share memory. Returns the
    tensors, and the keys left out.
    """
    owners: dict[int, str] = {}
    left_out = []
    kept = {}
    tied = set(tied)
    for key, tensor in sorted(tensors.items(), key=lambda item: item[0] in tied):
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        if place in owners and key in tied and torch.equal(tensor, tensors[owners[place]]):
            left_out.append(key)
            continue
        is_part = storage.nbytes() != tensor.numel() * tensor.element_size()
        if place in owners or is_part:
            tensor = tensor.clone()
        owners.setdefault(place, key)
        kept[key] = tensor.contiguous()
    return kept, left_out


def convert(job: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the files of a job, and return what was done. Raises ConversionError.

    job: `files`, paths; `target`, folder to write to; `keys`, those of the config's model, or null without a
    config; `tied`, those of them that the model ties itself.
    """
    from safetensors.torch import save_file

    files = [Path(file) for file in job["files"]]
    target = Path(job["target"])
    found: list[str] = []
    for file in files:
        found += load(file)
    adapter = is_adapter(found)
    if adapter:
        names = adapter_names(found)
    elif job["keys"] is None:
        raise ConversionError(f"{files[0].parent} has no config.json, which says how its weights are named")
    else:
        names = whole_names(found, job["keys"])
    report: dict[str, Any] = {
        "adapter": adapter,
        "renamed": sum(key != name for key, name in names.items()),
        "left_out": sorted(set(found) - names.keys()),
        "bytes": 0,
        "dtypes": set(),
        "files": {},
    }
    written: set[str] = set()
    for number, file in enumerate(files, start=1):
        name = ADAPTER_FILE if adapter else WHOLE_FILE
        if len(files) > 1:
            name = f"model-{number:05d}-of-{len(files):05d}.safetensors"
        tensors = {names[key]: tensor for key, tensor in load(file).items() if key in names}
        tensors, tied = separate(tensors, job["tied"])
        report["left_out"] += tied
        save_file(tensors, target / name, metadata={"format": "pt"})
        report["files"][name] = sorted(tensors)
        report["bytes"] += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        report["dtypes"] |= {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}
        written |= tensors.keys()
    missing = set() if adapter else set(job["keys"]) - written - set(job["tied"])
    if missing:
        raise ConversionError(f"{len(missing)} weights of the config's model are missing: {_some(missing)}")
    return report | {"dtypes": sorted(report["dtypes"])}


def _some(keys: Iterable[str]) -> str:
    return ", ".join(sorted(keys)[:_SHOWN])


if __name__ == "__main__":
    try:
        print(json.dumps(convert(json.load(sys.stdin))))
    except ConversionError as error:
        sys.exit(str(error))
