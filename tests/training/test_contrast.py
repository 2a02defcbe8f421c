"""Weights and losses over some terms of the vocabulary only (sampled_terms)."""

import dataclasses

import pytest
import torch
from tiny_models import VOCABULARY, tiny_model

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.errors import InputError
from csplade_pyserini.model import SparseEncoder
from csplade_pyserini.model.head import trainable_peaks
from csplade_pyserini.model.inputs import pad
from csplade_pyserini.training.checkpoints import Student
from csplade_pyserini.training.contrast import ContrastiveModel, contrast
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


FOLDED = EncoderCard(name="tiny", fold="case", logit_scale=0.5, logit_shift=0.25)


def folded_model(byte_tokenizer, card=FOLDED, **changes):
    student = Student(tiny_model("llama"), byte_tokenizer, card)
    return ContrastiveModel(student, dataclasses.replace(SETTINGS, **changes))


@pytest.mark.parametrize("card", [FOLDED, dataclasses.replace(FOLDED, position_top_terms=3)])
def test_peaks_in_training_are_those_of_the_encoder(byte_tokenizer, card):
    model = folded_model(byte_tokenizer, card, sampled_terms=0)
    encoder = SparseEncoder(card, tiny_model("llama"), byte_tokenizer)
    peaks = model._peaks(batch(PASSAGES), None)
    assert peaks.shape == (len(PASSAGES), len(encoder.terms))
    torch.testing.assert_close(model._weights(peaks, 1), encoder._weights(PASSAGES, "document"))


def test_sampled_folds_are_whole_and_are_those_of_texts_and_teachers(byte_tokenizer):
    model = folded_model(byte_tokenizer)
    head = model._terms
    torch.manual_seed(0)
    samples = [set(model._sampled_terms(batch(QUERIES), batch(PASSAGES)).tolist()) for _ in range(200)]
    known = {*TEACHER_TERMS, *(int(head.folds[token]) for row in QUERIES + PASSAGES for token in row)}
    assert all(known <= sample for sample in samples)
    assert set().union(*samples) == set(range(head.count))
    full = model._peaks(batch(PASSAGES), None)
    terms = torch.tensor(sorted(known))
    sampled = model._peaks(batch(PASSAGES), terms)
    torch.testing.assert_close(sampled[:, terms], full[:, terms])
    assert sampled.isfinite().sum() == len(PASSAGES) * len(terms)


@pytest.mark.parametrize(("top", "sampled"), [(0, 0), (0, 20), (3, 0)])
def test_the_loss_of_folds_is_that_of_autograd_through_all_logits(byte_tokenizer, monkeypatch, top, sampled):
    """The same loss and gradients, where the head's peaks are made of the whole (B, L, V) logits."""

    def naive(hidden, mask, head, *, bias=None, terms=None):
        logits = hidden @ head.T
        into = terms.folds.expand(*logits.shape[:2], -1)
        folded = logits.new_full((*logits.shape[:2], terms.count + 1), -torch.inf)
        folded = folded.scatter_reduce(2, into, logits, "amax")[..., :-1]
        if terms.position_top:
            least = folded.topk(terms.position_top, dim=2).values[..., -1:]
            folded = folded.masked_fill(folded < least, -torch.inf)
        return folded.masked_fill(~mask[..., None], -torch.inf).amax(dim=1)

    found = []
    for peaks_of in (trainable_peaks, naive):
        monkeypatch.setattr("csplade_pyserini.training.contrast.trainable_peaks", peaks_of)
        card = dataclasses.replace(FOLDED, position_top_terms=top)
        model = folded_model(byte_tokenizer, card, sampled_terms=sampled)
        torch.manual_seed(1)
        loss = model(batch(QUERIES), batch(PASSAGES))["loss"]
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients)
        found.append((loss.detach(), gradients, model.take()))
    torch.testing.assert_close(found[0][0], found[1][0])
    for ours, theirs in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    assert found[0][2] == pytest.approx(found[1][2], abs=1e-5)


def test_sampled_terms_and_few_terms_of_each_position_are_refused_together():
    card = EncoderCard(name="tiny", position_top_terms=12)
    with pytest.raises(InputError, match="sampled_terms is 40 and position_top_terms of the card is 12"):
        contrast(card, SETTINGS)


def test_a_lookup_is_not_trained_for_folds():
    settings = dataclasses.replace(SETTINGS, query_side="lookup", sampled_terms=0)
    with pytest.raises(InputError, match="query_side is 'lookup' and fold of the card is 'case'"):
        contrast(EncoderCard(name="tiny", fold="case"), settings)
