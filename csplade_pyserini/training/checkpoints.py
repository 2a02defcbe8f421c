"""The model that a phase starts from, and the checkpoint folder that it writes."""

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
    LEXICAL_FILE,
    TABLE_FILE,
    Checkpoint,
    EncoderCard,
    find_checkpoint,
    write_card,
)
from csplade_pyserini.errors import InputError
from csplade_pyserini.model import backbone
from csplade_pyserini.model.lexical import Lexical, load_lexical
from csplade_pyserini.training.settings import PhaseSettings
from csplade_pyserini.training.token_weights import UNFINISHED, TokenWeights

_BASE_KEYS = ("base", "base_file", "layers")
"""Keys of a card that name the base of an adapter."""
_NO_SOURCE: dict[str, Any] = {"adapter": "", "revision": "", "weights": "folder"}
"""Keys of a card whose weights lie beside it."""


@dataclasses.dataclass(frozen=True)
class Student:
    """A model to train."""

    model: Any
    """A PreTrainedModel, or a PeftModel over one."""
    tokenizer: PreTrainedTokenizerBase
    card: EncoderCard
    """Card of the trained checkpoint: the configuration's, with the base that an adapter needs."""
    lookup: TokenWeights | None = None
    """Weights of the queries' tokens, if a lookup makes the queries."""
    lexical: Lexical | None = None
    """Lexical weights, if the card has some; training leaves them as they are."""

    @property
    def decoder(self) -> Any:
        """The PreTrainedModel, with any LoRA layers in it."""
        if self.is_adapter:
            return self.model.get_base_model()
        return self.model

    @property
    def is_adapter(self) -> bool:
        """Whether only an adapter is trained and saved."""
        return hasattr(self.model, "peft_config")


def load_student(card: EncoderCard, settings: PhaseSettings) -> Student:
    """Load the model of `settings.start`, or of the card's base, ready to train. Raises InputError."""
    checkpoint = Checkpoint(card, None)
    if settings.start:
        checkpoint = find_checkpoint(settings.start)
    continues = bool(settings.start) and backbone.has_adapter(checkpoint)
    _check_start(settings, has_adapter=continues)
    torch.manual_seed(settings.seed)  # a new adapter's weights are random, and Trainer seeds later
    model = _load_trainable(checkpoint, settings)
    tokenizer = backbone.load_tokenizer(checkpoint)
    lexical = load_lexical(checkpoint, card, tokenizer, model.get_output_embeddings().weight.shape[0])
    if continues:
        adapted = backbone.load_adapter(model, checkpoint, trainable=True)
        return Student(adapted, tokenizer, adapter_card(card, checkpoint.card), lexical=lexical)
    if not settings.lora_rank:
        return Student(model, tokenizer, whole_card(card), lexical=lexical)
    base = checkpoint.card
    if checkpoint.folder:
        base = dataclasses.replace(base, base=str(Path(settings.start).resolve()))
    return Student(_new_adapter(model, settings), tokenizer, adapter_card(card, base), lexical=lexical)


def whole_card(card: EncoderCard) -> EncoderCard:
    """Return a card for whole weights beside it, without a base."""
    return dataclasses.replace(card, base="", base_file="", layers=0, **_NO_SOURCE)


def adapter_card(card: EncoderCard, base: EncoderCard) -> EncoderCard:
    """Return a card for an adapter beside it, over the base of another card."""
    return dataclasses.replace(with_base(card, base), **_NO_SOURCE)


def with_base(card: EncoderCard, base: EncoderCard) -> EncoderCard:
    """Return a card with the base of another card."""
    values: dict[str, Any] = {key: getattr(base, key) for key in _BASE_KEYS}
    return dataclasses.replace(card, **values)


def save_checkpoint(student: Student, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
    """Write weights or adapter as safetensors, the tokenizer and the card.

    state: the weights, if they were gathered from FSDP's shards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if state is not None:
        state = dict(state)
    student.model.save_pretrained(folder, state_dict=state)
    if student.is_adapter:
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    if not (student.is_adapter and student.card.base):
        student.tokenizer.save_pretrained(folder)
    write_card(student.card, folder / CARD_FILE)
    if student.lexical is not None:
        student.lexical.write(folder / LEXICAL_FILE)
    if student.lookup is not None:
        student.lookup.save(folder, UNFINISHED)


def load_weights(student: Student, folder: Path) -> None:
    """Load a saved checkpoint's weights, to resume a run. Raises InputError if they do not fit."""
    from safetensors.torch import load_file

    if student.lookup is not None:
        student.lookup.load(folder)
    if student.is_adapter:
        from peft import set_peft_model_state_dict

        report = set_peft_model_state_dict(student.model, load_file(folder / ADAPTER_FILE))
    else:
        state: dict[str, Tensor] = {}
        for file in sorted(folder.glob("*.safetensors")):
            if file.name not in (TABLE_FILE, LEXICAL_FILE):
                state |= load_file(file)
        report = student.model.load_state_dict(state, strict=False)
    unknown = report.unexpected_keys
    if unknown:
        raise InputError(
            f"the checkpoint {folder} does not fit: {len(unknown)} unknown weights, such as {unknown[0]}"
        )


def _check_start(settings: PhaseSettings, *, has_adapter: bool) -> None:
    """Raise InputError if `continue_adapter` does not fit what the phase starts from."""
    if has_adapter and not settings.continue_adapter:
        raise InputError(
            f"{settings.start} is an adapter: continue it (continue_adapter = true), "
            f"or merge it first (train merge)"
        )
    if settings.continue_adapter and not has_adapter:
        raise InputError(f"continue_adapter is true, but {settings.start or 'the base'} has no adapter")


def _load_trainable(checkpoint: Checkpoint, settings: PhaseSettings) -> Any:
    """Load a base with the settings' dtype, attention kernel and gradient checkpointing."""
    model: Any = backbone.load_base(checkpoint, dtype=getattr(torch, settings.dtype))
    model.set_attn_implementation(settings.attention_kernel)
    if settings.gradient_checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None)  # its name from transformers 6 on
        enable = enable or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    return model


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
