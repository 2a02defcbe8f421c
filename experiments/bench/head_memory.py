"""Measure the extra peak memory of the streamed head against the naive one.

    python experiments/bench/head_memory.py [--batch 32 --length 256 --hidden 2048 --vocabulary 128256]

The default shape is Llama-3.2-1B's. Each side runs in its own process, since a process's peak memory never
goes down. The script prints the peak above the memory in use just before the call, so hidden states and head
weights are not counted.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Sequence

import torch

from csplade_pyserini.model.head import activate, naive_peaks, streamed_peaks

LIMIT = 1 / 20
"""Wanted ratio of the streamed head's memory to the naive one's."""
SIDES = {"naive": naive_peaks, "streamed": streamed_peaks}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in (("batch", 32), ("length", 256), ("hidden", 2048), ("vocabulary", 128_256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args(argv)
    shape = (args.batch, args.length, args.hidden, args.vocabulary)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        naive, naive_time = pool.apply(measure, ("naive", *shape))
        streamed, streamed_time = pool.apply(measure, ("streamed", *shape))
    logits = 4 * args.batch * args.length * args.vocabulary
    print(
        f"B {args.batch}, L {args.length}, H {args.hidden}, V {args.vocabulary}, float32, "
        f"{torch.get_num_threads()} threads"
    )
    print(f"the (B, L, V) logits alone: {logits / 2**20:,.0f} MiB")
    print(f"naive:    {naive / 2**20:8,.0f} MiB extra at peak, {naive_time:6.1f} s")
    print(f"streamed: {streamed / 2**20:8,.0f} MiB extra at peak, {streamed_time:6.1f} s")
    print(
        f"streamed / naive: memory {streamed / naive:.4f} (at most {LIMIT:.4f} wanted), "
        f"time {streamed_time / naive_time:.2f}"
    )
    return int(streamed > naive * LIMIT)


def measure(side: str, batch: int, length: int, hidden_size: int, vocabulary: int) -> tuple[int, float]:
    """Return the extra peak bytes and the seconds of the head alone."""
    states = torch.randn(batch, length, hidden_size)
    head = torch.randn(vocabulary, hidden_size)
    mask = torch.arange(length) < torch.randint(1, length + 1, (batch, 1))
    peaks_of = SIDES[side]
    with torch.inference_mode():
        activate(peaks_of(states[:1, :8], mask[:1, :8], head[:512]))  # warm up the threads and libraries
        before = peak_bytes()
        start = time.perf_counter()
        activate(peaks_of(states, mask, head))
        seconds = time.perf_counter() - start
    # A small shape may fit into memory that was free before: at least one byte, for the ratio's sake.
    return max(1, peak_bytes() - before), seconds


def peak_bytes() -> int:
    """Return the most memory that this process has used."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    raise SystemExit(main())
