"""Queries by lookup in contrastive training: the documents learn all the expansion.

The table is fixed, or trained along: then each weight is its start times exp(change), so it stays above 0.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from csplade_pyserini.cards import TABLE_FILE, Checkpoint, EncoderCard
from csplade_pyserini.errors import InputError
from csplade_pyserini.model.inputs import tokenize
from csplade_pyserini.model.vocabulary import vocabulary_terms
from csplade_pyserini.query_sides.lookup import open_tokenizer
from csplade_pyserini.query_sides.table import LookupTable, read_table, write_table

UNFINISHED = "a training that goes on"
"""Encoder of a table that is no searcher's: its documents' weights still change."""
_MOST_PENALTY = 10.0
"""Most that FLOPS of a term is multiplied by, where queries hardly weigh it."""


class TokenWeights(nn.Module):
    """Weights of the V tokens of a vocabulary in queries."""

    def __init__(self, table: LookupTable, vocabulary: int, *, trained: bool) -> None:
        """vocabulary: V, at least the table's number of tokens. trained: whether the weights change."""
        super().__init__()
        self.table = table
        start = torch.zeros(vocabulary)
        start[: len(table.weights)] = torch.from_numpy(table.weights)
        self.start: Tensor
        self.register_buffer("start", start)
        self.change = nn.Parameter(torch.zeros(vocabulary), requires_grad=trained)

    @property
    def weights(self) -> Tensor:
        """(V,) weights as they are now."""
        return self.start * self.change.exp()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(Q, V) weights of queries, from ids (Q, L) and a mask (Q, L) that is 0 at padding."""
        weights = self.weights
        present = weights.new_zeros(len(ids), len(weights))
        return weights * present.scatter_reduce(1, ids, mask.to(weights.dtype), "amax")

    @torch.no_grad()
    def penalties(self) -> Tensor:
        """(V,) factors of FLOPS by term: high where queries weigh a term little, 1 at the mean weight.

        A common term then costs more than it can give, and a rare one is spared (IDF-aware FLOPS).
        """
        weights = self.weights
        some = weights > 0
        mean = weights[some].mean()
        found = torch.where(some, mean / weights.clamp(min=1e-9), _MOST_PENALTY)
        return found.clamp(max=_MOST_PENALTY)

    def save(self, folder: Path, encoder: str) -> None:
        """Write the table as it is now, for the encoder of an identity."""
        weights = self.weights.detach().float().cpu().numpy()[: len(self.table.weights)]
        write_table(dataclasses.replace(self.table, weights=weights, encoder=encoder), folder / TABLE_FILE)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Take the weights that a stopped run had. Raises InputError if they do not fit."""
        weights = torch.from_numpy(read_table(folder / TABLE_FILE).weights.copy())
        known = self.start[: len(weights)] > 0
        ratio = weights.to(self.start) / self.start[: len(weights)].clamp(min=1e-9)
        self.change[: len(weights)] = torch.where(known, ratio, 1.0).log()


def start_weights(
    table: str,
    texts: Iterable[str],
    card: EncoderCard,
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: int,
    *,
    trained: bool,
) -> TokenWeights:
    """Read a table, a file or a folder with one; an empty name makes it of the idf of texts.

    Raises InputError if the table is of another vocabulary than the tokenizer.
    """
    if not table:
        return TokenWeights(_idf_table(texts, card, tokenizer), vocabulary, trained=trained)
    path = Path(table)
    if path.is_dir():
        path /= TABLE_FILE
    if not path.is_file():
        raise InputError(f"lookup_table is {table!r}, but there is no {path}; train lookup makes one")
    found = read_table(path)
    if open_tokenizer(found.tokenizer, str(path)).get_vocab() != tokenizer.get_vocab():
        raise InputError(
            f"the table {path} is for {found.encoder}, whose vocabulary is not that of the encoder to train, "
            f"{card.name}"
        )
    return TokenWeights(found, vocabulary, trained=trained)


def trained_identity(card: EncoderCard, folder: Path) -> str:
    """Identity of the encoder that lies in a folder with this card."""
    return Checkpoint(card, folder).identity


def _idf_table(texts: Iterable[str], card: EncoderCard, tokenizer: PreTrainedTokenizerBase) -> LookupTable:
    """Make a table of the idf of each token over texts, as BM25 has it."""
    rows = tokenize(list(texts), side="document", card=card, tokenizer=tokenizer)
    size = len(tokenizer)
    frequency = np.zeros(size)
    for row in rows:
        frequency[list(set(row))] += 1
    idf = np.log1p((len(rows) - frequency + 0.5) / (frequency + 0.5))
    terms = [term or "" for term in vocabulary_terms(tokenizer, size)]
    idf[tokenizer.all_special_ids] = 0
    backend: Any = tokenizer
    return LookupTable(
        encoder=UNFINISHED,
        weights=idf.astype(np.float32),
        terms=tuple(terms),
        tokenizer=backend.backend_tokenizer.to_str(),
        facts={"start": f"idf over {len(rows)} passages"},
    )
