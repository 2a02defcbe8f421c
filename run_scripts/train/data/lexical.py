"""Lexical weights: BM25 for passages, a constant for queries."""

import math
from collections import Counter
from collections.abc import Iterable

from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

LEXICAL_QUERY = 100
"""Impact added to a mapped vector for each token of a query: the teacher knows little of rare words."""
LEXICAL_DOCUMENT = 30
"""Impact added for each unit of BM25 weight of a passage's token.

Both factors are about the best of those tried on NFCorpus's dev split.
"""
LEXICAL_LENGTH = 400
"""Number of tokens that are counted in a text."""
K1 = 1.2
"""BM25's saturation of term frequency."""
B = 0.75
"""BM25's length normalization."""


def lexical_tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the tokens with a letter or a digit, lower-cased as in training and encoding."""
    tokens: list[str] = tokenizer.tokenize(f" {text.lower()}", add_special_tokens=False)
    return [token for token in tokens[:LEXICAL_LENGTH] if any(map(str.isalnum, token.removeprefix("Ġ")))]


def query_impacts(text: str, tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Return the same impact for every token of a query."""
    return dict.fromkeys(lexical_tokens(text, tokenizer), LEXICAL_QUERY)


class Bm25:
    """BM25 weights for the tokens of a passage, with statistics of all passages."""

    def __init__(self, passages: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.frequency: Counter[str] = Counter()
        self.passages = 0
        tokens = 0
        for text in tqdm(passages, desc="count tokens", unit="passage", mininterval=5):
            found = lexical_tokens(text, tokenizer)
            self.frequency.update(set(found))
            self.passages += 1
            tokens += len(found)
        self.mean_length = tokens / max(1, self.passages)

    def impacts(self, text: str) -> dict[str, int]:
        """Return an impact for every token of a passage."""
        counts = Counter(lexical_tokens(text, self.tokenizer))
        norm = K1 * (1 - B + B * counts.total() / self.mean_length)
        impacts = {}
        for token, count in counts.items():
            weight = self.rarity(token) * count * (K1 + 1) / (count + norm)
            impacts[token] = round(LEXICAL_DOCUMENT * weight)
        return impacts

    def rarity(self, token: str) -> float:
        """Return Lucene's inverse document frequency."""
        return math.log(1 + (self.passages - self.frequency[token] + 0.5) / (self.frequency[token] + 0.5))
