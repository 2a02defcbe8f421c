"""Texts for adaptation: tokenized once, packed end to end into sequences of equal length, kept as one file of uint32."""

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
from csplade_pyserini.model.inputs import tokenize

TEXT_ENDINGS = (".txt", ".txt.gz")
_TEXTS_AT_ONCE = 1000


class PackedDataset(Dataset[dict[str, Tensor]]):
    """Sequences of `length` tokens out of a file of packed ones; the rest at its end is left out."""

    def __init__(self, file: Path, length: int) -> None:
        """Raises InputError where the file does not fill one sequence."""
        tokens = (
            np.memmap(file, dtype=np.uint32, mode="r")
            if file.stat().st_size
            else np.empty(0, dtype=np.uint32)
        )
        if len(tokens) < length:
            raise InputError(
                f"the texts have {len(tokens)} tokens; wanted at least one sequence of {length} (sequence_length)"
            )
        self._sequences = tokens[: len(tokens) // length * length].reshape(-1, length)

    def __len__(self) -> int:
        return len(self._sequences)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """{"ids": (length,) int64}."""
        return {"ids": torch.from_numpy(self._sequences[index].astype(np.int64))}


def pack(names: Sequence[str], file: Path, *, card: EncoderCard, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write all tokens of the texts that `names` mean, in order, an end-of-text token after each where there is one.

    names: `FILE.txt(.gz)` (a text a line), a JSONL corpus, or `ir_datasets:ID`. Texts are tokenized as the
    card has documents, uncut. Raises InputError on a bad line.
    """
    whole = dataclasses.replace(card, document_max_length=2**31, add_eos=tokenizer.eos_token_id is not None)
    texts = iter(tqdm(_texts(names), desc="tokenizing", unit="text"))
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("wb") as sink:
        while batch := list(itertools.islice(texts, _TEXTS_AT_ONCE)):
            rows = tokenize(batch, side="document", card=whole, tokenizer=tokenizer)
            np.fromiter(itertools.chain.from_iterable(rows), dtype=np.uint32).tofile(sink)
    partial.replace(file)


def _texts(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if name.endswith(TEXT_ENDINGS):
            if not Path(name).is_file():
                raise InputError(f"the text file {name} does not exist")
            yield from (line.rstrip("\r\n") for line in read_lines(Path(name)))
        else:
            yield from (document.text for document in open_corpus(name).documents())
