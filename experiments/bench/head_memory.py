"""Measure the extra peak memory of the streamed head against the naive one.

    python experiments/bench/head_memory.py [--batch 32 --length 256 --hidden 2048 --vocabulary 128256]
    python experiments/bench/head_memory.py --device cuda --dtype bfloat16

The default shape is Llama-3.2-1B's. Each side runs in its own process, since a process's peak memory never
goes down. The script prints the peak above the memory in use just before the call, so hidden states and head
weights are not counted.
"""

import argparse
import functools
import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence

import torch

from csplade_pyserini.model.head import SLICE_BYTES, activate, naive_peaks, streamed_peaks

LIMIT = 1 / 20
"""Wanted ratio of the streamed head's memory to the naive one's."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in (("batch", 32), ("length", 256), ("hidden", 2048), ("vocabulary", 128_256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    args = parser.parse_args(argv)
    dtype: torch.dtype = getattr(torch, args.dtype)
    task = (args.batch, args.length, args.hidden, args.vocabulary, args.device, dtype)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        naive, naive_time = pool.apply(measure, ("naive", *task))
        streamed, streamed_time = pool.apply(measure, ("streamed", *task))
    logits = dtype.itemsize * args.batch * args.length * args.vocabulary
    print(
        f"B {args.batch}, L {args.length}, H {args.hidden}, V {args.vocabulary}, {args.dtype}, "
        f"{described(args.device)}"
    )
    print(f"the (B, L, V) logits alone: {logits / 2**20:,.0f} MiB")
    print(f"naive:    {naive / 2**20:8,.0f} MiB extra at peak, {naive_time:6.1f} s")
    print(f"streamed: {streamed / 2**20:8,.0f} MiB extra at peak, {streamed_time:6.1f} s")
    print(
        f"streamed / naive: memory {streamed / naive:.4f} (at most {LIMIT:.4f} wanted), "
        f"time {streamed_time / naive_time:.2f}"
    )
    return int(streamed > naive * LIMIT)


def measure(
    side: str,
    batch: int,
    length: int,
    hidden_size: int,
    vocabulary: int,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    slice_bytes: int = SLICE_BYTES,
) -> tuple[int, float]:
    """Return the extra peak bytes and the seconds of the head alone."""
    sides: dict[str, Callable[..., torch.Tensor]] = {
        "naive": naive_peaks,
        "streamed": functools.partial(streamed_peaks, slice_bytes=slice_bytes),
    }
    peaks_of = sides[side]
    with torch.device(device), torch.inference_mode():
        states = torch.randn(batch, length, hidden_size, dtype=dtype)
        head = torch.randn(vocabulary, hidden_size, dtype=dtype)
        mask = torch.arange(length) < torch.randint(1, length + 1, (batch, 1))
        activate(peaks_of(states[:1, :8], mask[:1, :8], head[:512]))  # warm up the threads and libraries
        if device == "cuda":
            activate(peaks_of(states, mask, head))  # a GPU chooses its kernels by shape
        before = bytes_in_use(device)
        start = time.perf_counter()
        activate(peaks_of(states, mask, head))
        wait_for(device)
        seconds = time.perf_counter() - start
    # A small shape may fit into memory that was free before: at least one byte, for the ratio's sake.
    return max(1, peak_bytes(device) - before), seconds


def bytes_in_use(device: str) -> int:
    """Return the bytes that the next peak is counted from."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    return peak_bytes(device)


def wait_for(device: str) -> None:
    """Wait until the device has done its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_bytes(device: str = "cpu") -> int:
    """Return the highest memory so far: this process's on a CPU, the tensors' on a GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def described(device: str) -> str:
    """Name the device for the first line."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} threads"


if __name__ == "__main__":
    raise SystemExit(main())
