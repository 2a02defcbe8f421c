"""The teacher: a SPLADE encoder on BERT, run over many texts."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack
from torch import Tensor
from tqdm import tqdm
from transformers import AutoModelForMaskedLM, AutoTokenizer

from csplade_pyserini.errors import InputError
from csplade_pyserini.model.head import activate, streamed_peaks

BATCH_TOKENS = 2048
"""Largest number of tokens in a batch, padding included."""
BATCH_TEXTS = 256
"""Largest number of texts in a batch."""
LEAST_WEIGHT = 0.05
"""Lighter weights count as 0."""


class Teacher:
    """A SPLADE encoder with BERT's masked-LM head: log1p(relu(largest logit over the text's tokens))."""

    def __init__(self, folder: Path, terms: Sequence[str] = ()) -> None:
        """Load the model. Raises InputError if `folder` holds no such model.

        terms: those whose weights are wanted, besides each text's own; none means all. Fewer terms take
        less time.
        """
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
            self.model = AutoModelForMaskedLM.from_pretrained(folder).eval()
            self._head = self.model.cls.predictions
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"no BERT masked LM in {folder}: {error}") from error
        vocabulary = len(self._head.decoder.weight)
        self.terms: list[str] = self.tokenizer.convert_ids_to_tokens(list(range(vocabulary)))
        """The V wordpieces, by id."""
        wanted = self.tokenizer.convert_tokens_to_ids(list(terms)) if terms else range(vocabulary)
        special = set(self.tokenizer.all_special_ids)
        self._columns = torch.tensor([token_id for token_id in wanted if token_id not in special])
        self._others = torch.ones(vocabulary, dtype=torch.bool)
        self._others[self._columns] = False
        self._others[list(special)] = False
        self._weight = self._head.decoder.weight.detach()
        self._bias = self._head.decoder.bias.detach()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], length: int, what: str) -> csr_matrix:
        """Return float32 weights (N, V) for N texts, of which `length` tokens are read.

        The progress bar shows `what`.
        """
        rows = self.tokenizer(list(texts), truncation=True, max_length=length)["input_ids"]
        # The longest texts come first: if memory runs out, it does so at once.
        order = sorted(range(len(rows)), key=lambda at: -len(rows[at]))
        parts = []
        with tqdm(total=len(rows), desc=what, unit="text", mininterval=5) as progress:
            for batch in batches([rows[at] for at in order]):
                weights = self._weights(batch).numpy()
                weights[weights < LEAST_WEIGHT] = 0
                parts.append(csr_matrix(weights))
                progress.update(len(batch))
        return vstack(parts, format="csr")[np.argsort(order)]

    def _weights(self, rows: list[list[int]]) -> Tensor:
        """Weights (B, V) of rows of token ids."""
        inputs = self.tokenizer.pad({"input_ids": rows}, return_tensors="pt")
        states = self._head.transform(self.model.base_model(**inputs).last_hidden_state)  # (B, L, H)
        mask = inputs["attention_mask"]
        weights = torch.zeros(len(rows), len(self._weight))
        head, bias = self._weight[self._columns], self._bias[self._columns]
        weights[:, self._columns] = activate(streamed_peaks(states, mask, head, bias=bias))
        for row, token_ids in enumerate(rows):
            own = torch.tensor(sorted({token_id for token_id in token_ids if self._others[token_id]}))
            if len(own):
                logits = states[row, : len(token_ids)] @ self._weight[own].T + self._bias[own]
                weights[row, own] = activate(logits.amax(dim=0))
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
