"""Texts to batches by a budget of padded tokens, and what that budget is where the device decides."""

import sys
import time
from collections.abc import Callable, Sequence

import torch

from csplade_pyserini.errors import InputError

CPU_BATCH_TOKENS = 1024
"""More no longer fit into a CPU's caches: 4,096 took 1.3 times as long (run_scripts/bench/encode.py)."""
GPU_BATCH_TOKENS = 4096
LEAST_BATCH_TOKENS, MOST_BATCH_TOKENS = 512, 1 << 20
WORTH = 1.03
"""A budget twice as large has to be so many times as fast to be worth its memory."""


def usual_batch_tokens(device: torch.device) -> int:
    """Tokens of a batch where nobody says otherwise."""
    return CPU_BATCH_TOKENS if device.type == "cpu" else GPU_BATCH_TOKENS


class TokenBudget:
    """Padded tokens of a batch: what was asked for, or half of what the device ran out of memory with, and half again."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def texts(self, length: int) -> int:
        """How many texts of that many tokens make a batch: at least one."""
        return max(1, self.tokens // max(1, length))

    def halve(self, texts: int) -> None:
        """After a batch of so many texts did not fit. Raises InputError where that was one text."""
        if texts == 1:
            raise InputError(
                "a single text does not fit into the device's memory: lower --max-length, or use another device or dtype"
            )
        self.tokens //= 2
        print(f"out of memory: going on with batches of at most {self.tokens} tokens", file=sys.stderr)


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Indices of texts by length, so that texts of one batch are about as long."""
    return sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch says that memory ran out, on any device."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def fastest_budget(encode: Callable[[list[list[int]]], object], length: int, vocabulary: int) -> int:
    """Tokens of the batches that `encode` is fastest with: doubled until that is no longer worth it, or memory runs out.

    encode: one forward pass over token id rows, all of `length`, which waits for its result. vocabulary: ids below it are valid.
    """
    generator = torch.Generator().manual_seed(0)
    best, rate, tokens = 0, 0.0, max(length, LEAST_BATCH_TOKENS)
    while tokens <= MOST_BATCH_TOKENS:
        rows = torch.randint(vocabulary, (max(1, tokens // length), length), generator=generator).tolist()
        try:
            encode(rows)  # the first pass of a shape pays for its set-up
            start = time.perf_counter()
            encode(rows)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or not best:
                raise
            break
        now = len(rows) * length / (time.perf_counter() - start)
        if now < rate * WORTH:
            break
        best, rate, tokens = tokens, now, tokens * 2
    return best
