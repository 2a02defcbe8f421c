"""Trained checkpoints to what is shipped: whole weights, or an adapter beside a card that names its base."""

import dataclasses
import json
import shutil
from pathlib import Path

import torch

from csplade_pyserini.cards import CARD_FILE, EncoderCard, find_checkpoint, write_card
from csplade_pyserini.errors import InputError
from csplade_pyserini.model import backbone
from csplade_pyserini.training.checkpoints import Student, save_checkpoint
from csplade_pyserini.training.settings import MergeSettings


def merge(card: EncoderCard, settings: MergeSettings) -> Path:
    """Write `settings.output`, a checkpoint folder with the configuration's card, and return it.

    Raises InputError where the start has no adapter to keep, or the output is there already.
    """
    output, dtype = Path(settings.output), getattr(torch, settings.dtype)
    checkpoint = find_checkpoint(settings.start)
    if output.exists():
        raise InputError(f"{output} exists: choose another output, or remove it")
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if settings.keep_adapter:
        if not backbone.has_adapter(checkpoint) or checkpoint.folder is None:
            raise InputError(f"{settings.start} has no adapter to keep: merge with keep_adapter = false")
        _copy_adapter(checkpoint.folder, partial, dtype, checkpoint.card.base)
        base = {key: getattr(checkpoint.card, key) for key in ("base", "base_file", "layers")}
        write_card(dataclasses.replace(card, **base), partial / CARD_FILE)
    else:
        model = backbone.load_model(checkpoint, dtype=torch.float32, device=torch.device("cpu")).to(dtype)
        whole = dataclasses.replace(
            card, base="", base_file="", layers=0, adapter="", revision="", weights="folder"
        )
        save_checkpoint(Student(model, backbone.load_tokenizer(checkpoint), whole), partial)
    partial.rename(output)
    return output


def _copy_adapter(source: Path, target: Path, dtype: torch.dtype, base: str) -> None:
    """The adapter's weights in another dtype, and its config, naming the base as the card does: peft names a folder of this machine."""
    from safetensors.torch import load_file, save_file

    target.mkdir(parents=True)
    weights = {
        name: tensor.to(dtype).contiguous()
        for name, tensor in load_file(source / "adapter_model.safetensors").items()
    }
    save_file(weights, target / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "adapter_config.json").read_text(encoding="utf-8")) | {
        "base_model_name_or_path": base
    }
    (target / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
