"""The head in training, forward and backward: streamed against autograd through the whole (B, L, V) logits.

    python run_scripts/bench/train_head.py [--batch 16 --length 128 --hidden 576 --vocabulary 49152 --active 0.01]

Each side runs in a process of its own, since a process's peak memory never goes down. What is printed is the
peak above the memory in use just before the forward pass. Frozen head: what LoRA trains, gradients go to the
hidden states alone. Trained head: full-parameter training; its (V, H) gradient is among the memory of both sides.
"""

import argparse
import multiprocessing
import time

import torch
from head_memory import bytes_in_use, peak_bytes, wait_for

from csplade_pyserini.model.head import activate, naive_peaks, trainable_peaks

LIMIT = 1 / 8
SIDES = {"naive": naive_peaks, "streamed": trainable_peaks}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("batch", 16), ("length", 128), ("hidden", 576), ("vocabulary", 49_152)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--active",
        type=float,
        default=0.01,
        help="share of the terms that are active, so have a gradient (default 0.01)",
    )
    args = parser.parse_args()
    shape = (args.batch, args.length, args.hidden, args.vocabulary, args.active)
    logits = 4 * args.batch * args.length * args.vocabulary / 2**20
    print(
        f"B {args.batch}, L {args.length}, H {args.hidden}, V {args.vocabulary}, {args.active:.0%} of the terms active, "
        f"float32, {torch.get_num_threads()} threads; the (B, L, V) logits: {logits:,.0f} MiB"
    )
    within = True
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for trained in (False, True):
            naive, streamed = (pool.apply(measure, (side, trained, *shape)) for side in SIDES)
            print(f"{'trained' if trained else 'frozen'} head")
            for side, (memory, forward, backward) in zip(SIDES, (naive, streamed), strict=True):
                print(
                    f"  {side:8} {memory / 2**20:8,.0f} MiB extra at peak, forward {forward:6.2f} s, backward {backward:6.2f} s"
                )
            ratio = streamed[0] / naive[0]
            wanted = "" if trained else f" (at most {LIMIT} wanted)"
            print(
                f"  streamed / naive: memory {ratio:.3f}{wanted}, time {sum(streamed[1:]) / sum(naive[1:]):.2f}"
            )
            within &= trained or ratio <= LIMIT
    return 0 if within else 1


def measure(
    side: str,
    trained: bool,
    batch: int,
    length: int,
    size: int,
    vocabulary: int,
    active: float,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[int, float, float]:
    """(extra peak bytes, seconds forward, seconds backward) of head and activation."""
    torch.manual_seed(1)
    peaks_of = SIDES[side]
    with torch.device(device):
        states = torch.randn(batch, length, size, dtype=dtype, requires_grad=True)
        head = torch.randn(vocabulary, size, dtype=dtype, requires_grad=trained)
        mask = torch.arange(length) < torch.randint(length // 2, length + 1, (batch, 1))
    with torch.no_grad():
        # The bias that leaves the wanted share of the terms above zero.
        peaks = naive_peaks(states, mask, head[:256]).flatten()
        bias = -torch.quantile(peaks.float(), 1 - active).to(dtype).expand(vocabulary)
    activate(
        peaks_of(states[:1, :8], mask[:1, :8], head[:512], bias=bias[:512])
    ).sum().backward()  # warm up threads and libraries
    if device == "cuda":
        activate(peaks_of(states, mask, head, bias=bias)).square().sum().backward()  # kernels go by shape
    states.grad = head.grad = None
    before, start = bytes_in_use(device), time.perf_counter()
    weights = activate(peaks_of(states, mask, head, bias=bias))
    wait_for(device)
    middle = time.perf_counter()
    weights.square().sum().backward()
    wait_for(device)
    return peak_bytes(device) - before, middle - start, time.perf_counter() - middle


if __name__ == "__main__":
    raise SystemExit(main())
