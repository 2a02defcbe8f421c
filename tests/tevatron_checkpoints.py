"""Folders laid out as the --output_dir of Tevatron's `train_splade`, with tiny random weights."""

import json
import os
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from tiny_models import tiny_model
from transformers import PreTrainedModel, PreTrainedTokenizerFast

BASE = "meta-llama/Llama-3.2-1B"
"""Name of the backbone in the adapter's configuration. Nobody has it here."""
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj", "up_proj", "gate_proj"]


class Planted:
    """training_args.bin holds objects of Tevatron's. Whoever unpickles this one makes a folder."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def trained(*, lora: bool, seed: int = 0) -> PreTrainedModel | PeftModel:
    """A model as Tevatron builds it, all of whose trained weights are random."""
    model = tiny_model("llama", seed=0 if lora else seed)
    if not lora:
        return model
    torch.manual_seed(seed)
    config = LoraConfig(
        task_type=TaskType.FEATURE_EXTRACTION,
        r=16,
        lora_alpha=64,
        lora_dropout=0.1,
        target_modules=TARGETS,
        init_lora_weights=False,
    )
    return get_peft_model(model, config).eval()


def write_output(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    *,
    safetensors: bool = True,
) -> Path:
    """Write the model as TevatronTrainer does, beside an earlier checkpoint with other weights.

    safetensors: of an adapter; under transformers 5 Tevatron pickles it.
    """
    is_adapter = isinstance(model, PeftModel)
    for place, saved in (
        (folder / "checkpoint-2", trained(lora=is_adapter, seed=99)),
        (folder, model),
    ):
        saved.save_pretrained(place, safe_serialization=safetensors or not is_adapter)
        torch.save(Planted(folder.with_name(f"{folder.name}-unpickled")), place / "training_args.bin")
        if is_adapter:
            config = json.loads((place / "adapter_config.json").read_text())
            config["base_model_name_or_path"] = BASE
            (place / "adapter_config.json").write_text(json.dumps(config))
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"step": 2}, folder / "checkpoint-2" / name)
    (folder / "checkpoint-2" / "trainer_state.json").write_text('{"global_step": 2}')
    tokenizer.save_pretrained(folder)
    return folder
