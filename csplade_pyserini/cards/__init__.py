"""Encoder cards: names to EncoderCard. No torch, no Java."""

from csplade_pyserini.cards.card import EncoderCard, parse_card, read_card, to_toml, write_card
from csplade_pyserini.cards.catalogue import (
    ADAPTER_FILE,
    CARD_FILE,
    MODEL_FILES,
    QUANTIZATIONS,
    WEIGHT_FILES,
    Checkpoint,
    EncoderOptions,
    csplade_home,
    find_card,
    find_checkpoint,
    is_ours,
    merge_options,
    parse_encoder_name,
    shipped_cards,
    weight_folders,
)

__all__ = [
    "ADAPTER_FILE",
    "CARD_FILE",
    "MODEL_FILES",
    "QUANTIZATIONS",
    "WEIGHT_FILES",
    "Checkpoint",
    "EncoderCard",
    "EncoderOptions",
    "csplade_home",
    "find_card",
    "find_checkpoint",
    "is_ours",
    "merge_options",
    "parse_card",
    "parse_encoder_name",
    "read_card",
    "shipped_cards",
    "to_toml",
    "weight_folders",
    "write_card",
]
