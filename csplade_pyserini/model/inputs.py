"""Texts to padded batches of token ids, as the card says: case, prefix, truncation, BOS, EOS, echo.

    BOS + (prefix + text, cut to max_length) + EOS,  twice with echo,  then padding on the right

Echo repeats the unpadded tokens, so a vector never depends on its batch. (The authors' later code
repeats the padded batch, which puts the padding of the first copy between the copies.)
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from csplade_pyserini.cards import EncoderCard, Side
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import lone_surrogates
from csplade_pyserini.folding import CONTINUATION
from csplade_pyserini.model.equals import first_of_equals


class Pooled(NamedTuple):
    """The tokens whose logits count, if a card leaves some out."""

    tokens: Tensor | None
    """(V,) True at token ids that count; None if all do."""
    prefix: dict[Side, list[int]]
    """Token ids before a text that do not count: those of the side's prefix."""
    skipped: int
    """Number of tokens before the prefix: 1 for BOS."""
    is_distinct: bool = False
    """Whether a token counts the first time only."""

    def prefix_length(self, row: list[int], side: Side) -> int:
        """Number of tokens of a row that are the prefix's alone; one that it shares with the text is not."""
        found = zip(row[self.skipped :], self.prefix[side], strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], found))


@dataclass(frozen=True)
class Batch:
    """B texts of up to L tokens on one device."""

    ids: Tensor
    """(B, L) token ids."""
    attention_mask: Tensor
    """(B, L) 1 at tokens, 0 at padding."""
    pool_mask: Tensor
    """(B, L) True where logits count: at every pooled token, or with echo at those of the second copy."""
    text_mask: Tensor
    """(B, L) True at tokens, pooled or not; with echo, at those of the second copy."""


def tokenize(
    texts: Sequence[str], *, side: Side, card: EncoderCard, tokenizer: PreTrainedTokenizerBase
) -> list[list[int]]:
    """Token ids of each text, before echo. An empty or blank text has none, not even BOS.

    White space around a text is left out, so that it has one vector wherever it comes from.
    Raises InputError on a text that UTF-8 cannot hold (lone surrogates).
    """
    limit = card.side(side).max_length
    head = _added_ids(card.add_bos, tokenizer.bos_token_id, "bos", card)
    tail = _added_ids(card.add_eos, tokenizer.eos_token_id, "eos", card)
    texts = [text.strip() for text in texts]
    filled = [card.as_read(text, side) for text in texts if text]
    inner = iter(_token_ids(filled, tokenizer))
    rows: list[list[int]] = []
    for text in texts:
        row: list[int] = []
        if text:
            row = head + next(inner)[:limit] + tail
        rows.append(row)
    return rows


def token_spans(
    text: str, *, side: Side, card: EncoderCard, tokenizer: PreTrainedTokenizerBase
) -> tuple[str, list[tuple[int, int]]]:
    """Text as the tokenizer reads it (prefix, case), and the span of characters of each token.

    The tokens are those of `tokenize`. BOS, EOS and tokens without characters have empty spans.
    """
    [row] = tokenize([text], side=side, card=card, tokenizer=tokenizer)
    if not row:
        return "", []
    read = card.as_read(text.strip(), side)
    encoding = tokenizer(read, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    count = len(row) - card.add_bos - card.add_eos
    inner = [(int(start), int(end)) for start, end in encoding["offset_mapping"][:count]]
    last = 0
    if inner:
        last = inner[-1][1]
    return read, [(0, 0)] * card.add_bos + inner + [(last, last)] * card.add_eos


def pad(
    rows: Sequence[list[int]],
    *,
    echo: bool,
    device: torch.device,
    pad_id: int = 0,
    pooled: Pooled | None = None,
    side: Side = "document",
) -> Batch:
    """Make one batch of rows of token ids, padded on the right.

    pad_id: any valid id; the model never sees it. pooled: as pooled_tokens makes it, for rows of one side.
    """
    copies = 1 + echo
    lengths = torch.tensor([len(row) for row in rows])
    width = max(1, copies * int(lengths.max()))
    ids = torch.full((len(rows), width), pad_id)
    for filled, row in zip(ids, rows, strict=True):
        filled[: copies * len(row)] = torch.tensor(row * copies, dtype=torch.long)
    position = torch.arange(width)
    attention_mask = position < copies * lengths[:, None]
    text_mask = attention_mask & (position >= (copies - 1) * lengths[:, None])
    pool_mask = text_mask
    if pooled is not None:
        chosen = pool_mask.clone()
        if pooled.tokens is not None:
            chosen &= pooled.tokens[ids]
        for kept, row in zip(chosen, rows, strict=True):
            first = (copies - 1) * len(row) + pooled.skipped
            kept[first : first + pooled.prefix_length(row, side)] = False
        if pooled.is_distinct:
            chosen &= first_of_equals(ids.masked_fill(~chosen, -1))
        pool_mask = torch.where(chosen.any(dim=1, keepdim=True), chosen, pool_mask)
    return Batch(ids.to(device), attention_mask.long().to(device), pool_mask.to(device), text_mask.to(device))


def pooled_tokens(card: EncoderCard, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> Pooled | None:
    """Tokens whose logits count; None if all do, as in the paper.

    Raises InputError on an unpooled term that the tokenizer does not have, and on `pool = "words"` for a
    tokenizer without word pieces.
    """
    tokens = None
    if card.pool == "words" or card.unpooled_terms:
        tokens = _pooled_ids(card, tokenizer, vocabulary)
    prefix: dict[Side, list[int]] = {"query": [], "document": []}
    if not card.pool_prefix:
        sides = list(prefix)
        rows = _token_ids([card.side(side).prefix for side in sides], tokenizer)
        prefix = dict(zip(sides, rows, strict=True))
    is_distinct = card.pool == "distinct"
    if tokens is None and not any(prefix.values()) and not is_distinct:
        return None
    return Pooled(tokens, prefix, int(card.add_bos), is_distinct)


def _pooled_ids(card: EncoderCard, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> Tensor:
    """(V,) True at token ids that are pooled. Raises InputError, as pooled_tokens does."""
    token_ids = tokenizer.get_vocab()
    pooled = torch.ones(vocabulary, dtype=torch.bool)
    for term in card.unpooled_terms:
        if term not in token_ids:
            raise InputError(
                f"card {card.name}: unpooled_terms has {term!r}; its tokenizer has no such token"
            )
        pooled[token_ids[term]] = False
    if card.pool == "words":
        pieces = [token_id for term, token_id in token_ids.items() if term.startswith(CONTINUATION)]
        if not pieces:
            raise InputError(
                f"card {card.name}: pool is 'words', but its tokenizer has no {CONTINUATION} pieces"
            )
        pooled[pieces] = False
    return pooled


def _token_ids(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    if not texts:
        return []
    try:
        rows: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    except TypeError as error:
        broken = next(filter(lone_surrogates, texts), None)
        if broken is None:
            raise
        raise InputError(f"the text {broken!r} holds a lone surrogate, which UTF-8 cannot hold") from error
    return rows


def _added_ids(is_added: bool, token_id: int | None, key: str, card: EncoderCard) -> list[int]:
    """Ids that stand before or after each text: one, or none."""
    if not is_added:
        return []
    if token_id is None:
        raise InputError(f"card {card.name}: add_{key} is true, but its tokenizer has no {key.upper()} token")
    return [token_id]
