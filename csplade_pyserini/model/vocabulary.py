"""The terms of an encoder: one for each token, or one for each fold of tokens."""

import torch
from transformers import PreTrainedTokenizerBase

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.folding import fold_vocabulary
from csplade_pyserini.impacts import to_terms
from csplade_pyserini.model.head import Terms


class Vocabulary:
    """Terms of a card's tokenizer, for a head with `size` entries."""

    def __init__(self, card: EncoderCard, tokenizer: PreTrainedTokenizerBase, size: int) -> None:
        excluded = []
        if card.exclude_special_tokens:
            excluded = [number for number in tokenizer.all_special_ids if number < size]
        self.terms: list[str | None]
        """Lucene term of each column of the weights; None for ids that the tokenizer does not have."""
        self.token_terms: list[str | None]
        """Lucene term of each vocabulary id; None if it is no term."""
        self.head_terms: Terms | None = None
        """Terms as the head needs them; None if they are simply the vocabulary."""
        if card.fold == "case":
            folding = fold_vocabulary(tokenizer, size, excluded=excluded)
            self.terms = list(folding.terms)
            by_fold = [*folding.terms, None]
            self.token_terms = [by_fold[fold] for fold in folding.folds]
            self.is_term = torch.ones(len(self.terms), dtype=torch.bool)
            """(T,) True at columns that are terms."""
            folds = torch.tensor(folding.folds)
        else:
            self.terms = self.token_terms = vocabulary_terms(tokenizer, size)
            self.is_term = torch.tensor([term is not None for term in self.terms])
            self.is_term[excluded] = False
            folds = torch.arange(size).where(self.is_term, size)
        if card.fold == "case" or card.position_top_terms:
            self.head_terms = Terms(folds, len(self.terms), card.position_top_terms)


def head_terms(card: EncoderCard, tokenizer: PreTrainedTokenizerBase, size: int) -> Terms | None:
    """Terms as the head needs them, for a head with `size` entries; None if they are the vocabulary."""
    if card.fold == "none" and not card.position_top_terms:
        return None
    return Vocabulary(card, tokenizer, size).head_terms


def vocabulary_terms(tokenizer: PreTrainedTokenizerBase, size: int) -> list[str | None]:
    """Lucene term of every id below `size`; None if the tokenizer has none (Qwen pads its head)."""
    tokens: list[str | None] = [None] * size
    for token, token_id in tokenizer.get_vocab().items():
        if token_id < size:
            tokens[token_id] = token
    return to_terms(tokens)
