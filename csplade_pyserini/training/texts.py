"""Texts for adaptation, tokenized once and packed end to end into sequences of equal length.

The tokens of all texts are one file of uint32.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import read_lines
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.model.inputs import tokenize

TEXT_ENDINGS = (".txt", ".txt.gz")
_TEXTS_AT_ONCE = 1000


class PackedDataset(Dataset[dict[str, Tensor]]):
    """Sequences of `length` tokens from a packed file; the rest at its end is left out."""

    def __init__(self, file: Path, length: int) -> None:
        """Raises InputError if the file does not fill one sequence."""
        tokens: np.ndarray = np.empty(0, dtype=np.uint32)
        if file.stat().st_size:  # an empty file cannot be mapped
            tokens = np.memmap(file, dtype=np.uint32, mode="r")
        if len(tokens) < length:
            raise InputError(
                f"the texts have {len(tokens)} tokens; "
                f"wanted at least one sequence of {length} (sequence_length)"
            )
        self._sequences = tokens[: len(tokens) // length * length].reshape(-1, length)

    def __len__(self) -> int:
        return len(self._sequences)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one sequence: {"ids": (length,) int64}."""
        return {"ids": torch.from_numpy(self._sequences[index].astype(np.int64))}


def pack(names: Sequence[str], file: Path, *, card: EncoderCard, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write all tokens of texts in order, with an end-of-text token after each if there is one.

    names: `FILE.txt(.gz)` (one text per line), JSONL corpora, or `ir_datasets:ID`. Texts are tokenized as
    the card's documents, uncut. Raises InputError on a bad line.
    """
    whole = dataclasses.replace(card, document_max_length=2**31, add_eos=tokenizer.eos_token_id is not None)
    texts = iter(tqdm(read_texts(names), desc="tokenizing", unit="text"))
    with whole_file(file, "wb") as sink:
        while batch := list(itertools.islice(texts, _TEXTS_AT_ONCE)):
            rows = tokenize(batch, side="document", card=whole, tokenizer=tokenizer)
            np.fromiter(itertools.chain.from_iterable(rows), dtype=np.uint32).tofile(sink)


def read_texts(names: Sequence[str]) -> Iterator[str]:
    """Texts of `FILE.txt(.gz)` (one per line), JSONL corpora, or `ir_datasets:ID`. Raises InputError."""
    for name in names:
        if name.endswith(TEXT_ENDINGS):
            if not Path(name).is_file():
                raise InputError(f"the text file {name} does not exist")
            yield from (line.rstrip("\r\n") for line in read_lines(Path(name)))
        else:
            yield from (document.text for document in open_corpus(name).documents())
