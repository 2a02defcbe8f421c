"""What a phase starts from and what it leaves: checkpoint folders, whole weights or an adapter, with a card."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from csplade_pyserini.cards import (
    ADAPTER_FILE,
    CARD_FILE,
    Checkpoint,
    EncoderCard,
    find_checkpoint,
    write_card,
)
from csplade_pyserini.errors import InputError
from csplade_pyserini.model import backbone
from csplade_pyserini.training.settings import PhaseSettings


@dataclasses.dataclass(frozen=True)
class Student:
    """A model to train."""

    model: Any
    """A PreTrainedModel, or a PeftModel over one."""
    tokenizer: PreTrainedTokenizerBase
    card: EncoderCard
    """The card of what training leaves: that of the configuration, with the base that an adapter needs."""

    @property
    def decoder(self) -> Any:
        """The PreTrainedModel, with any LoRA layers in place."""
        return self.model.get_base_model() if self.is_adapter else self.model

    @property
    def is_adapter(self) -> bool:
        """Whether only an adapter is trained and saved."""
        return hasattr(self.model, "peft_config")


def load_student(card: EncoderCard, settings: PhaseSettings) -> Student:
    """The model of `settings.start`, or of the card's base, ready to train. Raises InputError."""
    checkpoint = find_checkpoint(settings.start) if settings.start else Checkpoint(card, None)
    adapted = backbone.has_adapter(checkpoint) and bool(settings.start)
    if adapted and not settings.continue_adapter:
        raise InputError(
            f"{settings.start} is an adapter: continue it (continue_adapter = true), or merge it first (train merge)"
        )
    if settings.continue_adapter and not adapted:
        raise InputError(f"continue_adapter is true, but {settings.start or 'the base'} has no adapter")
    torch.manual_seed(settings.seed)  # a new adapter's first weights are random, and Trainer seeds only later
    model = backbone.load_base(checkpoint, dtype=getattr(torch, settings.dtype))
    model.set_attn_implementation(settings.attention_kernel)
    if settings.gradient_checkpointing:
        # transformers renames it on the way to version 6.
        enable = (
            getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        )
        enable({"use_reentrant": False})
    tokenizer = backbone.load_tokenizer(checkpoint)
    if adapted:
        return Student(
            backbone.load_adapter(model, checkpoint, trainable=True), tokenizer, _over(card, checkpoint.card)
        )
    if not settings.lora_rank:
        return Student(
            model,
            tokenizer,
            dataclasses.replace(
                card, base="", base_file="", layers=0, adapter="", revision="", weights="folder"
            ),
        )
    over = (
        dataclasses.replace(checkpoint.card, base=str(Path(settings.start).resolve()))
        if checkpoint.folder
        else checkpoint.card
    )
    return Student(_new_adapter(model, settings), tokenizer, _over(card, over))


def save_checkpoint(student: Student, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
    """Write weights or adapter as safetensors, tokenizer and card. `state`: the model's, where it is gathered from shards."""
    folder.mkdir(parents=True, exist_ok=True)
    student.model.save_pretrained(folder, state_dict=dict(state) if state is not None else None)
    if student.is_adapter:
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    if not (student.is_adapter and student.card.base):
        student.tokenizer.save_pretrained(folder)
    write_card(student.card, folder / CARD_FILE)


def load_weights(student: Student, folder: Path) -> None:
    """Put a saved checkpoint's weights into the student: how a run resumes. Raises InputError where they do not fit."""
    from safetensors.torch import load_file

    if student.is_adapter:
        from peft import set_peft_model_state_dict

        left = set_peft_model_state_dict(student.model, load_file(folder / ADAPTER_FILE)).unexpected_keys
    else:
        state: dict[str, Tensor] = {}
        for file in sorted(folder.glob("*.safetensors")):
            state |= load_file(file)
        left = student.model.load_state_dict(state, strict=False).unexpected_keys
    if left:
        raise InputError(
            f"the checkpoint {folder} does not fit: {len(left)} unknown weights, such as {left[0]}"
        )


def _new_adapter(model: Any, settings: PhaseSettings) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha or 2 * settings.lora_rank,
        lora_dropout=settings.lora_dropout,
        target_modules=list(settings.lora_targets) or "all-linear",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise InputError(
            f"lora_targets {list(settings.lora_targets)} do not fit {type(model).__name__}: {error}"
        ) from error


def _over(card: EncoderCard, base: EncoderCard) -> EncoderCard:
    """The card with the base of another: what an adapter was trained over."""
    same = {key: getattr(base, key) for key in ("base", "base_file", "layers")}
    return dataclasses.replace(card, **same, adapter="", revision="", weights="folder")
