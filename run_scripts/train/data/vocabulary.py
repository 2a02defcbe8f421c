"""The command `vocabulary`: the teacher's WordPiece tokenizer, cut to the terms that the texts use."""

import string
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from outputs import absent, read_contents
from transformers import AutoTokenizer, BertTokenizerFast, PreTrainedTokenizerBase

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import whole_folder
from csplade_pyserini.folding import CONTINUATION

CHARACTERS = frozenset(string.ascii_lowercase + string.digits + string.punctuation)
"""Characters that stay terms, alone and as pieces: a rare word can still be cut."""
PIECE_CHARACTERS = 2
"""Pieces of so many letters or digits stay too."""


def prepare_vocabulary(texts: Sequence[Path], teacher: Path, output: Path, count: int) -> None:
    """Write a tokenizer with the `count` terms that the texts use most, and all short pieces.

    Raises InputError if the teacher has no WordPiece tokenizer.
    """
    if not absent(output / "tokenizer.json"):
        return
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    terms = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    if not any(term.startswith(CONTINUATION) for term in terms):
        raise InputError(f"the tokenizer in {teacher} has no {CONTINUATION} pieces; wanted a WordPiece")
    uses = count_uses(texts, tokenizer)
    most_used = set(np.argsort(-uses, kind="stable")[:count].tolist())
    special = set(tokenizer.all_special_ids)
    kept = [
        term
        for token_id, term in enumerate(terms)
        if token_id in most_used or token_id in special or is_short_piece(term)
    ]
    kept.sort(key=lambda term: term != tokenizer.pad_token)  # padding is 0, the rest keeps its order
    cut = BertTokenizerFast(vocab={term: number for number, term in enumerate(kept)}, do_lower_case=True)
    with whole_folder(output) as partial:
        cut.save_pretrained(partial)
    share = uses[tokenizer.convert_tokens_to_ids(kept)].sum() / uses.sum()
    print(f"{output}: {len(kept)} of {len(terms)} terms, {share:.2%} of the tokens", file=sys.stderr)


def count_uses(texts: Sequence[Path], tokenizer: PreTrainedTokenizerBase) -> NDArray[np.int64]:
    """Return how often each of the V terms stands in the texts of JSON Lines files, (V)."""
    uses = np.zeros(len(tokenizer), dtype=np.int64)
    for file in texts:
        for _, contents in read_contents(file):
            token_ids = tokenizer(contents, add_special_tokens=False)["input_ids"]
            np.add.at(uses, token_ids, 1)
    return uses


def is_short_piece(term: str) -> bool:
    """Whether a term is one character, or a piece of PIECE_CHARACTERS letters or digits."""
    text = term.removeprefix(CONTINUATION)
    if text in CHARACTERS:
        return True
    return term != text and len(text) == PIECE_CHARACTERS and text.isascii() and text.isalnum()
