"""The streamed head equals the naive one, whatever is padded, sliced or rounded."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from csplade_pyserini.model.head import (
    Terms,
    _slice_columns,
    activate,
    naive_peaks,
    peaks_and_positions,
    pooled_positions,
    rows_in_use,
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


@pytest.mark.parametrize(("zeros", "wanted"), [((), 5), ((4,), 4), ((1, 3, 4), 3), (range(5), 1)])
def test_rows_in_use_end_with_the_last_that_is_not_all_zeros(zeros, wanted):
    head = torch.randn(5, H)
    head[list(zeros)] = 0
    assert rows_in_use(head) == wanted


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


@pytest.mark.parametrize("top", [0, 4])
def test_pooled_positions_that_a_caller_found_change_nothing(top):
    hidden, _, head = random_case()
    mask = scattered_mask()
    for terms in (None, Terms(torch.arange(V) // 2, (V + 1) // 2, top)):
        own = streamed_peaks(hidden, mask, head, terms=terms)
        assert torch.equal(
            streamed_peaks(hidden, mask, head, terms=terms, pooled=pooled_positions(mask)), own
        )


@pytest.mark.parametrize("wanted", [0, 1, 63, 64, 65, 1031, 10**6])
@pytest.mark.parametrize("vocabulary", [1, 63, 301, 128_256])
def test_slices_begin_where_a_gpu_multiplies_fast(wanted, vocabulary):
    """Rows of logits whose number of columns is odd took a GPU five times as long in float16."""
    columns = _slice_columns(wanted, vocabulary)
    assert 1 <= columns <= max(1, min(wanted, vocabulary))
    assert columns <= 64 or columns % 64 == 0
    assert columns > min(wanted, vocabulary) - 64


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


TOP = [0, 1, 3, 20]
SLICES = [1, 4 * B * L * 10, 2**30]


def random_terms(top=0, *, count=60, seed=3):
    """Folds of 1 to about 10 of 301 entries, in no order; about 1 in 60 entries is no term."""
    generator = torch.Generator().manual_seed(seed)
    folds = torch.randint(count + 1, (V,), generator=generator)
    folds[torch.randperm(V, generator=generator)[:count]] = torch.arange(count)
    return Terms(folds, count, top)


def distinct_terms(top=0):
    return Terms(torch.arange(V), V, top)


def slow_peaks(hidden, mask, head, *, bias=None, terms):
    """Term by term and position by position; autograd goes through it."""
    rows = []
    for states, is_pooled in zip(hidden, mask, strict=True):
        of_positions = []
        for state in states[is_pooled]:
            logits = state @ head.T
            if bias is not None:
                logits = logits + bias
            found = torch.stack([logits[terms.folds == term].max() for term in range(terms.count)])
            if terms.position_top:
                floor = found.sort(descending=True).values[terms.position_top - 1]
                found = found.masked_fill(found < floor, -torch.inf)
            of_positions.append(found)
        rows.append(torch.stack(of_positions).amax(dim=0))
    return torch.stack(rows)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("top", TOP)
@pytest.mark.parametrize("slice_bytes", SLICES[1:])
def test_peaks_of_terms_equal_slow_ones(top, slice_bytes, biased):
    hidden, _, head = random_case()
    mask = scattered_mask()
    bias = torch.linspace(-2, 2, V) if biased else None
    terms = random_terms(top)
    wanted = slow_peaks(hidden, mask, head, bias=bias, terms=terms)
    found = streamed_peaks(hidden, mask, head, bias=bias, terms=terms, slice_bytes=slice_bytes)
    torch.testing.assert_close(found, wanted)
    peaks, positions = peaks_and_positions(
        hidden, mask, head, bias=bias, terms=terms, slice_bytes=slice_bytes
    )
    assert torch.equal(peaks, found)
    logits = hidden @ head.T + (0 if bias is None else bias)
    for row, term in wanted.isfinite().nonzero().tolist():
        position = positions[row, term]
        assert mask[row, position]
        torch.testing.assert_close(
            logits[row, position, terms.folds == term].max(), wanted[row, term], rtol=1e-5, atol=1e-5
        )


def test_a_slice_of_one_entry_gives_the_same_terms():
    hidden, mask, head = random_case()
    for top in TOP[:2]:
        terms = random_terms(top)
        torch.testing.assert_close(
            streamed_peaks(hidden, mask, head, terms=terms, slice_bytes=1),
            streamed_peaks(hidden, mask, head, terms=terms),
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_fold_has_the_maximum_of_its_tokens(dtype):
    hidden, mask, head = random_case(dtype)
    terms = random_terms()
    tokens = streamed_peaks(hidden, mask, head)
    found = streamed_peaks(hidden, mask, head, terms=terms)
    assert found.dtype == dtype
    for term in range(terms.count):
        assert torch.equal(found[:, term], tokens[:, terms.folds == term].amax(dim=1))


@pytest.mark.parametrize("slice_bytes", SLICES)
def test_folds_of_one_token_each_change_nothing(slice_bytes):
    hidden, mask, head = random_case()
    bias = torch.linspace(-1, 1, V)
    options = {"bias": bias, "slice_bytes": slice_bytes}
    plain, folded = (
        streamed_peaks(hidden, mask, head, terms=terms, **options) for terms in (None, distinct_terms())
    )
    torch.testing.assert_close(plain, folded)  # a CPU takes products of other shapes without terms
    upstream = torch.randn(B, V, generator=torch.Generator().manual_seed(5))
    one, other = (
        gradients(trainable_peaks, hidden, mask, head, bias, upstream, terms=terms, slice_bytes=slice_bytes)
        for terms in (None, distinct_terms())
    )
    for plain, folded in zip((one[0], *one[1]), (other[0], *other[1]), strict=True):
        torch.testing.assert_close(plain, folded)


def test_all_terms_of_each_position_are_as_many_as_none_left_out():
    hidden, mask, head = random_case()
    for make in (random_terms, distinct_terms):
        torch.testing.assert_close(
            streamed_peaks(hidden, mask, head, terms=make(V)),
            streamed_peaks(hidden, mask, head, terms=make()),
        )


@pytest.mark.parametrize("top", TOP)
@pytest.mark.parametrize("slice_bytes", SLICES[1:])
def test_the_gradient_of_terms_is_autograds_of_the_slow_head(top, slice_bytes):
    hidden, _, head = random_case()
    mask = scattered_mask()
    bias = torch.linspace(-1, 1, V)
    terms = random_terms(top)
    reached = slow_peaks(hidden, mask, head, bias=bias, terms=terms).isfinite()
    upstream = torch.randn(B, terms.count, generator=torch.Generator().manual_seed(5)) * reached
    options = {"terms": terms}
    peaks, found = gradients(
        trainable_peaks, hidden, mask, head, bias, upstream, slice_bytes=slice_bytes, **options
    )
    slow, wanted = gradients(slow_peaks, hidden, mask, head, bias, upstream, **options)
    torch.testing.assert_close(peaks, slow)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("top", TOP[:3])
def test_the_gradient_of_terms_passes_the_numerical_check(top):
    hidden, mask, head = (
        tensor.double() if tensor.is_floating_point() else tensor for tensor in random_case()
    )
    hidden, head = hidden[:2, :, :4].clone().requires_grad_(), head[:30, :4].clone().requires_grad_()
    terms = Terms(torch.arange(30) % 8, 7, top)
    assert torch.autograd.gradcheck(
        lambda h, w: trainable_peaks(h, mask[:2], w, terms=terms).relu().log1p(), (hidden, head)
    )


@pytest.mark.parametrize("top", TOP[:3])
def test_rows_without_tokens_and_padding_have_neither_terms_nor_gradients(top):
    hidden, mask, head = random_case(side="left")
    mask[2] = False
    terms = random_terms(top)
    assert streamed_peaks(hidden, mask, head, terms=terms)[2].eq(-torch.inf).all()
    hidden.requires_grad_()
    activate(trainable_peaks(hidden, mask, head, terms=terms)).sum().backward()
    assert hidden.grad[~mask].eq(0).all()
    assert hidden.grad.isfinite().all()
    assert hidden.grad[0].ne(0).any()


@pytest.mark.parametrize("top", TOP)
def test_entries_that_are_no_terms_neither_count_nor_take_a_place(top):
    hidden, mask, head = random_case()
    terms = random_terms(top)
    loud = head.clone()
    loud[~terms.is_term] *= 1000
    assert torch.equal(
        streamed_peaks(hidden, mask, loud, terms=terms), streamed_peaks(hidden, mask, head, terms=terms)
    )


def test_chosen_terms_have_the_peaks_that_they_have_among_all():
    hidden, mask, head = random_case()
    terms = random_terms()
    chosen = torch.zeros(terms.count, dtype=torch.bool)
    chosen[[3, 7, 59]] = True
    entries, few = terms.only(chosen)
    torch.testing.assert_close(
        streamed_peaks(hidden, mask, head[entries], terms=few),
        streamed_peaks(hidden, mask, head, terms=terms)[:, chosen],
    )


@pytest.mark.parametrize("top", [0, 3])
def test_under_autocast_terms_are_in_its_dtype(top):
    hidden, mask, head = random_case()
    bias = torch.linspace(-1, 1, V).requires_grad_()
    hidden.requires_grad_()
    terms = random_terms(top)
    with torch.autocast("cpu", torch.bfloat16):
        peaks = trainable_peaks(hidden, mask, head, bias=bias, terms=terms)
    assert peaks.dtype == torch.bfloat16
    activate(peaks).sum().backward()
    assert hidden.grad.dtype == bias.grad.dtype == torch.float32


class LargeTensors(TorchDispatchMode):
    """Counts the tensors of at least `size` entries that operations make; views are none."""

    def __init__(self, size):
        super().__init__()
        self.size = size
        self.storages = set()
        self.kept = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            is_dense = isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided
            if is_dense and tensor.numel() >= self.size:
                self.kept.append(tensor)  # so that no storage is used twice
                self.storages.add(tensor.untyped_storage().data_ptr())
        return made


def test_folding_makes_no_large_tensor_more_than_the_plain_head():
    """With as many terms as entries, where every copy would show, and few gradients, as in training."""
    hidden, mask, head = random_case()
    upstream = (torch.rand(B, V, generator=torch.Generator().manual_seed(5)) < 0.05).float()
    counts = []
    for terms in (None, distinct_terms()):
        leaf = hidden.clone().requires_grad_()
        size = {"slice_bytes": 4 * B * L * 10}
        with LargeTensors(B * V) as forward, torch.inference_mode():
            streamed_peaks(hidden, mask, head, terms=terms, **size)
        with LargeTensors(B * V) as training:
            trainable_peaks(leaf, mask, head, terms=terms, **size).backward(upstream)
        counts.append((len(forward.storages), len(training.storages)))
    (plain_forward, plain_training), (folded_forward, folded_training) = counts
    assert folded_forward <= plain_forward
    assert folded_training <= plain_training


def test_a_shift_is_taken_from_the_scaled_logit():
    peaks = torch.tensor([[-torch.inf, -1.0, 10.0, 40.0]])
    wanted = torch.tensor([[0.0, 0.0, 0.0, torch.log1p(torch.tensor(5.0))]])
    torch.testing.assert_close(activate(peaks, 0.5, 15.0), wanted)
    assert torch.equal(activate(peaks, 0.5), activate(peaks, 0.5, 0.0))
