"""Memory and time of the streamed head against the naive one, in inference and in training."""

from pathlib import Path
from typing import Any

import head_memory
import torch
import train_head

from csplade_pyserini.model.head import SLICE_BYTES
from gpu_parts.record import Record
from gpu_parts.scale import Scale

SLICES = (1, 4, 16)
"""Slices of the streamed head that are tried: so many times the default."""
ACTIVE = 0.01


def run(scale: Scale, folder: Path, record: Record) -> None:
    """Both heads, in each dtype."""
    record.add("inference", **scale.head)
    record.add("training", **scale.trained_head, active=ACTIVE)
    for dtype in scale.head_dtypes:
        for side in ("naive", "streamed"):
            record.measure(("inference", dtype, side), infer, scale, dtype, side, SLICE_BYTES)
    for dtype in scale.head_dtypes:
        for head in ("frozen", "trained"):
            for side in train_head.SIDES:
                record.measure(("training", dtype, f"{head} head", side), learn, scale, dtype, head, side)
    for times in SLICES:
        size = times * SLICE_BYTES
        record.measure(
            ("slices", f"{size // 2**20} MiB"), infer, scale, scale.head_dtypes[0], "streamed", size
        )


def infer(scale: Scale, dtype: str, side: str, slice_bytes: int) -> dict[str, Any]:
    """The head of one forward pass."""
    size = scale.head
    extra_bytes, seconds = head_memory.measure(
        side,
        size["batch"],
        size["length"],
        size["hidden"],
        size["vocabulary"],
        scale.device,
        getattr(torch, dtype),
        slice_bytes,
    )
    return {"extra_bytes": extra_bytes, "seconds": seconds}


def learn(scale: Scale, dtype: str, head: str, side: str) -> dict[str, Any]:
    """The head of one training step."""
    size = scale.trained_head
    extra_bytes, forward, backward = train_head.measure(
        side,
        head == "trained",
        size["batch"],
        size["length"],
        size["size"],
        size["vocabulary"],
        ACTIVE,
        scale.device,
        getattr(torch, dtype),
    )
    return {"extra_bytes": extra_bytes, "forward_seconds": forward, "backward_seconds": backward}
