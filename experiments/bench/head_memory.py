"""Extra peak memory of the streamed head against the naive one, at the shape of Llama-3.2-1B.

    python run_scripts/bench/head_memory.py [--batch 32 --length 256 --hidden 2048 --vocabulary 128256]

Each side runs in a process of its own, since a process's peak memory never goes down. What is printed is
the peak above the memory in use just before the call: hidden states and head weights are not counted.
"""

import argparse
import multiprocessing
import resource
import time

import torch

from csplade_pyserini.model.head import activate, naive_peaks, streamed_peaks

LIMIT = 1 / 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("batch", 32), ("length", 256), ("hidden", 2048), ("vocabulary", 128_256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    shape = (args.batch, args.length, args.hidden, args.vocabulary)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        (naive, naive_time), (streamed, streamed_time) = (
            pool.apply(measure, (side, *shape)) for side in ("naive", "streamed")
        )
    logits = 4 * args.batch * args.length * args.vocabulary
    print(
        f"B {args.batch}, L {args.length}, H {args.hidden}, V {args.vocabulary}, float32, {torch.get_num_threads()} threads"
    )
    print(f"the (B, L, V) logits alone: {logits / 2**20:,.0f} MiB")
    print(f"naive:    {naive / 2**20:8,.0f} MiB extra at peak, {naive_time:6.1f} s")
    print(f"streamed: {streamed / 2**20:8,.0f} MiB extra at peak, {streamed_time:6.1f} s")
    print(
        f"streamed / naive: memory {streamed / naive:.4f} (at most {LIMIT:.4f} wanted), time {streamed_time / naive_time:.2f}"
    )
    return 0 if streamed <= naive * LIMIT else 1


def measure(side: str, batch: int, length: int, hidden_size: int, vocabulary: int) -> tuple[int, float]:
    """(extra peak bytes, seconds) of the head alone."""
    states, head = torch.randn(batch, length, hidden_size), torch.randn(vocabulary, hidden_size)
    mask = torch.arange(length) < torch.randint(1, length + 1, (batch, 1))
    peaks_of = naive_peaks if side == "naive" else streamed_peaks
    with torch.inference_mode():
        activate(peaks_of(states[:1, :8], mask[:1, :8], head[:512]))  # warm up the threads and libraries
        before, start = peak_bytes(), time.perf_counter()
        activate(peaks_of(states, mask, head))
        return peak_bytes() - before, time.perf_counter() - start


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    raise SystemExit(main())
