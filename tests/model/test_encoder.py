"""The laws of a vector: batches never change it, and it is what the paper's formula says."""

import random

import pytest
import torch
from tiny_models import ARCHITECTURES, TEXTS

from csplade_pyserini.errors import InputError
from csplade_pyserini.model import SparseEncoder
from csplade_pyserini.model.encoder import _keep_top, default_dtype
from csplade_pyserini.registration import encoders

WEIGHT_TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 6e-2}
"""How far float arithmetic in another order moves a weight of these models (weights reach about 5)."""
VARIANTS = [
    {"attention": "causal"},
    {"attention": "bidirectional"},
    {"attention": "causal", "echo": True},
    {
        "attention": "bidirectional",
        "add_bos": True,
        "add_eos": True,
        "document_prefix": "passage: ",
        "logit_scale": 0.2,
    },
]


def slow_weights(encoder, text, *, side="document"):
    """The formula, word for word, for one text: no batch, no stream, the model's own logits."""
    [row] = encoder.tokenize([text], side=side)
    row = row * 2 if encoder.card.echo else row
    logits = encoder.model(input_ids=torch.tensor([row]), use_cache=False).logits[0]  # (L, V)
    pooled = logits[len(row) // 2 :] if encoder.card.echo else logits
    return torch.log1p(torch.relu(encoder.card.logit_scale * pooled.amax(dim=0).float()))


def assert_same_vectors(one, other, weights, scale, tolerance):
    """Impacts are equal, but for one unit where the weight lies within tolerance of a rounding boundary."""
    for a, b, row in zip(one, other, weights, strict=True):
        for term in a.keys() | b.keys():
            x = float(row[term]) * scale
            near_boundary = abs((x % 1) - 0.5) <= tolerance * scale
            assert a.get(term, 0) == b.get(term, 0) or (
                near_boundary and abs(a.get(term, 0) - b.get(term, 0)) == 1
            ), term


def by_term(encoder, weights):
    return [dict(zip(encoder.terms, row.tolist(), strict=True)) for row in weights]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "mistral", "gpt2"])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_weights_are_the_formula(make_encoder, architecture, variant, dtype):
    encoder = make_encoder(architecture, dtype=dtype, **variant)
    expected = torch.stack([slow_weights(encoder, text) for text in TEXTS]).mul(encoder._is_term)
    torch.testing.assert_close(
        encoder.weights(TEXTS),
        expected,
        rtol=0.02 if dtype == torch.bfloat16 else 1e-5,
        atol=WEIGHT_TOLERANCE[dtype],
    )
    assert encoder.weights(TEXTS).dtype == torch.float32
    assert encoder.weights(TEXTS).ge(0).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_batch_size_and_order_never_change_a_vector(make_encoder, variant):
    encoder = make_encoder("llama", **variant)
    alone = [encoder.encode_documents([text])[0] for text in TEXTS]
    weights = by_term(encoder, encoder.weights(TEXTS))
    for batch_tokens in (1, 40, 10_000):
        together = encoder.encode_documents(TEXTS, batch_tokens=batch_tokens)
        assert_same_vectors(alone, together, weights, 100, WEIGHT_TOLERANCE[torch.float32])
    order = random.Random(0).sample(range(len(TEXTS)), len(TEXTS))
    shuffled = encoder.encode_documents([TEXTS[i] for i in order])
    assert_same_vectors(
        [alone[i] for i in order], shuffled, [weights[i] for i in order], 100, WEIGHT_TOLERANCE[torch.float32]
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_never_changes_a_weight(make_encoder, variant):
    encoder = make_encoder("llama", **variant)
    for index, text in enumerate(TEXTS):
        torch.testing.assert_close(
            encoder.weights(TEXTS)[index],
            encoder.weights([text])[0],
            rtol=1e-5,
            atol=WEIGHT_TOLERANCE[torch.float32],
        )


def test_echo_differs_from_plain_and_bidirectional_from_causal(make_encoder):
    plain, echo, both = (make_encoder("llama", **variant).weights(TEXTS[:1]) for variant in VARIANTS[:3])
    assert not torch.allclose(plain, echo, atol=0.01)
    assert not torch.allclose(plain, both, atol=0.01)


def test_logit_scale_acts(make_encoder):
    full, scaled = (make_encoder("llama", logit_scale=scale).weights(TEXTS) for scale in (1.0, 0.25))
    torch.testing.assert_close(scaled, torch.log1p(torch.expm1(full) / 4), rtol=1e-4, atol=1e-5)


def test_lowercase_makes_case_no_matter_and_without_it_case_counts(make_encoder):
    lower, plain = make_encoder("llama", lowercase=True), make_encoder("llama")
    small = plain.encode_documents(["apple pie"])
    for encode in (lower.encode_documents, lower.encode_queries):
        assert encode(["Apple PIE", "apple pie", "APPLE pie"]) == small * 3
    assert plain.encode_documents(["Apple PIE"]) != small


def test_queries_and_documents_agree_on_all_the_card_does_not_tell_apart(make_encoder):
    encoder = make_encoder("llama", query_max_length=64, document_max_length=64)
    assert encoder.encode_queries(TEXTS) == encoder.encode_documents(TEXTS)
    assert torch.equal(encoder.weights(TEXTS, side="query"), encoder.weights(TEXTS, side="document"))


def test_prefixes_and_lengths_tell_queries_and_documents_apart(make_encoder):
    text = TEXTS[2]
    for card in ({"query_prefix": "query: "}, {"query_max_length": 4}, {"query_top_terms": 3}):
        encoder = make_encoder("llama", **card)
        assert encoder.encode_queries([text]) != encoder.encode_documents([text])


def test_impacts_are_plain_ints_of_rounded_weights(make_encoder):
    encoder = make_encoder("llama", impact_scale=37.0)
    vectors, weights = encoder.encode_documents(TEXTS), by_term(encoder, encoder.weights(TEXTS))
    rounded = [{term: impact for term, w in row.items() if (impact := round(37.0 * w))} for row in weights]
    assert_same_vectors(vectors, rounded, weights, 37, WEIGHT_TOLERANCE[torch.float32])
    for vector in vectors:
        assert all(type(impact) is int and impact >= 1 for impact in vector.values())
        assert list(vector.values()) == sorted(vector.values(), reverse=True)


@pytest.mark.parametrize("top", [1, 10, 100])
@pytest.mark.parametrize("scale", [2.0, 100.0])  # coarse impacts have many ties
def test_top_terms_are_cut_on_weights_before_they_are_rounded(make_encoder, top, scale):
    """As Tevatron and LACONIC cut them: torch.topk on floats, then rounding."""
    encoder = make_encoder("llama", impact_scale=scale, document_top_terms=top)
    # One text at a time, as sums of another batch may differ in their last digit.
    for text in TEXTS:
        [weights] = encoder.weights([text])
        heaviest = weights.topk(top)
        impacts = torch.round(heaviest.values * scale).int().tolist()
        terms = [encoder.terms[token_id] for token_id in heaviest.indices.tolist()]
        wanted = {term: impact for term, impact in zip(terms, impacts, strict=True) if impact}
        assert encoder.encode_documents([text]) == [wanted]


def test_of_equal_weights_the_lower_ids_are_kept():
    weights = torch.tensor([[1.0, 3.0, 2.0, 2.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0, 5.0, 0.0]])
    kept = torch.tensor([[0.0, 3.0, 2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 5.0, 0.0]])
    assert torch.equal(_keep_top(weights, 3), kept)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("top", [0, 5])
def test_weights_that_overflow_are_an_error_that_names_another_dtype(make_encoder, value, top):
    """Else a text would have no terms, or wrong ones."""
    encoder = make_encoder("llama", document_top_terms=top)
    assert encoder.encode_documents(TEXTS)
    with torch.no_grad():
        encoder.model.base_model.norm.weight[3] = value
    with pytest.raises(InputError, match="are not finite.*use dtype=bfloat16"):
        encoder.encode_documents(TEXTS)
    with pytest.raises(InputError, match="are not finite.*use dtype=bfloat16"):
        SparseEncoder(encoder.card, encoder.model, encoder.tokenizer)


def test_the_default_dtype_is_the_one_that_changes_least_and_works():
    assert default_dtype("cpu") == "float32"
    assert default_dtype("cuda") == default_dtype("cuda", "int8") == "float16"
    assert default_dtype("cuda", "int4") == "bfloat16"


def test_a_blank_text_has_an_empty_vector(make_encoder):
    encoder = make_encoder("llama", add_bos=True)
    assert encoder.encode_documents(["", "heart", "  "])[::2] == [{}, {}]
    assert encoder.weights(["", " "]).eq(0).all()
    assert encoder.encode_queries([]) == []


def test_special_tokens_are_terms_unless_the_card_excludes_them(make_encoder):
    special = {"<s>", "</s>"}
    with_them = set().union(*make_encoder("llama").encode_documents(TEXTS))
    without = set().union(*make_encoder("llama", exclude_special_tokens=True).encode_documents(TEXTS))
    assert with_them & special
    assert without == with_them - special


def test_a_vocabulary_larger_than_the_tokenizers_has_terms_only_where_there_are_tokens(
    make_encoder, byte_tokenizer
):
    encoder = make_encoder("qwen2")
    assert len(byte_tokenizer) < len(encoder.terms) == 512
    assert encoder.terms[len(byte_tokenizer) :] == [None] * (512 - len(byte_tokenizer))
    assert encoder.weights(TEXTS)[:, len(byte_tokenizer) :].eq(0).all()
    assert encoder.encode_documents(TEXTS)[0]


def test_terms_are_raw_tokenizer_strings(make_encoder, byte_tokenizer):
    encoder = make_encoder("llama")
    assert encoder.terms[: len(byte_tokenizer)] == byte_tokenizer.convert_ids_to_tokens(
        range(len(byte_tokenizer))
    )
    assert encoder.empty_term not in encoder.terms


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_makes_an_encoder(make_encoder, architecture):
    assert make_encoder(architecture, attention="bidirectional").encode_documents(TEXTS[:1])[0]


def test_a_head_that_the_model_does_not_use_plainly_is_refused(make_encoder):
    class Capped(torch.nn.Module):
        pass

    encoder = make_encoder("llama")
    stock = type(encoder.model).forward

    def capped(self, *args, **kwargs):
        output = stock(self, *args, **kwargs)
        output.logits = 2 * torch.tanh(output.logits / 2)
        return output

    subclass = type("CappedLlama", (type(encoder.model),), {"forward": capped})
    encoder.model.__class__ = subclass
    with pytest.raises(InputError, match="CappedLlama changes its logits after the LM head"):
        type(encoder)(encoder.card, encoder.model, encoder.tokenizer)


@pytest.mark.parametrize("space", [" ", "\n", "\t \r\n", "\u00a0", "\u3000\u2028", "\x1c\x85"])
@pytest.mark.parametrize("card", VARIANTS)
def test_white_space_around_a_text_changes_no_vector(make_encoder, card, space):
    encoder = make_encoder(**card)
    text = "heart  attack\nsymptoms"
    around = [f"{space}{text}", f"{text}{space}", f"{space}{text}{space}", space]
    for encode in (encoder.encode_documents, encoder.encode_queries):
        [plain, blank] = encode([text, ""])
        assert encode(around) == [plain, plain, plain, blank]
    for side in ("document", "query"):
        assert torch.equal(
            encoder.weights([f"{space}{text}{space}"], side=side), encoder.weights([text], side=side)
        )
        assert encoder.attribute(f"{space}{text}{space}", side=side) == encoder.attribute(text, side=side)


def test_white_space_around_title_and_text_changes_no_vector_of_pyserini_s_encoder(make_encoder, monkeypatch):
    """As a corpus's title and text are joined."""
    monkeypatch.setattr(encoders, "shared_encoder", lambda *_: make_encoder())
    document_encoder = encoders.DocumentSide("any", None)
    [wanted] = make_encoder().encode_documents(["title text"])
    for title, text in (
        ("title", "text"),
        (" title\n", "\ttext "),
        ("title text", " "),
        (" ", "title text\n"),
    ):
        assert document_encoder.encode([text], titles=[title]) == [wanted]
