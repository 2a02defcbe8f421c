"""Each loss equals its formula, written out with plain torch or explicit loops."""

import math
import random

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from csplade_pyserini.training.contrast import _ignored
from csplade_pyserini.training.losses import (
    adaptation_loss,
    flops,
    info_nce,
    keep_heaviest,
    kl_divergence,
    margin_mse,
    ramp,
    vector_error,
)

T, H, V = 23, 6, 41


def random_tokens(dtype=torch.float32):
    """Hidden states, targets, head and bias with logits of both signs; the last row's are the bias alone."""
    generator = torch.Generator().manual_seed(0)
    hidden, head = torch.randn(T, H, generator=generator), 2 * torch.randn(V, H, generator=generator)
    hidden[-1] = 0
    bias = torch.linspace(-2, 2, V)
    bias[:5] = 0
    return hidden.to(dtype), torch.randint(V, (T,), generator=generator), head.to(dtype), bias.to(dtype)


def plain_adaptation_loss(hidden, targets, head, *, bias=None, relu_weight=1.0):
    logits = F.linear(hidden, head, bias)
    clm, relu = F.cross_entropy(logits, targets), F.cross_entropy(torch.log1p(torch.relu(logits)), targets)
    return clm + relu_weight * relu, clm, relu


def losses_and_gradients(loss_of, hidden, targets, head, bias, **options):
    """The three losses, and the gradients of hidden, head and bias for 2.5 times the first loss."""
    leaves = [None if tensor is None else tensor.clone().requires_grad_() for tensor in (hidden, head, bias)]
    found = loss_of(leaves[0], targets, leaves[1], bias=leaves[2], **options)
    (2.5 * found[0]).backward()
    return [loss.detach() for loss in found], [leaf.grad for leaf in leaves if leaf is not None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 7, T, 1000])
@pytest.mark.parametrize("relu_weight", [1.0, 0.3])
@pytest.mark.parametrize("with_bias", [True, False])
def test_adaptation_loss_and_gradients_are_those_of_plain_autograd(dtype, rows, relu_weight, with_bias):
    hidden, targets, head, bias = random_tokens(dtype)
    case = hidden, targets, head, bias if with_bias else None
    ours, found = losses_and_gradients(
        adaptation_loss, *case, relu_weight=relu_weight, chunk_bytes=rows * 4 * V
    )
    doubles = [
        tensor.double() if tensor is not None and tensor.is_floating_point() else tensor for tensor in case
    ]
    plain, wanted = losses_and_gradients(plain_adaptation_loss, *doubles, relu_weight=relu_weight)
    for loss, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(loss.double(), theirs, rtol=1e-6, atol=1e-6)
    for gradient, theirs in zip(found, wanted, strict=True):
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient.double(), theirs, rtol=1e-5, atol=1e-6)


def test_without_relu_weight_adaptation_is_language_modelling():
    case = random_tokens()
    (loss, clm, relu), found = losses_and_gradients(
        adaptation_loss, *case, relu_weight=0.0, chunk_bytes=5 * 4 * V
    )
    (_, wanted, _), gradients = losses_and_gradients(
        lambda *a, **b: (plain_adaptation_loss(*a, **b)[1],) * 3, *case
    )
    assert loss == clm
    assert relu.isnan()
    torch.testing.assert_close(clm, wanted)
    for ours, theirs in zip(found, gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_inactive_logit_takes_no_gradient_from_the_relu_loss():
    hidden, targets, head = (
        torch.tensor([[-1.0], [2.0]]),
        torch.tensor([0, 1]),
        torch.tensor([[1.0], [-0.5], [3.0]]),
    )
    _, [plain, _] = losses_and_gradients(adaptation_loss, hidden, targets, head, None, relu_weight=0.0)
    _, [both, _] = losses_and_gradients(adaptation_loss, hidden, targets, head, None, relu_weight=1.0)
    logit, others = 0.5, 2  # of the first token: -1, 0.5, -3; only the second is active
    share = (1 + logit) / (others + 1 + logit)
    torch.testing.assert_close(both[0] - plain[0], 2.5 * torch.tensor([share / (1 + logit) * -0.5]) / 2)


@pytest.mark.parametrize("frozen", ["hidden", "head", "bias"])
def test_what_is_frozen_gets_no_gradient_and_changes_no_other(frozen):
    hidden, targets, head, bias = random_tokens()
    _, wanted = losses_and_gradients(adaptation_loss, hidden, targets, head, bias)
    leaves = {"hidden": hidden.clone(), "head": head.clone(), "bias": bias.clone()}
    for name, leaf in leaves.items():
        leaf.requires_grad_(name != frozen)
    loss, clm, relu = adaptation_loss(leaves["hidden"], targets, leaves["head"], bias=leaves["bias"])
    assert not clm.requires_grad
    assert not relu.requires_grad
    (2.5 * loss).backward()
    for (name, leaf), theirs in zip(leaves.items(), wanted, strict=True):
        if name == frozen:
            assert leaf.grad is None
        else:
            torch.testing.assert_close(leaf.grad, theirs)


class Operations(TorchDispatchMode):
    """Notes the size of the largest tensor made, and the dtypes of matrix products."""

    def __init__(self):
        super().__init__()
        self.largest, self.product_dtypes = 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.largest = max(
                [
                    self.largest,
                    *(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)),
                ]
            )
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.product_dtypes |= {
                leaf.dtype for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)
            }
        return result


@pytest.mark.parametrize("with_bias", [True, False])
def test_under_autocast_products_are_taken_in_its_dtype_and_gradients_keep_that_of_the_weights(with_bias):
    hidden, targets, head, bias = random_tokens()
    case = hidden, targets, head, bias if with_bias else None
    with torch.autocast("cpu", torch.bfloat16), Operations() as operations:
        ours, found = losses_and_gradients(adaptation_loss, *case)
    assert operations.product_dtypes == {torch.bfloat16}
    plain, wanted = losses_and_gradients(plain_adaptation_loss, *case)
    torch.testing.assert_close(torch.stack(ours), torch.stack(plain), rtol=2e-2, atol=2e-2)
    for gradient, theirs in zip(found, wanted, strict=True):
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, theirs, rtol=3e-2, atol=3e-2 * float(theirs.abs().max()))


def test_no_more_logits_are_held_than_a_chunk_has():
    tokens, vocabulary, size, rows = 300, 64, 4, 5
    hidden, head = (
        torch.randn(tokens, size, requires_grad=True),
        torch.randn(vocabulary, size, requires_grad=True),
    )
    targets = torch.randint(vocabulary, (tokens,))
    with Operations() as operations:
        adaptation_loss(hidden, targets, head, chunk_bytes=rows * 4 * vocabulary)[0].backward()
    assert operations.largest == max(tokens * size, vocabulary * size, rows * vocabulary)
    with Operations() as operations:
        plain_adaptation_loss(hidden, targets, head)[0].backward()
    assert operations.largest == tokens * vocabulary


@pytest.mark.parametrize("frozen", ["hidden", "head"])
def test_what_is_frozen_costs_no_memory(frozen):
    tokens, vocabulary, size = (300, 10, 20) if frozen == "hidden" else (10, 300, 20)
    hidden = torch.randn(tokens, size, requires_grad=frozen != "hidden")
    head = torch.randn(vocabulary, size, requires_grad=frozen != "head")
    with Operations() as operations:
        adaptation_loss(hidden, torch.randint(vocabulary, (tokens,)), head, chunk_bytes=4 * vocabulary)[
            0
        ].backward()
    assert operations.largest < 300 * size


def slow_info_nce(scores, targets, temperature, ignored):
    total = 0.0
    for row, target, out in zip(scores.tolist(), targets.tolist(), ignored.tolist(), strict=True):
        among = [
            math.exp(score / temperature) for score, left_out in zip(row, out, strict=True) if not left_out
        ]
        total -= math.log(math.exp(row[target] / temperature) / sum(among))
    return total / len(scores)


@pytest.mark.parametrize("temperature", [1.0, 0.3, 20.0])
@pytest.mark.parametrize("share_ignored", [0.0, 0.4])
def test_info_nce_is_the_mean_log_share_of_the_positive(temperature, share_ignored):
    generator = torch.Generator().manual_seed(1)
    scores, targets = 3 * torch.randn(4, 12, generator=generator), torch.tensor([0, 3, 6, 10])
    ignored = torch.rand(4, 12, generator=generator) < share_ignored
    ignored[torch.arange(4), targets] = False
    wanted = slow_info_nce(scores, targets, temperature, ignored)
    assert float(info_nce(scores, targets, temperature=temperature, ignored=ignored)) == pytest.approx(
        wanted, rel=1e-5
    )
    if not share_ignored:
        assert float(info_nce(scores, targets, temperature=temperature)) == pytest.approx(wanted, rel=1e-5)


def test_an_ignored_passage_takes_no_gradient():
    scores = torch.randn(2, 6, generator=torch.Generator().manual_seed(2), requires_grad=True)
    ignored = torch.zeros(2, 6, dtype=torch.bool)
    ignored[1, 0] = True
    info_nce(scores, torch.tensor([0, 3]), ignored=ignored).backward()
    assert scores.grad[1, 0] == 0
    assert scores.grad[~ignored].ne(0).all()


def slow_ignored(query_keys, passage_keys, each, mine):
    """Passages that each query of `mine` knows as positives, except its own; row by row."""
    positive_of = passage_keys[::each]
    rows = []
    for query in mine:
        relevant = {
            positive
            for name, positive in zip(query_keys, positive_of, strict=True)
            if name == query_keys[query]
        }
        rows.append([name in relevant and place != query * each for place, name in enumerate(passage_keys)])
    return rows


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 1), st.randoms(use_true_random=False))
def test_a_querys_positives_are_never_its_negatives(processes_share, each, rank, chooser):
    count = 2 * processes_share
    query_keys = [chooser.randrange(count) for _ in range(count)]
    passage_keys = [chooser.randrange(100, 100 + 2 * count) for _ in range(count * each)]
    mine = range(rank * processes_share, (rank + 1) * processes_share)
    found = _ignored(
        torch.tensor([query_keys[query] for query in mine]),
        torch.tensor(query_keys),
        torch.tensor(passage_keys),
        torch.tensor([query * each for query in mine]),
        each,
    )
    assert found.tolist() == slow_ignored(query_keys, passage_keys, each, mine)


def test_flops_is_the_sum_of_squared_mean_weights():
    weights = torch.relu(torch.randn(5, 9, generator=torch.Generator().manual_seed(3)))
    wanted = sum((sum(row[term] for row in weights.tolist()) / 5) ** 2 for term in range(9))
    assert float(flops(weights)) == pytest.approx(wanted, rel=1e-6)


def test_flops_prefers_terms_spread_over_documents():
    assert float(flops(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))) == 1.0
    assert float(flops(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))) == 0.5


@pytest.mark.parametrize(
    ("step", "ramp_steps", "share"),
    [
        (0, 10, 0.01),
        (4, 10, 0.25),
        (8, 10, 0.81),
        (9, 10, 1.0),
        (10, 10, 1.0),
        (10**6, 10, 1.0),
        (0, 1, 1.0),
        (0, 0, 1.0),
        (5, 0, 1.0),
    ],
)
def test_a_ramp_grows_quadratically_and_stays_at_one(step, ramp_steps, share):
    assert ramp(step, ramp_steps) == pytest.approx(share)


def slow_kl(scores, teacher):
    total = 0.0
    for ours, theirs in zip(scores.tolist(), teacher.tolist(), strict=True):
        student, wanted = (
            [math.exp(score) / sum(math.exp(other) for other in row) for score in row]
            for row in (ours, theirs)
        )
        total += sum(p * math.log(p / q) for p, q in zip(wanted, student, strict=True))
    return total / len(scores)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.floats(-20, 20))
def test_kl_divergence_is_its_formula_never_negative_and_blind_to_a_constant(seed, constant):
    generator = torch.Generator().manual_seed(seed)
    scores, teacher = 3 * torch.randn(2, 4, 5, generator=generator)
    found = float(kl_divergence(scores, teacher))
    assert found == pytest.approx(slow_kl(scores, teacher), rel=1e-3, abs=1e-5)
    assert found > 0
    shift = constant * torch.arange(1, 5)[:, None]  # another one for each query
    assert float(kl_divergence(scores + shift, teacher)) == pytest.approx(found, rel=1e-3, abs=1e-4)
    assert float(kl_divergence(teacher + shift, teacher)) == pytest.approx(0, abs=1e-4)


def test_margin_mse_is_the_mean_squared_error_of_margins():
    scores, teacher = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(4))
    errors = [
        ((ours[0] - ours[n]) - (theirs[0] - theirs[n])) ** 2
        for ours, theirs in zip(scores.tolist(), teacher.tolist(), strict=True)
        for n in range(1, 4)
    ]
    assert float(margin_mse(scores, teacher)) == pytest.approx(sum(errors) / len(errors), rel=1e-5)
    assert float(margin_mse(teacher + torch.tensor([[5.0], [-3.0], [0.5]]), teacher)) == pytest.approx(
        0, abs=1e-10
    )


def slow_vector_error(peaks, teacher):
    """As a sum over scalars: log1p(peak) where active, -log1p(-peak) where only the teacher is, else 0."""
    total = torch.zeros((), dtype=peaks.dtype)
    for row in range(peaks.shape[0]):
        for term in range(peaks.shape[1]):
            peak, wanted = peaks[row, term], teacher[row, term]
            if peak > 0:
                reached = torch.log(1 + peak)
            elif wanted > 0:
                reached = -torch.log(1 - peak)
            else:
                reached = torch.zeros_like(peak)
            total = total + (reached - wanted) ** 2
    return total / peaks.shape[0]


def test_vector_error_and_its_gradient_are_those_of_a_sum_over_scalars():
    generator = torch.Generator().manual_seed(5)
    peaks = 2 * torch.randn(3, 8, generator=generator)
    teacher = torch.relu(torch.randn(3, 8, generator=generator))
    ours, plain = peaks.clone().requires_grad_(), peaks.double().requires_grad_()
    found, wanted = (
        vector_error(ours, torch.log1p(torch.relu(ours)), teacher),
        slow_vector_error(plain, teacher.double()),
    )
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)
    found.backward()
    wanted.backward()
    torch.testing.assert_close(ours.grad.double(), plain.grad, rtol=1e-4, atol=1e-6)
    dead = (peaks < 0) & (teacher > 0)
    assert dead.any()
    assert ours.grad[dead].lt(0).all(), "a term that only the teacher has is pulled up"
    assert ours.grad[(peaks < 0) & (teacher == 0)].eq(0).all()


def test_the_vector_error_of_a_text_without_tokens_has_no_gradient():
    peaks = torch.tensor([[-torch.inf, -torch.inf], [1.0, -1.0]], requires_grad=True)
    error = vector_error(peaks, torch.log1p(torch.relu(peaks)), torch.tensor([[0.0, 0.0], [0.5, 0.0]]))
    error.backward()
    assert error.item() == pytest.approx((math.log(2) - 0.5) ** 2 / 2)
    assert peaks.grad[0].eq(0).all()
    assert peaks.grad[1, 0] > 0


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10_000))
def test_the_heaviest_weights_stay_and_they_alone_have_a_gradient(vocabulary, window, seed):
    chooser = random.Random(seed)
    rows = [chooser.sample(range(1, 100), vocabulary) for _ in range(3)]
    weights = torch.tensor(rows, dtype=torch.float32, requires_grad=True)
    kept = keep_heaviest(weights, window)
    wanted = [[weight if weight in sorted(row)[-window:] else 0 for weight in row] for row in rows]
    assert kept.tolist() == wanted
    kept.sum().backward()
    assert weights.grad.tolist() == [[float(weight > 0) for weight in row] for row in wanted]


def test_weights_that_tie_with_the_last_one_kept_stay_too():
    weights = torch.tensor([[3.0, 1.0, 2.0, 2.0], [0.0, 0.0, 5.0, 0.0]])
    assert keep_heaviest(weights, 2).tolist() == [[3.0, 0.0, 2.0, 2.0], [0.0, 0.0, 5.0, 0.0]]


def test_a_tokens_loss_has_no_ceiling():
    hidden, head, target = torch.tensor([[1.0, 0]]), torch.tensor([[300.0, 0], [0, 0]]), torch.tensor([1])
    torch.testing.assert_close(
        adaptation_loss(hidden, target, head)[1], F.cross_entropy(hidden @ head.T, target)
    )
