"""The streamed head equals the naive one, whatever is padded, sliced or rounded."""

import pytest
import torch

from csplade_pyserini.model.head import (
    activate,
    naive_peaks,
    peaks_and_positions,
    pooled_positions,
    streamed_peaks,
    trainable_peaks,
)

B, L, H, V = 5, 7, 16, 301
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 4e-2}
"""bfloat16 keeps 8 bits: products are rounded apart where a slice is multiplied in another order."""


def random_case(dtype=torch.float32, *, side="right", seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden, head = torch.randn(B, L, H, generator=generator), torch.randn(V, H, generator=generator)
    lengths = torch.tensor([7, 1, 4, 6, 2])
    mask = torch.arange(L) < lengths[:, None]
    return hidden.to(dtype), (mask if side == "right" else mask.flip(1)), head.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("slice_bytes", [1, 4 * B * L * 10, 4 * B * L * V, 2**30])
def test_streamed_peaks_equal_naive_ones(dtype, side, slice_bytes):
    hidden, mask, head = random_case(dtype, side=side)
    streamed = streamed_peaks(hidden, mask, head, slice_bytes=slice_bytes)
    assert streamed.dtype == dtype
    torch.testing.assert_close(
        streamed, naive_peaks(hidden, mask, head), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
    )


def test_a_bias_of_the_head_counts():
    hidden, mask, head = random_case()
    bias = torch.linspace(-3, 3, V)
    torch.testing.assert_close(
        streamed_peaks(hidden, mask, head, bias=bias), naive_peaks(hidden, mask, head, bias=bias)
    )
    assert not torch.allclose(
        streamed_peaks(hidden, mask, head, bias=bias), streamed_peaks(hidden, mask, head)
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_stands_in_the_padding_never_counts(side):
    hidden, mask, head = random_case(side=side)
    dirty = hidden.masked_fill(~mask[..., None], 1e4)
    assert torch.equal(streamed_peaks(dirty, mask, head), streamed_peaks(hidden, mask, head))


def test_a_mask_in_the_middle_is_respected():
    hidden, _, head = random_case()
    mask = torch.zeros(B, L, dtype=torch.bool)
    mask[:, 3:5] = True
    torch.testing.assert_close(streamed_peaks(hidden, mask, head), (hidden[:, 3:5] @ head.T).amax(dim=1))


def scattered_mask():
    """Rows with 1, 2, 3, 4 and 7 pooled tokens, in no order."""
    mask = torch.zeros(B, L, dtype=torch.bool)
    for row, count in enumerate((1, 2, 3, 4, 7)):
        mask[row, torch.randperm(L, generator=torch.Generator().manual_seed(row))[:count]] = True
    return mask


@pytest.mark.parametrize("slice_bytes", [1, 2**30])
def test_a_mask_with_gaps_is_respected(slice_bytes):
    hidden, _, head = random_case()
    mask = scattered_mask()
    peaks, positions = peaks_and_positions(hidden, mask, head, slice_bytes=slice_bytes)
    torch.testing.assert_close(peaks, naive_peaks(hidden, mask, head))
    assert torch.equal(positions, (hidden @ head.T).masked_fill(~mask[..., None], -torch.inf).argmax(dim=1))


def test_pooled_positions_are_those_of_the_mask_and_no_wider_than_needed():
    mask = scattered_mask()[:4]
    positions = pooled_positions(mask)
    assert positions.shape == (4, 4)
    for row, found in zip(mask, positions.tolist(), strict=True):
        wanted = row.nonzero().flatten().tolist()
        assert found == wanted + [wanted[0]] * (4 - len(wanted))


def test_a_row_without_tokens_has_zero_weights():
    hidden, mask, head = random_case()
    mask[2] = False
    weights = activate(streamed_peaks(hidden, mask, head))
    assert weights[2].eq(0).all()
    assert weights[0].gt(0).any()


def test_activating_the_maximum_equals_the_maximum_of_activations():
    hidden, mask, head = random_case()
    logits = (hidden @ head.T).masked_fill(~mask[..., None], -torch.inf)
    scaled = torch.log1p(torch.relu(0.25 * logits)).amax(dim=1)
    torch.testing.assert_close(activate(streamed_peaks(hidden, mask, head), 0.25), scaled)


def gradients(peaks_of, hidden, mask, head, bias, upstream, **options):
    """Peaks, and the gradients of hidden, head and bias for an upstream gradient."""
    leaves = [tensor.clone().requires_grad_() for tensor in (hidden, head, bias)]
    peaks = peaks_of(leaves[0], mask, leaves[1], bias=leaves[2], **options)
    peaks.backward(upstream)
    return peaks.detach(), [leaf.grad for leaf in leaves]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("slice_bytes", [1, 4 * B * L * 10, 2**30])
def test_the_gradient_is_autograds_of_the_naive_head(side, share, slice_bytes):
    hidden, mask, head = random_case(side=side)
    bias = torch.linspace(-1, 1, V)
    generator = torch.Generator().manual_seed(5)
    upstream = torch.randn(B, V, generator=generator) * (torch.rand(B, V, generator=generator) < share)
    peaks, found = gradients(trainable_peaks, hidden, mask, head, bias, upstream, slice_bytes=slice_bytes)
    naive, wanted = gradients(naive_peaks, hidden, mask, head, bias, upstream)
    torch.testing.assert_close(peaks, naive)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_gradient_is_autograds_for_a_mask_with_gaps():
    mask = scattered_mask()
    gradients = []
    for peaks in (trainable_peaks, naive_peaks):
        hidden, _, head = random_case()
        hidden.requires_grad_()
        head.requires_grad_()
        activate(peaks(hidden, mask, head)).square().sum().backward()
        gradients.append((hidden.grad, head.grad))
    for ours, naive in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, naive)


def test_the_gradient_passes_the_numerical_check():
    hidden, mask, head = (
        tensor.double() if tensor.is_floating_point() else tensor for tensor in random_case()
    )
    hidden, head = hidden[:2, :, :4].clone().requires_grad_(), head[:30, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda h, w: trainable_peaks(h, mask[:2], w), (hidden, head))


def test_a_row_without_tokens_takes_no_gradient():
    hidden, mask, head = random_case()
    mask[2] = False
    hidden.requires_grad_()
    activate(trainable_peaks(hidden, mask, head)).sum().backward()
    assert hidden.grad[2].eq(0).all()
    assert hidden.grad[0].ne(0).any()


def test_padding_takes_no_gradient():
    hidden, mask, head = random_case(side="left")
    hidden.requires_grad_()
    trainable_peaks(hidden, mask, head).sum().backward()
    assert hidden.grad[~mask].eq(0).all()


def test_only_what_is_asked_gets_a_gradient():
    hidden, mask, head = random_case()
    frozen = head.clone()
    hidden.requires_grad_()
    trainable_peaks(hidden, mask, frozen).sum().backward()
    assert frozen.grad is None
    assert hidden.grad is not None


def test_under_autocast_the_head_runs_in_its_dtype():
    hidden, mask, head = random_case()
    hidden.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        peaks = trainable_peaks(hidden, mask, head)
    assert peaks.dtype == torch.bfloat16
    peaks.float().sum().backward()
    assert hidden.grad.dtype == torch.float32
    wanted = naive_peaks(hidden.detach(), mask, head)
    torch.testing.assert_close(peaks.float(), wanted, rtol=TOLERANCE[torch.bfloat16], atol=0.1)
