"""The streamed head: hidden states to weights, without the whole (B, L, V) logits.

Letters: B batch, L length in tokens, P pooled tokens, H hidden size, V vocabulary, S columns of one slice.

`log1p(relu(x))` grows with x. So the maximum over a text's tokens is taken on raw logits, one slice of the
vocabulary at a time, and activated once (CSPLADE, arXiv 2504.10816, eq. 1). Extra memory is one slice of
logits and the (B, V) result.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

SLICE_BYTES = 32 * 2**20
"""Logits held at once. 32 MiB stays in a server CPU's cache and still fills a GPU's matrix units."""


def streamed_peaks(
    hidden: Tensor,
    mask: Tensor,
    head: Tensor,
    *,
    bias: Tensor | None = None,
    slice_bytes: int = SLICE_BYTES,
) -> Tensor:
    """Largest logit of every vocabulary entry over a text's tokens: (B, V), in hidden's dtype.

    hidden (B, L, H): last hidden states. mask (B, L): True at tokens that are pooled. head (V, H).
    bias (V). A row of the mask without a True gives -inf throughout.
    """
    mask = mask.bool()
    peaks = hidden.new_empty(hidden.shape[0], head.shape[0])
    for columns, logits in _logit_slices(hidden, mask, head, slice_bytes):
        torch.amax(logits, dim=1, out=peaks[:, columns])
    if bias is not None:
        peaks += bias
    return peaks.masked_fill_(~mask.any(dim=1, keepdim=True), -torch.inf)


def peaks_and_positions(
    hidden: Tensor, mask: Tensor, head: Tensor, *, slice_bytes: int = SLICE_BYTES
) -> tuple[Tensor, Tensor]:
    """Largest logits (B, V), and their positions in the text (B, V) int32.

    Any one of equal maxima may be found. The arguments are those of streamed_peaks, without a bias, which
    moves no maximum. Every row of the mask has to have a True.
    """
    mask = mask.bool()
    peaks = hidden.new_empty(hidden.shape[0], head.shape[0])
    positions = torch.empty_like(peaks, dtype=torch.int32)
    for columns, logits in _logit_slices(hidden, mask, head, slice_bytes):
        peaks[:, columns], positions[:, columns] = torch.max(logits, dim=1)
    return peaks, pooled_positions(mask).gather(1, positions.long()).int()


def trainable_peaks(
    hidden: Tensor,
    mask: Tensor,
    head: Tensor,
    *,
    bias: Tensor | None = None,
    slice_bytes: int = SLICE_BYTES,
) -> Tensor:
    """streamed_peaks with a gradient for hidden, head and bias.

    Neither pass holds the (B, L, V) logits. The forward pass keeps the position of every maximum, (B, V)
    int32; the backward pass scatters each gradient to that position. Ties go to one position, as with
    torch.max. Under autocast the products are in its dtype.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden = hidden.to(dtype)
        head = head.to(dtype)
    peaks: Tensor = _TrainablePeaks.apply(hidden, mask.bool(), head, slice_bytes)
    if bias is None:
        return peaks
    return peaks + bias


class _TrainablePeaks(torch.autograd.Function):
    """Maximum and position forward; products of sparse matrices backward, one entry per gradient."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, mask: Tensor, head: Tensor, slice_bytes: int) -> Tensor:
        peaks, positions = peaks_and_positions(hidden, mask, head, slice_bytes=slice_bytes)
        ctx.save_for_backward(hidden, mask, head, positions)
        return peaks.masked_fill_(~mask.any(dim=1, keepdim=True), -torch.inf)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        hidden, mask, head, positions = ctx.saved_tensors
        gradient = gradients[0].masked_fill(~mask.any(dim=1, keepdim=True), 0)
        batch, length, size = hidden.shape
        rows, terms = gradient.nonzero(as_tuple=True)
        tokens = rows * length + positions[rows, terms]
        slopes = gradient[rows, terms]
        dtype = hidden.dtype
        if hidden.element_size() <= 2:
            dtype = torch.float32  # no device has sparse products in bfloat16 or float16
        to_hidden = to_head = None
        if ctx.needs_input_grad[0]:
            to_hidden = _sparse_product(tokens, terms, slopes, head, batch * length, dtype)
            to_hidden = to_hidden.view(batch, length, size).to(hidden.dtype)
        if ctx.needs_input_grad[2]:
            states = hidden.reshape(batch * length, size)
            to_head = _sparse_product(terms, tokens, slopes, states, head.shape[0], dtype).to(head.dtype)
        return to_hidden, None, to_head, None


def _sparse_product(
    rows: Tensor, columns: Tensor, values: Tensor, dense: Tensor, height: int, dtype: torch.dtype
) -> Tensor:
    """Product of a sparse (height, n) matrix and the dense (n, H) one.

    The sparse one has `values` at (rows, columns), each pair at most once.
    """
    sparse = torch.sparse_coo_tensor(
        torch.stack([rows, columns]), values.to(dtype), (height, dense.shape[0]), check_invariants=False
    )
    product: Tensor = torch.sparse.mm(sparse, dense.to(dtype))
    return product


def _logit_slices(
    hidden: Tensor, mask: Tensor, head: Tensor, slice_bytes: int
) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the vocabulary with their logits (B, P, S). Each slice overwrites the logits before.

    P is the largest number of pooled tokens in a text: other tokens cost no logits.
    """
    positions = pooled_positions(mask)
    batch, length = positions.shape
    size = hidden.shape[2]
    vocabulary = head.shape[0]
    tokens = hidden.gather(1, positions[..., None].expand(-1, -1, size)).reshape(batch * length, size)
    columns = max(1, min(vocabulary, slice_bytes // max(1, batch * length * hidden.element_size())))
    buffer = hidden.new_empty(batch * length * columns)
    for start in range(0, vocabulary, columns):
        stop = min(start + columns, vocabulary)
        part = buffer[: batch * length * (stop - start)].view(batch * length, stop - start)
        torch.matmul(tokens, _rows(head, start, stop, hidden.dtype).T, out=part)
        yield slice(start, stop), part.view(batch, length, stop - start)


def _rows(head: Any, start: int, stop: int, dtype: torch.dtype) -> Tensor:
    """Rows of the head's weights; in `dtype` if torchao has quantized them to int8, one scale per row."""
    rows: Tensor
    if hasattr(head, "qdata"):  # torchao's tensor itself cannot be cut under inference_mode
        rows = head.qdata[start:stop].to(dtype) * head.scale[start:stop].to(dtype)
    else:
        rows = head[start:stop]
    return rows


def pooled_positions(mask: Tensor) -> Tensor:
    """Positions of each row's pooled tokens, (B, P), in order; P is the largest number of them in a row.

    Rows with fewer repeat their first one. The maximum stays the same, and the logits need no masking pass
    of their own. mask (B, L), bool.
    """
    width = max(1, int(mask.sum(dim=1).max()))
    inside_first = mask.int().argsort(dim=1, descending=True, stable=True)[:, :width]
    return torch.where(mask.gather(1, inside_first), inside_first, inside_first[:, :1])


def naive_peaks(hidden: Tensor, mask: Tensor, head: Tensor, *, bias: Tensor | None = None) -> Tensor:
    """streamed_peaks by way of the whole (B, L, V) logits: the oracle of its tests."""
    logits = hidden @ head.T  # (B, L, V)
    if bias is not None:
        logits = logits + bias
    return logits.masked_fill(~mask.bool()[..., None], -torch.inf).amax(dim=1)


def activate(peaks: Tensor, logit_scale: float = 1.0) -> Tensor:
    """Weights (B, V) in float32, all >= 0: `log1p(relu(scale * peak))`; -inf gives 0."""
    return torch.log1p(torch.relu(peaks.float() * logit_scale))
