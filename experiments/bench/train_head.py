"""Measure the streamed head in training against autograd through all logits.

    python experiments/bench/train_head.py [--batch 16 --length 128 --hidden 576 --vocabulary 49152] \\
        [--active 0.01]

Each side runs forward and backward in its own process, since a process's peak memory never goes down. The
script prints the peak above the memory in use just before the forward pass. "Frozen head" is what LoRA
trains: gradients go to the hidden states alone. "Trained head" is full-parameter training: both sides' memory
includes the head's (V, H) gradient.
"""

import argparse
import multiprocessing
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from head_memory import bytes_in_use, peak_bytes, wait_for

from csplade_pyserini.model.head import activate, naive_peaks, trainable_peaks

LIMIT = 1 / 8
"""Wanted ratio of the streamed head's memory to the naive one's, for a frozen head."""
SIDES = {"naive": naive_peaks, "streamed": trainable_peaks}


class Shape(NamedTuple):
    """Batch, tokens, hidden size, vocabulary, and the share of active terms."""

    batch: int
    length: int
    hidden: int
    vocabulary: int
    active: float


class Cost(NamedTuple):
    """Extra peak bytes, and the seconds of both passes."""

    memory: int
    forward: float
    backward: float


def main(argv: Sequence[str] | None = None) -> int:
    shape = Shape(**vars(parse_args(argv)))
    logits = 4 * shape.batch * shape.length * shape.vocabulary / 2**20
    print(
        f"B {shape.batch}, L {shape.length}, H {shape.hidden}, V {shape.vocabulary}, "
        f"{shape.active:.0%} of the terms active, float32, {torch.get_num_threads()} threads; "
        f"the (B, L, V) logits: {logits:,.0f} MiB"
    )
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        frozen = {side: pool.apply(measure, (side, False, *shape)) for side in SIDES}
        ratio = compare("frozen", frozen, f" (at most {LIMIT} wanted)")
        trained = {side: pool.apply(measure, (side, True, *shape)) for side in SIDES}
        compare("trained", trained, "")
    return int(ratio > LIMIT)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in (("batch", 16), ("length", 128), ("hidden", 576), ("vocabulary", 49_152)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--active",
        type=float,
        default=0.01,
        help="share of terms that are active and have a gradient (default 0.01)",
    )
    return parser.parse_args(argv)


def compare(head: str, costs: dict[str, Cost], wanted: str) -> float:
    """Print both sides, and return the ratio of their memory."""
    print(f"{head} head")
    for side, cost in costs.items():
        print(
            f"  {side:8} {cost.memory / 2**20:8,.0f} MiB extra at peak, forward {cost.forward:6.2f} s, "
            f"backward {cost.backward:6.2f} s"
        )
    naive = costs["naive"]
    streamed = costs["streamed"]
    ratio = streamed.memory / naive.memory
    time_ratio = (streamed.forward + streamed.backward) / (naive.forward + naive.backward)
    print(f"  streamed / naive: memory {ratio:.3f}{wanted}, time {time_ratio:.2f}")
    return ratio


def backward(loss: Any) -> None:
    """Run the backward pass; torch leaves that method without types."""
    loss.backward()


def measure(
    side: str,
    trained: bool,
    batch: int,
    length: int,
    hidden_size: int,
    vocabulary: int,
    active: float,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Cost:
    """Run head and activation, forward and backward."""
    torch.manual_seed(1)
    peaks_of = SIDES[side]
    with torch.device(device):
        states = torch.randn(batch, length, hidden_size, dtype=dtype, requires_grad=True)
        head = torch.randn(vocabulary, hidden_size, dtype=dtype, requires_grad=trained)
        mask = torch.arange(length) < torch.randint(length // 2, length + 1, (batch, 1))
    with torch.no_grad():
        # This bias leaves the wanted share of the terms above zero.
        sample = naive_peaks(states, mask, head[:256]).flatten()
        bias = -torch.quantile(sample.float(), 1 - active).to(dtype).expand(vocabulary)
    # Warm up the threads and libraries.
    backward(activate(peaks_of(states[:1, :8], mask[:1, :8], head[:512], bias=bias[:512])).sum())
    if device == "cuda":  # a GPU chooses its kernels by shape
        backward(activate(peaks_of(states, mask, head, bias=bias)).square().sum())
    states.grad = None
    head.grad = None
    before = bytes_in_use(device)
    start = time.perf_counter()
    weights = activate(peaks_of(states, mask, head, bias=bias))
    wait_for(device)
    middle = time.perf_counter()
    backward(weights.square().sum())
    wait_for(device)
    end = time.perf_counter()
    # A small shape may fit into memory that was free before: at least one byte, for the ratio's sake.
    return Cost(max(1, peak_bytes(device) - before), middle - start, end - middle)


if __name__ == "__main__":
    raise SystemExit(main())
