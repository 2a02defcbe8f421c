"""Extra peak memory of the streamed head against the naive one, at the shape of Llama-3.2-1B.

    python run_scripts/bench/head_memory.py [--batch 32 --length 256 --hidden 2048 --vocabulary 128256]

Each side runs in a process of its own, since a process's peak memory never goes down. What is printed is
the peak above the memory in use just before the call: hidden states and head weights are not counted.
"""

import argparse
import functools
import multiprocessing
import resource
import time

import torch

from csplade_pyserini.model.head import SLICE_BYTES, activate, naive_peaks, streamed_peaks

LIMIT = 1 / 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("batch", 32), ("length", 256), ("hidden", 2048), ("vocabulary", 128_256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    args = parser.parse_args()
    dtype = getattr(torch, args.dtype)
    shape = (args.batch, args.length, args.hidden, args.vocabulary)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        (naive, naive_time), (streamed, streamed_time) = (
            pool.apply(measure, (side, *shape, args.device, dtype)) for side in ("naive", "streamed")
        )
    logits = dtype.itemsize * args.batch * args.length * args.vocabulary
    print(
        f"B {args.batch}, L {args.length}, H {args.hidden}, V {args.vocabulary}, {args.dtype}, {described(args.device)}"
    )
    print(f"the (B, L, V) logits alone: {logits / 2**20:,.0f} MiB")
    print(f"naive:    {naive / 2**20:8,.0f} MiB extra at peak, {naive_time:6.1f} s")
    print(f"streamed: {streamed / 2**20:8,.0f} MiB extra at peak, {streamed_time:6.1f} s")
    print(
        f"streamed / naive: memory {streamed / naive:.4f} (at most {LIMIT:.4f} wanted), time {streamed_time / naive_time:.2f}"
    )
    return 0 if streamed <= naive * LIMIT else 1


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
    """(extra peak bytes, seconds) of the head alone."""
    peaks_of = naive_peaks if side == "naive" else functools.partial(streamed_peaks, slice_bytes=slice_bytes)
    with torch.device(device), torch.inference_mode():
        states = torch.randn(batch, length, hidden_size, dtype=dtype)
        head = torch.randn(vocabulary, hidden_size, dtype=dtype)
        mask = torch.arange(length) < torch.randint(1, length + 1, (batch, 1))
        activate(peaks_of(states[:1, :8], mask[:1, :8], head[:512]))  # warm up the threads and libraries
        if device == "cuda":
            activate(peaks_of(states, mask, head))  # a GPU chooses its kernels by shape
        before, start = bytes_in_use(device), time.perf_counter()
        activate(peaks_of(states, mask, head))
        wait_for(device)
        return peak_bytes(device) - before, time.perf_counter() - start


def bytes_in_use(device: str) -> int:
    """What the next peak is counted from."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    return peak_bytes(device)


def wait_for(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_bytes(device: str = "cpu") -> int:
    """Highest memory in use so far: a process's on a CPU, the tensors' on a GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def described(device: str) -> str:
    """The device, for the first line."""
    return torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"


if __name__ == "__main__":
    raise SystemExit(main())
