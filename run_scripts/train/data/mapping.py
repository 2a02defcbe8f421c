"""The teacher's weights over another tokenizer's terms."""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import csr_matrix
from transformers import PreTrainedTokenizerBase

MOST_TOKENS = 3
"""A word of more tokens is left out: its pieces say too little about it."""


class SharedTerms:
    """A map to a tokenizer that was cut from the teacher's.

    A term that both have keeps its weight. A text's own term that was cut away gives its weight to the
    pieces that the text has in its place.
    """

    def __init__(self, terms: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> None:
        self._terms = terms
        self._tokenizer = tokenizer
        self._vocabulary = tokenizer.get_vocab()
        self._pieces: dict[int, list[int]] = {}

    def mapped(self, weights: csr_matrix, texts: Sequence[str]) -> csr_matrix:
        """Return weights (N, V) of texts whose teacher's weights are (N, teacher's V)."""
        return _matrix(map(self._row, *_entries(weights)), len(texts), len(self._vocabulary))

    def _row(self, columns: list[int], weights: list[float]) -> dict[int, float]:
        row: dict[int, float] = {}
        for column, weight in zip(columns, weights, strict=True):
            for token_id in self._token_ids(column):
                row[token_id] = max(weight, row.get(token_id, 0))
        return row

    def _token_ids(self, column: int) -> list[int]:
        if column not in self._pieces:
            term = self._terms[column]
            known = self._vocabulary.get(term)
            pieces = [known]
            if known is None:
                # A piece inside a word has no place of its own.
                cut = [] if term.startswith("##") else self._tokenizer.tokenize(term)
                pieces = self._tokenizer.convert_tokens_to_ids(cut)
            self._pieces[column] = pieces
        return self._pieces[column]


class SharedWords:
    """A map to any tokenizer, word by word.

    The tokens of a word get its weight, and a token of several words gets the largest.
    """

    def __init__(
        self, terms: Sequence[str], teacher: PreTrainedTokenizerBase, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        self._terms = terms
        self._teacher = teacher
        self._tokenizer = tokenizer
        self._tokens: dict[str, list[int]] = {}
        self._pieces: dict[str, list[str]] = {}

    def mapped(self, weights: csr_matrix, texts: Sequence[str]) -> csr_matrix:
        """Return weights (N, V) of texts whose teacher's weights are (N, teacher's V)."""
        return _matrix(map(self._row, *_entries(weights), texts), len(texts), len(self._tokenizer))

    def _row(self, columns: list[int], weights: list[float], text: str) -> dict[int, float]:
        terms = [self._terms[column] for column in columns]
        row: dict[int, float] = {}
        for word, weight in self._word_weights(dict(zip(terms, weights, strict=True)), text).items():
            for token_id in self._token_ids(word):
                row[token_id] = max(weight, row.get(token_id, 0))
        return row

    def _word_weights(self, vector: dict[str, float], text: str) -> dict[str, float]:
        """Return the weight of every word in the vector and in the text.

        A wordpiece that is a whole word has its own weight. A word that the teacher cuts has the weight of
        its heaviest piece. Without it the student would learn to switch the word off.
        """
        weights = {term: weight for term, weight in vector.items() if term.isalnum()}  # no ##ing
        words = dict.fromkeys(re.findall(r"[^\W_]+", text.lower()))  # in order: ties never change
        for word in words:
            if word not in self._pieces:
                self._pieces[word] = self._teacher.tokenize(word)
            if len(self._pieces[word]) > 1:
                weights[word] = max(vector.get(piece, 0) for piece in self._pieces[word])
        return weights

    def _token_ids(self, word: str) -> list[int]:
        """Return the ids of a word's tokens after a space."""
        if word not in self._tokens:
            token_ids = self._tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
            self._tokens[word] = token_ids if len(token_ids) <= MOST_TOKENS else []
        return self._tokens[word]


def _entries(weights: csr_matrix) -> tuple[Iterator[list[int]], Iterator[list[float]]]:
    """Columns of each row, and their weights."""
    starts = weights.indptr.tolist()
    spans = [slice(start, stop) for start, stop in zip(starts, starts[1:], strict=False)]
    return (weights.indices[span].tolist() for span in spans), (weights.data[span].tolist() for span in spans)


def _matrix(rows: Iterator[dict[int, float]], number: int, vocabulary: int) -> csr_matrix:
    """Make a matrix (number, vocabulary) of rows."""
    filled = list(rows)
    starts = np.cumsum([0, *map(len, filled)])
    columns = np.array([column for row in filled for column in row], dtype=np.int64)
    data = np.array([weight for row in filled for weight in row.values()], dtype=np.float32)
    matrix = csr_matrix((data, columns, starts), shape=(number, vocabulary))
    matrix.sort_indices()
    return matrix
