"""Trained checkpoints to shipped ones: whole weights, or an adapter beside a card that names its base."""

import dataclasses
import json
import shutil
from pathlib import Path

import torch

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
from csplade_pyserini.files.whole import is_empty_folder, whole_folder
from csplade_pyserini.model import backbone
from csplade_pyserini.model.lexical import load_lexical, needed_file
from csplade_pyserini.query_sides.table import copy_table
from csplade_pyserini.training.checkpoints import Student, save_checkpoint, whole_card, with_base
from csplade_pyserini.training.settings import MergeSettings
from csplade_pyserini.training.token_weights import trained_identity

_ADAPTER_CONFIG = "adapter_config.json"


def merge(card: EncoderCard, settings: MergeSettings) -> Path:
    """Write the checkpoint folder `settings.output` with the configuration's card, and return it.

    Raises InputError if the start has no adapter to keep, or if the output exists.
    """
    output = Path(settings.output)
    dtype = getattr(torch, settings.dtype)
    checkpoint = find_checkpoint(settings.start)
    if output.exists() and not is_empty_folder(output):
        raise InputError(f"{output} exists: choose another output, or remove it")
    if settings.keep_adapter:
        if not backbone.has_adapter(checkpoint) or checkpoint.folder is None:
            raise InputError(f"{settings.start} has no adapter to keep: merge with keep_adapter = false")
        with whole_folder(output) as partial:
            _copy_adapter(checkpoint.folder, partial, dtype, checkpoint.card.base)
            written = with_base(card, checkpoint.card)
            write_card(written, partial / CARD_FILE)
            if card.is_lexical:
                shutil.copyfile(needed_file(checkpoint, card), partial / LEXICAL_FILE)
            _keep_table(checkpoint, partial, written)
        return output
    model = backbone.load_model(checkpoint, dtype=torch.float32, device=torch.device("cpu")).to(dtype)
    tokenizer = backbone.load_tokenizer(checkpoint)
    lexical = load_lexical(checkpoint, card, tokenizer, model.get_output_embeddings().weight.shape[0])
    student = Student(model, tokenizer, whole_card(card), lexical=lexical)
    with whole_folder(output) as partial:
        save_checkpoint(student, partial)
        _keep_table(checkpoint, partial, student.card)
    return output


def _keep_table(start: Checkpoint, folder: Path, card: EncoderCard) -> None:
    """Copy the table that the start's queries are made by, as that of the encoder in a folder."""
    if start.stored_card.query != "lookup" or start.folder is None:
        return
    table = start.folder / TABLE_FILE
    if not table.is_file():
        raise InputError(f"the card of {start.folder} says query = 'lookup', but there is no {table}")
    card = dataclasses.replace(card, query="lookup", query_encoder="")
    write_card(card, folder / CARD_FILE)
    copy_table(table, folder / TABLE_FILE, encoder=trained_identity(card, folder))


def _copy_adapter(source: Path, target: Path, dtype: torch.dtype, base: str) -> None:
    """Copy an adapter's weights in another dtype, and its config with the base that the card names.

    peft's own config names the base as a folder of this machine.
    """
    from safetensors.torch import load_file, save_file

    weights = load_file(source / ADAPTER_FILE)
    converted = {name: tensor.to(dtype).contiguous() for name, tensor in weights.items()}
    save_file(converted, target / ADAPTER_FILE, metadata={"format": "pt"})
    config = json.loads((source / _ADAPTER_CONFIG).read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    (target / _ADAPTER_CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
