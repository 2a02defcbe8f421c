"""Tensors of all processes as one, with a gradient: in-batch negatives and FLOPS see the global batch."""

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_functional
from torch import Tensor


def process_rank() -> int:
    """This process's number, 0 where there is only one."""
    return dist.get_rank() if _distributed() else 0


def gather(tensor: Tensor) -> Tensor:
    """Rows of all processes, in order of rank: (B, ...) to (processes * B, ...). Every process has as many rows.

    The backward pass sums what all processes' losses say of this process's rows. With each loss a mean over
    its own queries and DDP's mean over processes, gradients are those of one process with the whole batch.
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
