"""Weights and losses over some terms of the vocabulary only (sampled_terms)."""

import dataclasses

import pytest
import torch
from tiny_models import VOCABULARY, tiny_model

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.model.inputs import pad
from csplade_pyserini.training.checkpoints import Student
from csplade_pyserini.training.contrast import ContrastiveModel
from csplade_pyserini.training.settings import ContrastSettings

SETTINGS = ContrastSettings(
    output="", data=("",), learning_rate=1.0, steps=1,
    query_regulariser=0.05, document_regulariser=0.02, vector_weight=0.1,
    sampled_terms=40,
)  # fmt: skip
QUERIES, PASSAGES = [[5, 6], [7, 8, 9]], [[5, 10, 11], [12], [7, 13], [14, 15, 16, 17]]
TEACHER_TERMS = (20, 30)


def batch(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    padded = pad(rows, echo=False, device=torch.device("cpu"))
    teacher = torch.tensor(TEACHER_TERMS)
    vectors = {
        "teacher_rows": torch.tensor([0, 1]),
        "teacher_terms": teacher,
        "teacher_weights": torch.tensor([0.5, 2.0]),
    }
    keys = torch.arange(len(rows)) + 10 * len(rows)
    return {
        "ids": padded.ids,
        "attention_mask": padded.attention_mask,
        "pool_mask": padded.pool_mask,
        "keys": keys,
    } | vectors


def model_with(**changes: float) -> ContrastiveModel:
    student = Student(tiny_model("llama"), None, EncoderCard(name="tiny"))
    return ContrastiveModel(student, dataclasses.replace(SETTINGS, **changes))


def test_sampled_terms_are_those_of_texts_and_teachers_and_about_as_many_random_ones_as_asked_for():
    model, batches = model_with(), (batch(QUERIES), batch(PASSAGES))
    torch.manual_seed(0)
    samples = [set(model._sampled_terms(*batches).tolist()) for _ in range(200)]
    known = {*TEACHER_TERMS, *(term for row in QUERIES + PASSAGES for term in row)}
    assert all(known <= sample for sample in samples)
    assert 30 < sum(map(len, samples)) / 200 - len(known) < 50
    assert set().union(*samples) == set(range(VOCABULARY))  # every term has its turn


def test_sampled_terms_have_the_peaks_that_they_have_among_all_others():
    model, passages = model_with(), batch(PASSAGES)
    terms = torch.tensor([3, 20, 30, 400])
    full, sampled = model._peaks(passages, None), model._peaks(passages, terms)
    torch.testing.assert_close(sampled[:, terms], full[:, terms])
    others = torch.ones(VOCABULARY, dtype=torch.bool).index_fill(0, terms, False)
    assert (sampled[:, others] == -torch.inf).all()


def test_a_sample_of_all_terms_gives_the_loss_of_all():
    losses = [
        model_with(sampled_terms=count)(batch(QUERIES), batch(PASSAGES))["loss"].item()
        for count in (0, VOCABULARY)
    ]
    assert losses[0] == losses[1] > 0


@pytest.mark.parametrize("vector_weight", [0.0, 0.1])
def test_only_sampled_terms_have_gradients_and_all_are_finite(vector_weight):
    model = model_with(vector_weight=vector_weight, sampled_terms=1)
    head = model.backbone.lm_head.weight
    model.backbone.model.embed_tokens.weight = torch.nn.Parameter(
        head.detach().clone()
    )  # untied: the head's gradient alone
    torch.manual_seed(1)
    terms = model._sampled_terms(batch(QUERIES), batch(PASSAGES))
    torch.manual_seed(1)
    model(batch(QUERIES), batch(PASSAGES))["loss"].backward()
    assert all(
        parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None
    )
    reached = head.grad.abs().sum(dim=1).nonzero().squeeze(1)
    assert len(reached) > 0
    assert set(reached.tolist()) <= set(terms.tolist())
