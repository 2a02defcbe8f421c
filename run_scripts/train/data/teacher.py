"""The teacher: a SPLADE encoder on BERT, run over many texts."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoModelForMaskedLM, AutoTokenizer
from vectors import csr_matrix, vstack

from csplade_pyserini.errors import InputError
from csplade_pyserini.model.head import activate, streamed_peaks

TEACHER_LENGTH = 192
"""Number of tokens that the teacher reads of a text."""
BATCH_TOKENS = 8192
"""Largest number of tokens in a batch, padding included."""
BATCH_TEXTS = 256
"""Largest number of texts in a batch."""


class Teacher:
    """A SPLADE encoder with BERT's masked-LM head: log1p(relu(largest logit over the text's tokens))."""

    def __init__(self, folder: Path):
        """Load the model. Raises InputError if `folder` holds no such model."""
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
            self.model = AutoModelForMaskedLM.from_pretrained(folder).eval()
            self.head = self.model.cls.predictions
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"no BERT masked LM in {folder}: {error}") from error

    def terms(self) -> list[str]:
        """Return the V wordpieces, by id."""
        size = self.head.decoder.weight.shape[0]
        terms: list[str] = self.tokenizer.convert_ids_to_tokens(list(range(size)))
        return terms

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], what: str) -> csr_matrix:
        """Return float32 weights (N, V) for N texts; special tokens weigh 0.

        The progress bar shows `what`.
        """
        rows = self.tokenizer(list(texts), truncation=True, max_length=TEACHER_LENGTH)["input_ids"]
        # The longest texts come first: if memory runs out, it does so at once.
        order = sorted(range(len(rows)), key=lambda at: -len(rows[at]))
        parts = []
        with tqdm(total=len(rows), desc=f"encode {what}", unit="text", mininterval=5) as progress:
            for batch in batches([rows[at] for at in order]):
                parts.append(csr_matrix(self._weights(batch).numpy()))
                progress.update(len(batch))
        return vstack(parts, format="csr")[np.argsort(order)]

    def _weights(self, rows: list[list[int]]) -> torch.Tensor:
        inputs = self.tokenizer.pad({"input_ids": rows}, return_tensors="pt")
        states = self.head.transform(self.model.base_model(**inputs).last_hidden_state)  # (B, L, H)
        decoder = self.head.decoder
        peaks = streamed_peaks(states, inputs["attention_mask"], decoder.weight, bias=decoder.bias)
        weights = activate(peaks)  # (B, V)
        weights[:, self.tokenizer.all_special_ids] = 0
        return weights


def batches(rows: Iterable[list[int]]) -> Iterator[list[list[int]]]:
    """Cut rows of token ids, longest first, into batches within both limits."""
    batch: list[list[int]] = []
    for row in rows:
        if batch and (len(batch) == BATCH_TEXTS or len(batch[0]) * (len(batch) + 1) > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
