"""The watch counts as one counts on paper, and stops a run that has died."""

import pytest
import torch

from csplade_pyserini.errors import CheckError
from csplade_pyserini.training.watch import COLLAPSED_SHARE, CURES, Activity, check_alive

V = 13
HEALTHY = {
    "query_terms": 20.0,
    "document_terms": 100.0,
    "empty_queries": 0.0,
    "empty_documents": 0.0,
    "dead_vocabulary": 0.9,
}


def random_passes(seed=0):
    """Three forward passes of (queries, documents, losses); a few vectors are empty, a few terms dead."""
    generator = torch.Generator().manual_seed(seed)
    passes = []
    for queries, documents in ((2, 6), (3, 3), (4, 8)):
        weights = torch.relu(torch.randn(queries + documents, V, generator=generator) - 0.8)
        weights[:, 10:] = 0
        weights[[1, -1]] = 0
        losses = {
            name: torch.randn((), generator=generator).requires_grad_()
            for name in ("contrast", "query_flops")
        }
        passes.append((weights[:queries].requires_grad_(), weights[queries:].requires_grad_(), losses))
    return passes


def slow_means(passes):
    """Means over passes of what is counted term by term."""
    counted, seen = [], set()
    for queries, documents, losses in passes:
        values = {name: loss.item() for name, loss in losses.items()}
        for side, plural, weights in (("query", "queries", queries), ("document", "documents", documents)):
            active = [{term for term, weight in enumerate(row) if weight > 0} for row in weights.tolist()]
            values[f"{side}_terms"] = sum(map(len, active)) / len(active)
            values[f"empty_{plural}"] = sum(not terms for terms in active) / len(active)
            seen.update(*active)
        counted.append(values)
    means = {name: sum(values[name] for values in counted) / len(counted) for name in counted[0]}
    return means | {"dead_vocabulary": 1 - len(seen) / V}


def take(passes):
    activity = Activity()
    for queries, documents, losses in passes:
        activity.add(queries, documents, losses)
    return activity.take()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_activity_is_what_counting_term_by_term_gives(count):
    passes = random_passes()[:count]
    found = take(passes)
    assert found == pytest.approx(slow_means(passes), abs=1e-5)
    assert all(type(value) is float for value in found.values())
    assert 0 < found["empty_documents"] < 1, "the case has empty vectors"
    assert 0 < found["dead_vocabulary"] < 1, "the case has dead terms"


def test_a_term_is_alive_that_one_side_alone_has_in_one_pass():
    nothing, losses = torch.zeros(2, V), {}
    query, document = nothing.clone(), nothing.clone()
    query[0, 3] = document[1, 5] = 1e-6
    assert take([(query, nothing, losses), (nothing, document, losses)])["dead_vocabulary"] == pytest.approx(
        11 / 13, abs=1e-6
    )
    assert take([(nothing, nothing, losses)])["dead_vocabulary"] == 1


def test_taking_starts_anew():
    first, second, third = random_passes()
    activity = Activity()
    activity.add(*first)
    activity.add(*second)
    activity.take()
    assert activity.take() == {}
    activity.add(*third)
    assert activity.take() == pytest.approx(slow_means([third]), abs=1e-5)


def test_before_the_first_pass_there_is_nothing_to_take():
    assert Activity().take() == {}


def test_watching_changes_no_gradient():
    [(queries, documents, losses), *_] = random_passes()
    loss = losses["contrast"] + queries.sum() + documents.square().sum()
    take([(queries, documents, {"contrast": loss})])
    loss.backward()
    assert queries.grad.eq(1).all()
    assert torch.equal(documents.grad, 2 * documents.detach())


@pytest.mark.parametrize(
    "means",
    [{}, {"contrast": 3.0}, HEALTHY, HEALTHY | {"empty_queries": COLLAPSED_SHARE, "empty_documents": 0.3}],
)
def test_a_run_with_a_living_half_goes_on(means):
    check_alive(10, means)


@pytest.mark.parametrize(
    ("name", "shown"), [("empty_queries", "empty queries"), ("empty_documents", "empty documents")]
)
def test_a_run_with_mostly_empty_vectors_stops_and_names_the_cures(name, shown):
    with pytest.raises(CheckError) as error:
        check_alive(40, HEALTHY | {name: 0.75, "query_terms": 0.25, "document_terms": 3.0})
    assert str(error.value) == (
        f"collapsed at step 40: {shown} 75% (at most 50% wanted), "
        f"0.2 terms a query and 3.0 a document are active. "
        f"What helps: {CURES}. stop_when_collapsed = false goes on all the same"
    )
    for cure in ("train adapt", "logit_scale", "window_steps", "learning rate", "regularisers"):
        assert cure in str(error.value)


def test_what_activity_counts_of_a_dead_model_stops_the_run():
    dead, alive = torch.zeros(4, V), torch.ones(4, V)
    check_alive(1, take([(alive, alive, {})]))
    for queries, documents in ((dead, alive), (alive, dead), (torch.full_like(dead, torch.nan), alive)):
        with pytest.raises(CheckError, match="collapsed at step 1: empty .* 100%"):
            check_alive(1, take([(queries, documents, {})]))
