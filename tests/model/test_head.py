"""The streamed head equals the naive one, whatever is padded, sliced or rounded."""

import pytest
import torch

from csplade_pyserini.model.head import activate, naive_peaks, streamed_peaks

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
    torch.testing.assert_close(streamed, naive_peaks(hidden, mask, head), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_a_bias_of_the_head_counts():
    hidden, mask, head = random_case()
    bias = torch.linspace(-3, 3, V)
    torch.testing.assert_close(streamed_peaks(hidden, mask, head, bias=bias), naive_peaks(hidden, mask, head, bias=bias))
    assert not torch.allclose(streamed_peaks(hidden, mask, head, bias=bias), streamed_peaks(hidden, mask, head))


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
