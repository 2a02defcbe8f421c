"""The streamed head: LM-head logits to weights without ever holding the (B, L, V) logits.

Letters: B batch, L length in tokens, H hidden size, V vocabulary, S columns of one slice.

`log1p(relu(x))` grows with x, so the maximum over a text's tokens is taken on raw logits, slice by
slice of the vocabulary, and activated once (CSPLADE, arXiv 2504.10816, eq. 1). Extra memory is one
slice of logits and the (B, V) result.
"""

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
    """Largest logit of every vocabulary entry over a text's tokens: (B, V), of hidden's dtype.

    hidden (B, L, H): last hidden states. mask (B, L): True where a token is pooled. head (V, H).
    bias (V). A row of the mask without any True gives -inf throughout.
    """
    batch, length, size = hidden.shape
    mask = mask.bool()
    # A position outside the mask becomes a copy of one inside it: the maximum can't tell, and the
    # logits need no masking pass of their own.
    source = torch.where(mask, torch.arange(length, device=mask.device), mask.int().argmax(dim=1, keepdim=True))
    tokens = hidden.gather(1, source[..., None].expand(-1, -1, size)).reshape(batch * length, size)

    vocabulary = head.shape[0]
    columns = max(1, min(vocabulary, slice_bytes // max(1, batch * length * hidden.element_size())))
    peaks = hidden.new_empty(batch, vocabulary)
    logits = hidden.new_empty(batch * length * columns)
    for start in range(0, vocabulary, columns):
        stop = min(start + columns, vocabulary)
        part = logits[: batch * length * (stop - start)].view(batch * length, stop - start)
        torch.matmul(tokens, head[start:stop].T, out=part)
        torch.amax(part.view(batch, length, stop - start), dim=1, out=peaks[:, start:stop])
    if bias is not None:
        peaks += bias
    return peaks.masked_fill_(~mask.any(dim=1, keepdim=True), -torch.inf)


def naive_peaks(hidden: Tensor, mask: Tensor, head: Tensor, *, bias: Tensor | None = None) -> Tensor:
    """What streamed_peaks computes, by way of the whole (B, L, V) logits: the oracle of its tests."""
    logits = hidden @ head.T  # (B, L, V)
    if bias is not None:
        logits = logits + bias
    return logits.masked_fill(~mask.bool()[..., None], -torch.inf).amax(dim=1)


def activate(peaks: Tensor, logit_scale: float = 1.0) -> Tensor:
    """Weights (B, V) in float32, all >= 0: `log1p(relu(scale * peak))`; -inf gives 0."""
    return torch.log1p(torch.relu(peaks.float() * logit_scale))
