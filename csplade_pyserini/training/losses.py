"""The losses, each a function of tensors alone.

Letters: Q queries, P passages, N passages of one query (its positive first), V vocabulary, T tokens, H hidden size.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

CHUNK_BYTES = 64 * 2**20
"""Logits of the adaptation loss held at once, in float32."""


def adaptation_loss(
    hidden: Tensor,
    targets: Tensor,
    head: Tensor,
    *,
    bias: Tensor | None = None,
    relu_weight: float = 1.0,
    chunk_bytes: int = CHUNK_BYTES,
) -> tuple[Tensor, Tensor, Tensor]:
    """(L_CLM + relu_weight * L_ReLU, L_CLM, L_ReLU), of which the first has a gradient.

    L_CLM is the mean next-token cross-entropy on logits z, L_ReLU that on log1p(relu(z)), both of one forward
    pass (arXiv 2504.10816, eq. 3 and Figure 2). hidden (T, H), already shifted against targets (T); head (V, H);
    bias (V). Gradients are made chunk by chunk beside the losses, so that the (T, V) logits are never stored.
    With relu_weight 0, L_ReLU is not computed: nan.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden, head = hidden.to(dtype), head.to(dtype)
    loss, clm, relu = _AdaptationLoss.apply(
        hidden, targets, head, bias, relu_weight, max(1, chunk_bytes // (4 * head.shape[0]))
    )
    return loss, clm, relu


class _AdaptationLoss(torch.autograd.Function):
    """Losses and gradients of `rows` tokens at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        targets: Tensor,
        head: Tensor,
        bias: Tensor | None,
        relu_weight: float,
        rows: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        wanted = ctx.needs_input_grad
        to_hidden = torch.empty_like(hidden) if wanted[0] else None
        to_head = torch.zeros_like(head, dtype=torch.float32) if wanted[2] else None
        to_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and wanted[3] else None
        clm = relu = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            logits = F.linear(hidden[part], head, bias).float()  # (t, V)
            chunk_clm, slope = _cross_entropy(logits, targets[part])
            clm = clm + chunk_clm
            if relu_weight:
                chunk_relu, relu_slope = _cross_entropy(torch.log1p(torch.relu(logits)), targets[part])
                relu = relu + chunk_relu
                # d log1p(relu(z)) / dz = 1 / (1 + z) where z > 0, else 0
                slope.addcmul_(
                    relu_slope.masked_fill_(logits <= 0, 0),
                    logits.clamp_(min=0).add_(1).reciprocal_(),
                    value=relu_weight,
                )
            slope /= len(hidden)
            if to_bias is not None:
                to_bias += slope.sum(dim=0)
            slope = slope.to(hidden.dtype)
            if to_hidden is not None:
                torch.matmul(slope, head, out=to_hidden[part])
            if to_head is not None:
                to_head += slope.T @ hidden[part]
        ctx.save_for_backward(to_hidden, to_head, to_bias)
        ctx.dtypes = head.dtype, None if bias is None else bias.dtype
        clm, relu = clm / len(hidden), relu / len(hidden) if relu_weight else torch.full_like(clm, torch.nan)
        ctx.mark_non_differentiable(clm, relu)
        return clm + relu_weight * relu if relu_weight else clm.clone(), clm, relu

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        to_hidden, to_head, to_bias = ctx.saved_tensors
        factor, (head_dtype, bias_dtype) = gradients[0], ctx.dtypes
        return (
            None if to_hidden is None else to_hidden * factor.to(to_hidden.dtype),
            None,
            None if to_head is None else (to_head * factor).to(head_dtype),
            None if to_bias is None else (to_bias * factor).to(bias_dtype),
            None,
            None,
        )


def _cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy and its gradient for the logits: softmax minus one-hot. logits (t, V), targets (t)."""
    slope = logits.log_softmax(dim=1)
    at = targets[:, None]
    loss = -slope.gather(1, at).sum()
    slope.exp_()
    slope.scatter_add_(1, at, torch.full_like(at, -1, dtype=slope.dtype))
    return loss, slope


def info_nce(
    scores: Tensor, targets: Tensor, *, temperature: float = 1.0, ignored: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy of each query's positive among all passages.

    scores (Q, P); targets (Q) the positive's column; ignored (Q, P) True where a passage is no negative
    of a query (it is its positive again).
    """
    scores = scores / temperature
    return F.cross_entropy(scores if ignored is None else scores.masked_fill(ignored, -torch.inf), targets)


def flops(weights: Tensor) -> Tensor:
    """FLOPS regulariser: sum over terms of the squared mean weight (Paria et al., arXiv 2004.05665). weights (B, V)."""
    return weights.mean(dim=0).square().sum()


def ramp(step: int, ramp_steps: int) -> float:
    """Share of a regulariser's weight at a step: quadratic growth up to 1, as in the lineage."""
    return min(1.0, ((step + 1) / ramp_steps) ** 2) if ramp_steps else 1.0


def kl_divergence(scores: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) over each query's own passages, mean over queries. scores, teacher (Q, N)."""
    return F.kl_div(
        scores.log_softmax(dim=1), teacher.log_softmax(dim=1), reduction="batchmean", log_target=True
    )


def margin_mse(scores: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of (positive - negative) margins (Hofstaetter et al., arXiv 2010.02666). (Q, N), positive first."""
    return F.mse_loss(scores[:, :1] - scores[:, 1:], teacher[:, :1] - teacher[:, 1:])


def vector_error(peaks: Tensor, weights: Tensor, teacher: Tensor) -> Tensor:
    """Squared error against a teacher's weights, summed over terms, mean over texts. All (B, V).

    Where the teacher is active, a negative peak counts as -log1p(-peak): a slope for terms that the ReLU
    has switched off, which the student's own weight (0 there) does not have.
    """
    reached = torch.where((teacher > 0) & (peaks < 0), -torch.log1p(-peaks.clamp(max=0)), weights)
    return (reached - teacher).square().sum(dim=1).mean()


def keep_heaviest(weights: Tensor, window: int) -> Tensor:
    """All but each row's `window` largest weights set to 0. weights (B, V)."""
    if window >= weights.shape[1]:
        return weights
    floor = weights.detach().topk(window, dim=1).values[:, -1:]
    return weights.masked_fill(weights < floor, 0)
