"""Lexical weights: BM25 for passages, the rarity of its terms for a query."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import batched
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from outputs import absent, read_contents
from scipy.sparse import csr_matrix, diags
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from csplade_pyserini.model.lexical import K1, B, write_lexical

COUNTED_TOKENS = 400
"""Tokens of a passage that count for document frequencies and the mean length."""
BATCH = 10_000
"""Texts that are counted at once."""


def prepare_lexical(passages: Path, tokenizer: PreTrainedTokenizerBase, output: Path) -> None:
    """Write the file of an encoder's lexical weights, unless it is there."""
    if absent(output):
        lexical = Lexical((contents for _, contents in read_contents(passages)), tokenizer)
        write_lexical(torch.from_numpy(lexical.counted_root_idf), lexical.mean_length, output)


class Lexical:
    """Weights of a text's own terms, with statistics of all passages. (N, V) for N texts and V terms.

    A document's weight is BM25 times the root of idf, a query's the root of idf: their product is BM25.
    """

    def __init__(self, passages: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        terms = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        special = set(tokenizer.all_special_tokens)
        self._counted = np.array([is_word(term) and term not in special for term in terms], dtype=np.float32)
        frequency = np.zeros(len(terms))
        number = 0
        tokens = 0.0
        for batch in batched(tqdm(passages, desc="count terms", unit="passage", mininterval=5), BATCH):
            counts = self._counts(batch, COUNTED_TOKENS)
            frequency += np.asarray((counts > 0).sum(axis=0)).ravel()
            tokens += counts.sum()
            number += len(batch)
        self.mean_length = tokens / max(1, number)
        idf = np.log(1 + (number - frequency + 0.5) / (frequency + 0.5))  # Lucene's
        self.root_idf: NDArray[np.float32] = np.sqrt(idf).astype(np.float32)

    @property
    def counted_root_idf(self) -> NDArray[np.float32]:
        """(V,) sqrt(idf) of each term; 0 for those that are not counted."""
        return self.root_idf * self._counted

    def documents(self, texts: Sequence[str], length: int) -> csr_matrix:
        """Return the weights (N, V) of passages, of which `length` tokens are read."""
        counts = self._counts(texts, length)
        lengths = np.asarray(counts.sum(axis=1)).ravel()
        norm = K1 * (1 - B + B * lengths / self.mean_length)
        counts.data *= (K1 + 1) / (counts.data + np.repeat(norm, np.diff(counts.indptr)))
        return (counts @ diags(self.root_idf)).tocsr()

    def queries(self, texts: Sequence[str], length: int) -> csr_matrix:
        """Return the weights (N, V) of queries, of which `length` tokens are read."""
        counts = self._counts(texts, length)
        counts.data[:] = 1
        return (counts @ diags(self.root_idf)).tocsr()

    def _counts(self, texts: Sequence[str], length: int) -> csr_matrix:
        """Return how often each text has each term with a letter or a digit, (N, V)."""
        rows = list(self._token_ids(texts, length))
        starts = np.cumsum([0, *map(len, rows)])
        columns = np.array([token_id for row in rows for token_id in row], dtype=np.int64)
        ones = np.ones(len(columns), dtype=np.float32)
        counts = csr_matrix((ones, columns, starts), shape=(len(rows), len(self._counted)))
        counts.sum_duplicates()
        counts = (counts @ diags(self._counted)).tocsr()
        counts.eliminate_zeros()
        return counts

    def _token_ids(self, texts: Sequence[str], length: int) -> Iterator[list[int]]:
        """Yield the token ids of each text, lower-cased and after a space, as in training."""
        spaced = [f" {text.lower()}" for text in texts]
        if spaced:
            yield from self.tokenizer(spaced, add_special_tokens=False, truncation=True, max_length=length)[
                "input_ids"
            ]


def is_word(term: str) -> bool:
    """Whether a term has a letter or a digit. (The space's sign in byte-level terms, Ġ, is a letter.)"""
    return any(map(str.isalnum, term.removeprefix("Ġ").removeprefix("##")))
