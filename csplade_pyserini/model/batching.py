"""Batches of texts within a budget of padded tokens, and the budget that a device is fastest with."""

import sys
import time
from collections.abc import Callable, Sequence

import torch

from csplade_pyserini.errors import InputError

CPU_BATCH_TOKENS = 1024
"""More do not fit into a CPU's caches: 4,096 took 1.3 times as long (experiments/bench/encode.py)."""
GPU_BATCH_TOKENS = 4096
LEAST_BATCH_TOKENS = 512
"""First budget that fastest_budget tries."""
MOST_BATCH_TOKENS = 1 << 20
"""Largest budget that fastest_budget tries."""
WORTH = 1.03
"""Least speed-up that makes twice the budget worth its memory."""
_NO_KERNEL = "could not create a primitive"
"""Whole message of oneDNN when there is no memory for a kernel's machine code."""


def usual_batch_tokens(device: torch.device) -> int:
    """Default number of tokens in a batch."""
    if device.type == "cpu":
        return CPU_BATCH_TOKENS
    return GPU_BATCH_TOKENS


class TokenBudget:
    """Padded-token budget; halved after each out-of-memory."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def texts(self, length: int) -> int:
        """Number of texts of `length` tokens in a batch, at least one."""
        return max(1, self.tokens // max(1, length))

    def halve(self, texts: int) -> None:
        """Halve the budget after a batch of so many texts did not fit. Raises InputError on one text."""
        if texts == 1:
            raise InputError(
                "a single text does not fit into the device's memory: lower --max-length, "
                "or use another device or dtype"
            )
        self.tokens //= 2
        print(f"out of memory: going on with batches of at most {self.tokens} tokens", file=sys.stderr)


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Indices of texts by length, so that texts of one batch are about as long."""
    return sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "can't allocate memory" in str(error) or str(error) == _NO_KERNEL


def fastest_budget(encode: Callable[[list[list[int]]], object], length: int, vocabulary: int) -> int:
    """Number of tokens in the batches that `encode` is fastest with.

    The budget is doubled until that is no longer worth it, or memory runs out.

    encode: one forward pass over rows of token ids; it waits for its result. length: of every row.
    vocabulary: ids below it are valid.
    """
    generator = torch.Generator().manual_seed(0)
    best = 0
    best_rate = 0.0
    tokens = max(length, LEAST_BATCH_TOKENS)
    while tokens <= MOST_BATCH_TOKENS:
        rows = torch.randint(vocabulary, (max(1, tokens // length), length), generator=generator).tolist()
        try:
            rate = len(rows) * length / _seconds(encode, rows)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or not best:
                raise
            break
        if rate < best_rate * WORTH:
            break
        best = tokens
        best_rate = rate
        tokens *= 2
    return best


def _seconds(encode: Callable[[list[list[int]]], object], rows: list[list[int]]) -> float:
    """Seconds of the second pass; the first pass of a shape pays for its set-up."""
    encode(rows)
    start = time.perf_counter()
    encode(rows)
    return time.perf_counter() - start
