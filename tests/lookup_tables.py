"""Tables of token weights, and cards that name another query side."""

import dataclasses
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from csplade_pyserini.cards import find_checkpoint, read_card, write_card
from csplade_pyserini.impacts import to_terms
from csplade_pyserini.query_sides.table import LookupTable


def table_for(name, tokenizer: PreTrainedTokenizerFast, *, seed: int = 0, **changes: object) -> LookupTable:
    """A table of random weights, a quarter of them 0, for the encoder of a name."""
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    weights = np.random.default_rng(seed).uniform(-0.5, 1.5, len(tokens)).clip(0).astype(np.float32)
    values = {
        "encoder": find_checkpoint(str(name)).identity,
        "weights": weights,
        "terms": tuple(to_terms(tokens)),
        "tokenizer": tokenizer.backend_tokenizer.to_str(),
    }
    return LookupTable(**values | changes)


def change_card(folder: Path, **changes: object) -> None:
    """Change keys of a folder's card."""
    file = folder / "card.toml"
    write_card(dataclasses.replace(read_card(file), **changes), file)
