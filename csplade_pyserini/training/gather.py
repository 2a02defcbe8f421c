"""Tensors of all processes as one, with a gradient: in-batch negatives and FLOPS see the global batch."""

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_functional
from torch import Tensor


def process_rank() -> int:
    """Number of this process, from 0."""
    if not _distributed():
        return 0
    return dist.get_rank()


def gather(tensor: Tensor) -> Tensor:
    """Rows of all processes in order of rank: (B, ...) to (processes * B, ...).

    Every process has to have as many rows. The backward pass sums what the losses of all processes say of
    this process's rows. Each loss is a mean over its own queries, and DDP takes the mean over processes.
    So gradients are those of one process with the whole batch.
    """
    if not _distributed():
        return tensor
    if tensor.requires_grad:
        return torch.cat(dist_functional.all_gather(tensor.contiguous()))  # type: ignore[no-untyped-call]
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
