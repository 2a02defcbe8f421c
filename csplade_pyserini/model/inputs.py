"""Texts to padded batches of token ids, as the card says: case, prefix, truncation, BOS, EOS, echo.

    BOS + (prefix + text, cut to max_length) + EOS,  twice with echo,  then padding on the right

Echo repeats the unpadded tokens, so a vector never depends on its batch. (The authors' later code
repeats the padded batch, which puts the padding of the first copy between the copies.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from csplade_pyserini.cards import EncoderCard, Side
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import lone_surrogates


@dataclass(frozen=True)
class Batch:
    """B texts of up to L tokens on one device."""

    ids: Tensor
    """(B, L) token ids."""
    attention_mask: Tensor
    """(B, L) 1 where there is a token, 0 at padding."""
    pool_mask: Tensor
    """(B, L) True where logits count: every token, or with echo those of the second copy."""


def tokenize(
    texts: Sequence[str], *, side: Side, card: EncoderCard, tokenizer: PreTrainedTokenizerBase
) -> list[list[int]]:
    """Token ids of each text, echo not yet applied. An empty or blank text has none, not even BOS.

    Raises InputError on a text that UTF-8 cannot hold (lone surrogates).
    """
    prefix, limit, _ = card.side(side)
    head = [_required(tokenizer.bos_token_id, "bos", card)] if card.add_bos else []
    tail = [_required(tokenizer.eos_token_id, "eos", card)] if card.add_eos else []
    filled = [prefix + (text.lower() if card.lowercase else text) for text in texts if text.strip()]
    try:
        rows = iter(tokenizer(filled, add_special_tokens=False, verbose=False)["input_ids"] if filled else [])
    except TypeError as error:
        broken = next(filter(lone_surrogates, filled), None)
        if broken is None:
            raise
        raise InputError(f"the text {broken!r} holds a lone surrogate, which UTF-8 cannot hold") from error
    return [head + next(rows)[:limit] + tail if text.strip() else [] for text in texts]


def token_spans(
    text: str, *, side: Side, card: EncoderCard, tokenizer: PreTrainedTokenizerBase
) -> tuple[str, list[tuple[int, int]]]:
    """The text as the tokenizer sees it (prefix, case), and of each of `tokenize`'s tokens the characters it stands for.

    BOS, EOS and tokens without characters of their own have empty spans.
    """
    [row] = tokenize([text], side=side, card=card, tokenizer=tokenizer)
    if not row:
        return "", []
    seen = card.side(side).prefix + (text.lower() if card.lowercase else text)
    offsets = tokenizer(seen, add_special_tokens=False, return_offsets_mapping=True, verbose=False)[
        "offset_mapping"
    ]
    inner = [(int(start), int(end)) for start, end in offsets[: len(row) - card.add_bos - card.add_eos]]
    last = inner[-1][1] if inner else 0
    return seen, [(0, 0)] * card.add_bos + inner + [(last, last)] * card.add_eos


def _required(token_id: int | None, key: str, card: EncoderCard) -> int:
    if token_id is None:
        raise InputError(f"card {card.name}: add_{key} is true, but its tokenizer has no {key.upper()} token")
    return token_id


def pad(rows: Sequence[list[int]], *, echo: bool, device: torch.device, pad_id: int = 0) -> Batch:
    """One batch of token id rows, padded on the right; pad_id is any valid id, it is never seen."""
    lengths = torch.tensor([len(row) for row in rows])
    copies = 2 if echo else 1
    width = max(1, copies * int(lengths.max()))
    ids = torch.full((len(rows), width), pad_id)
    for filled, row in zip(ids, rows, strict=True):
        filled[: copies * len(row)] = torch.tensor(row * copies, dtype=torch.long)
    position = torch.arange(width)
    attention_mask = position < copies * lengths[:, None]
    pool_mask = attention_mask & (position >= (copies - 1) * lengths[:, None])
    return Batch(ids.to(device), attention_mask.long().to(device), pool_mask.to(device))
