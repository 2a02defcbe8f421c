"""Encoders whose terms are folds, whose positions keep few terms, or whose prefixes do not count."""

import copy
import dataclasses
import random

import pytest
import torch
from tiny_models import TEXTS, tiny_model
from tokenizers import decoders

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.collections.manifests import IndexManifest, refuse_mismatch, write_manifest
from csplade_pyserini.errors import InputError
from csplade_pyserini.explanation import is_expansion
from csplade_pyserini.explanation.listing import vector_lines
from csplade_pyserini.model import SparseEncoder

SPARSEUP = {
    "attention": "bidirectional",
    "fold": "case",
    "logit_shift": 1.5,  # SPARSEUP's is 15; logits of the tiny models reach about 5
    "position_top_terms": 12,
    "pool_prefix": False,
    "add_bos": True,
    "query_prefix": "query: ",
    "document_prefix": "passage: ",
}
SPLADE_CODE = {"attention": "bidirectional", "add_eos": True, "query_prefix": "Find the code: "}
CARDS = {
    "sparseup": SPARSEUP,
    "splade-code": SPLADE_CODE,
    "fold": {"fold": "case"},
    "fold, no special tokens": {"fold": "case", "exclude_special_tokens": True, "add_bos": True},
    "fold, echo": {"fold": "case", "echo": True, "logit_scale": 0.5, "logit_shift": 0.25},
    "few of each position": {"position_top_terms": 5, "attention": "bidirectional"},
}
ARCHITECTURES = {"sparseup": "llama", "splade-code": "qwen3"}
TOLERANCE = 5e-5


def fold_of(token):
    """The tiny vocabulary is ASCII but for single bytes, which are no characters."""
    if not token.isascii() and token.removeprefix("Ġ").isascii():
        token = token.removeprefix("Ġ") or token
    return token.lower() if token.isascii() else token


def slow_vector(encoder, text, side):
    """Weights by fold: one text, padded on the left as in training, token by token."""
    card, tokenizer = encoder.card, encoder.tokenizer
    prefix = card.side(side).prefix
    inner = tokenizer(prefix + text, add_special_tokens=False, return_offsets_mapping=True)
    ids, spans = inner["input_ids"], inner["offset_mapping"]
    counts = [card.pool_prefix or end > len(prefix) for _, end in spans]
    if card.add_bos:
        ids, counts = [tokenizer.bos_token_id, *ids], [True, *counts]
    if card.add_eos:
        ids, counts = [*ids, tokenizer.eos_token_id], [*counts, True]
    if card.echo:
        ids, counts = ids * 2, [False] * len(ids) + counts
    padding = 3
    logits = encoder.model(
        input_ids=torch.tensor([[0] * padding + ids]),
        attention_mask=torch.tensor([[0] * padding + [1] * len(ids)]),
        use_cache=False,
    ).logits[0, padding:]
    weights = {}
    for row, is_counted in zip(logits.tolist(), counts, strict=True):
        if not is_counted:
            continue
        of_position = {}
        for token_id, logit in enumerate(row[: len(tokenizer)]):
            token = tokenizer.convert_ids_to_tokens(token_id)
            if token_id in tokenizer.all_special_ids:
                if card.exclude_special_tokens:
                    continue
            elif card.fold == "case":
                token = fold_of(token)
            of_position[token] = max(logit, of_position.get(token, -float("inf")))
        kept = sorted(of_position, key=lambda term: -of_position[term])
        for term in kept[: card.position_top_terms or None]:
            shifted = card.logit_scale * of_position[term] - card.logit_shift
            weight = torch.tensor(shifted).relu().log1p().item()
            weights[term] = max(weight, weights.get(term, 0.0))
    return {term: weight for term, weight in weights.items() if weight > 0}


def by_token(encoder, weights):
    """Weights of each fold, named by the fold of one of its tokens."""
    tokens = encoder.tokenizer.convert_ids_to_tokens(range(len(encoder.tokenizer)))
    special = encoder.tokenizer.all_special_ids
    found = {}
    for token_id, term in enumerate(encoder.token_terms):
        if term is None:
            continue
        plain = encoder.card.fold == "none" or token_id in special
        name = tokens[token_id] if plain else fold_of(tokens[token_id])
        weight = weights[encoder.terms.index(term)].item()
        if weight > 0:
            assert found.setdefault(name, weight) == weight
    return found


@pytest.mark.parametrize("side", ["query", "document"])
@pytest.mark.parametrize("name", CARDS)
@torch.inference_mode()
def test_weights_are_those_of_a_slow_loop_over_tokens(make_encoder, name, side):
    encoder = make_encoder(ARCHITECTURES.get(name, "llama"), **CARDS[name])
    weights = encoder.weights(TEXTS, side=side)
    assert weights.shape == (len(TEXTS), len(encoder.terms))
    for text, row in zip(TEXTS, weights, strict=True):
        wanted = slow_vector(encoder, text, side)
        assert wanted
        found = by_token(encoder, row)
        near = {term for term, weight in wanted.items() if weight < 1e-4}
        assert found.keys() - near == wanted.keys() - near
        assert found == pytest.approx({**wanted, **{t: w for t, w in found.items() if t in near}}, abs=1e-3)


@pytest.mark.parametrize("name", CARDS)
def test_batch_size_order_and_padding_never_change_a_weight(make_encoder, name):
    encoder = make_encoder(ARCHITECTURES.get(name, "llama"), **CARDS[name])
    alone = torch.cat([encoder.weights([text]) for text in TEXTS])
    order = random.Random(0).sample(range(len(TEXTS)), len(TEXTS))
    for rows, together in (
        (alone, encoder.weights(TEXTS)),
        (alone[order], encoder.weights([TEXTS[i] for i in order])),
    ):
        torch.testing.assert_close(together, rows, rtol=1e-4, atol=TOLERANCE)
    vectors = [encoder.encode_documents(TEXTS, batch_tokens=tokens) for tokens in (1, 40, 10_000)]
    for other in vectors[1:]:
        for one, two in zip(vectors[0], other, strict=True):
            differing = {term for term in one | two if one.get(term, 0) != two.get(term, 0)}
            assert len(differing) <= 2  # on the edge of rounding
            assert all(abs(one.get(term, 0) - two.get(term, 0)) == 1 for term in differing)


def test_a_fold_s_weight_is_the_largest_of_its_tokens(make_encoder):
    plain, folded = make_encoder("llama"), make_encoder("llama", fold="case")
    tokens, folds = plain.weights(TEXTS), folded.weights(TEXTS)
    for number, term in enumerate(folded.terms):
        members = [i for i, own in enumerate(folded.token_terms) if own == term]
        torch.testing.assert_close(folds[:, number], tokens[:, members].amax(dim=1))
    assert len(folded.terms) < len([term for term in plain.terms if term is not None])
    assert None not in folded.terms


def test_top_terms_are_counted_in_folds(make_encoder):
    encoder = make_encoder("llama", fold="case", document_top_terms=40)
    everything = make_encoder("llama", fold="case").encode_documents(TEXTS)
    for vector, whole in zip(encoder.encode_documents(TEXTS), everything, strict=True):
        assert len(vector) == 40
        assert list(vector.values()) == list(whole.values())[:40]
        assert vector.items() <= whole.items()


def test_a_prefix_that_does_not_count_is_still_read(make_encoder):
    own = {"attention": "bidirectional", "document_prefix": "passage: "}
    left_out = make_encoder("llama", pool_prefix=False, **own).weights(TEXTS)
    counted = make_encoder("llama", **own).weights(TEXTS)
    without = make_encoder("llama", attention="bidirectional", document_prefix=" ").weights(TEXTS)
    assert (left_out <= counted + TOLERANCE).all()
    assert (left_out < counted - 0.01).any()
    assert not torch.allclose(left_out, without, atol=0.01)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("card", [{"fold": "case"}, {"position_top_terms": 5}, SPARSEUP])
def test_weights_that_overflow_are_an_error_here_too(make_encoder, value, card):
    encoder = make_encoder("llama", **card)
    with torch.no_grad():
        encoder.model.base_model.norm.weight[3] = value
    with pytest.raises(InputError, match="are not finite"):
        encoder.encode_documents(TEXTS)


@pytest.mark.parametrize("name", ["sparseup", "fold", "fold, echo"])
@torch.inference_mode()
def test_the_token_behind_a_term_has_the_largest_logit_of_its_fold(make_encoder, name):
    encoder = make_encoder("llama", **CARDS[name])
    for text in TEXTS:
        attributed = encoder.attribute(text, side="document")
        assert attributed.vector == encoder.encode_documents([text])[0]
        assert set(attributed.positions) == set(attributed.vector)
        [row] = encoder.tokenize([text], side="document")
        copies = row * encoder.card.copies
        logits = encoder.model(input_ids=torch.tensor([copies]), use_cache=False).logits[0][-len(row) :]
        for term, position in attributed.positions.items():
            members = [i for i, own in enumerate(encoder.token_terms) if own == term]
            weight = encoder.card.logit_scale * logits[position, members].max() - encoder.card.logit_shift
            impact = float(torch.log1p(weight.relu()) * encoder.card.impact_scale)
            assert impact == pytest.approx(attributed.vector[term], abs=0.6)


def test_explanations_show_folds_as_words(byte_tokenizer):
    tokenizer = copy.deepcopy(byte_tokenizer)
    tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()
    encoder = SparseEncoder(EncoderCard(name="x", fold="case"), tiny_model("llama"), tokenizer)
    attributed = encoder.attribute("Pain pain in THE heart", side="query")
    [row] = encoder.tokenize([attributed.text], side="query")
    words = {encoder.readable(str(encoder.token_terms[token_id])) for token_id in row}
    for term in attributed.vector:
        if term.isascii() and not term.startswith("\\"):
            expands = encoder.readable(term) not in words
            assert is_expansion(term, attributed, encoder.readable) == expands, term
    assert encoder.readable("the") == "the"
    pieces = [term for term in encoder.terms if term.startswith("##")]
    assert pieces
    assert {encoder.readable(piece) for piece in pieces} == {piece[2:] for piece in pieces}
    shown = "\n".join(vector_lines(attributed, encoder.readable, terms=len(attributed.vector)))
    for term in attributed.vector:
        assert encoder.readable(term) in shown


def test_a_folded_index_is_not_an_unfolded_one(make_encoder, tmp_path):
    plain, folded = make_encoder("llama"), make_encoder("llama", fold="case")
    assert plain.identity != folded.identity
    (tmp_path / "index").mkdir()
    for index_of, queries in ((plain, folded), (folded, plain)):
        manifest = IndexManifest(
            encoder=index_of.identity, collection="", documents=1, postings=1, bytes=1, seconds=1.0
        )
        write_manifest(manifest, tmp_path / "index")
        refuse_mismatch(tmp_path / "index", index_of.identity)
        with pytest.raises(InputError) as error:
            refuse_mismatch(tmp_path / "index", queries.identity)
        assert plain.identity in str(error.value)
        assert folded.identity in str(error.value)


def test_keys_that_are_off_leave_weights_and_identity_as_they_were(make_encoder, byte_tokenizer):
    encoder = make_encoder("llama")
    card = dataclasses.replace(
        encoder.card, fold="none", logit_shift=0.0, position_top_terms=0, pool_prefix=True
    )
    again = SparseEncoder(card, tiny_model("llama"), byte_tokenizer)
    assert again.identity == encoder.identity
    assert torch.equal(again.weights(TEXTS), encoder.weights(TEXTS))
    assert again.terms is again.token_terms
