"""The losses, each a function of tensors alone.

Letters: Q queries, P passages, N passages of one query (its positive first), V vocabulary, T tokens,
H hidden size.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

CHUNK_BYTES = 64 * 2**20
"""Size of the adaptation loss's logits that are held at once, in float32."""


def adaptation_loss(
    hidden: Tensor,
    targets: Tensor,
    head: Tensor,
    *,
    bias: Tensor | None = None,
    relu_weight: float = 1.0,
    chunk_bytes: int = CHUNK_BYTES,
) -> tuple[Tensor, Tensor, Tensor]:
    """Adaptation losses (L_CLM + relu_weight * L_ReLU, L_CLM, L_ReLU); only the first has a gradient.

    L_CLM is the mean next-token cross-entropy on logits z, and L_ReLU that on log1p(relu(z)). One forward
    pass gives both (arXiv 2504.10816, eq. 3 and Figure 2). With relu_weight 0, L_ReLU is nan.

    hidden (T, H): shifted against targets (T) already. head (V, H). bias (V). Gradients are made chunk by
    chunk beside the losses, so the (T, V) logits are never stored.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden = hidden.to(dtype)
        head = head.to(dtype)
    rows = max(1, chunk_bytes // (4 * head.shape[0]))
    loss, clm, relu = _AdaptationLoss.apply(hidden, targets, head, bias, relu_weight, rows)
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
        gradients = _Gradients(ctx.needs_input_grad, hidden, head, bias)
        clm = relu = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            logits = F.linear(hidden[part], head, bias).float()  # (t, V)
            chunk_clm, chunk_relu, slope = _chunk_losses(logits, targets[part], relu_weight)
            clm = clm + chunk_clm
            relu = relu + chunk_relu
            slope /= len(hidden)
            gradients.add(part, slope)
        ctx.save_for_backward(gradients.hidden, gradients.head, gradients.bias)
        ctx.dtypes = (hidden.dtype, head.dtype, getattr(bias, "dtype", None))
        clm = clm / len(hidden)
        if not relu_weight:
            relu = torch.full_like(clm, torch.nan)
            ctx.mark_non_differentiable(clm, relu)
            return clm.clone(), clm, relu
        relu = relu / len(hidden)
        ctx.mark_non_differentiable(clm, relu)
        return clm + relu_weight * relu, clm, relu

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        to_hidden, to_head, to_bias = (
            _scaled(saved, gradients[0], dtype)
            for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return to_hidden, None, to_head, to_bias, None, None


class _Gradients:
    """Gradients for hidden states, head and bias, filled chunk by chunk; None for those not needed."""

    hidden: Tensor | None = None
    head: Tensor | None = None
    bias: Tensor | None = None

    def __init__(self, needs: tuple[bool, ...], hidden: Tensor, head: Tensor, bias: Tensor | None) -> None:
        """needs: whether the inputs (hidden, targets, head, bias) need a gradient."""
        self._inputs = (hidden, head)
        if needs[0]:
            self.hidden = torch.empty_like(hidden)
        if needs[2]:
            self.head = torch.zeros_like(head, dtype=torch.float32)
        if bias is not None and needs[3]:
            self.bias = torch.zeros_like(bias, dtype=torch.float32)

    def add(self, part: slice, slope: Tensor) -> None:
        """Add the tokens `part`, whose logits (t, V) have the gradient `slope`."""
        hidden, head = self._inputs
        if self.bias is not None:
            self.bias += slope.sum(dim=0)
        slope = slope.to(hidden.dtype)
        if self.hidden is not None:
            torch.matmul(slope, head, out=self.hidden[part])
        if self.head is not None:
            self.head += slope.T @ hidden[part]


def _chunk_losses(
    logits: Tensor, targets: Tensor, relu_weight: float
) -> tuple[Tensor, Tensor | float, Tensor]:
    """Summed losses L_CLM and L_ReLU of a chunk, and the gradient of the whole loss for its logits.

    logits (t, V), which are overwritten; targets (t).
    """
    clm, slope = _cross_entropy(logits, targets)
    if not relu_weight:
        return clm, 0.0, slope
    relu, relu_slope = _cross_entropy(torch.log1p(torch.relu(logits)), targets)
    # d log1p(relu(z)) / dz = 1 / (1 + z) if z > 0, else 0
    relu_slope.masked_fill_(logits <= 0, 0)
    slope.addcmul_(relu_slope, logits.clamp_(min=0).add_(1).reciprocal_(), value=relu_weight)
    return clm, relu, slope


def _scaled(gradient: Tensor | None, factor: Tensor, dtype: torch.dtype | None) -> Tensor | None:
    """Multiply a saved gradient by the incoming one, a scalar."""
    if gradient is None:
        return None
    return (gradient * factor.to(gradient.dtype)).to(dtype)


def _cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy, and its gradient for the logits: softmax minus one-hot.

    logits (t, V). targets (t).
    """
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

    scores (Q, P). targets (Q): column of the positive. ignored (Q, P): True for passages that are no
    negatives of a query, because they are its positive again.
    """
    scores = scores / temperature
    if ignored is not None:
        scores = scores.masked_fill(ignored, -torch.inf)
    return F.cross_entropy(scores, targets)


def flops(weights: Tensor, penalties: Tensor | None = None) -> Tensor:
    """FLOPS regulariser: sum over terms of the squared mean weight (Paria et al., arXiv 2004.05665).

    weights (B, V). penalties (V,): factor of each term's part; None: 1.
    """
    parts = weights.mean(dim=0).square()
    if penalties is not None:
        parts = parts * penalties
    return parts.sum()


def ramp(step: int, ramp_steps: int) -> float:
    """Share of a regulariser's weight at a step: quadratic growth up to 1, as in the lineage."""
    if not ramp_steps:
        return 1.0
    return min(1.0, ((step + 1) / ramp_steps) ** 2)


def kl_divergence(scores: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) over each query's own passages, mean over queries.

    scores, teacher (Q, N).
    """
    return F.kl_div(
        scores.log_softmax(dim=1), teacher.log_softmax(dim=1), reduction="batchmean", log_target=True
    )


def margin_mse(scores: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of (positive - negative) margins (Hofstaetter et al., arXiv 2010.02666).

    scores, teacher (Q, N), positive first.
    """
    return F.mse_loss(scores[:, :1] - scores[:, 1:], teacher[:, :1] - teacher[:, 1:])


def vector_error(peaks: Tensor, weights: Tensor, teacher: Tensor) -> Tensor:
    """Squared error against a teacher's weights: sum over terms, mean over texts. All are (B, V).

    If the teacher is active, a negative peak counts as -log1p(-peak). That gives a slope to terms that the
    ReLU has switched off; the student's weight is 0 there and has none. Peaks are as the ReLU gets them; a
    term that no position keeps has -inf and no slope.
    """
    is_off = (teacher > 0) & (peaks < 0) & peaks.isfinite()
    reached = torch.where(is_off, -torch.log1p(-peaks.clamp(max=0)), weights)
    return (reached - teacher).square().sum(dim=1).mean()


def keep_heaviest(weights: Tensor, window: int) -> Tensor:
    """Set all but each row's `window` largest weights to 0. weights (B, V)."""
    if window >= weights.shape[1]:
        return weights
    floor = weights.detach().topk(window, dim=1).values[:, -1:]
    return weights.masked_fill(weights < floor, 0)
