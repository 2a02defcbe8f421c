"""Which token stands behind a term, and which characters behind a token."""

import pytest
import torch
from tiny_models import TEXTS
from transformers import PreTrainedTokenizerFast

VARIANTS = [
    {"attention": "causal"},
    {"attention": "bidirectional", "logit_scale": 0.2},
    {"attention": "causal", "echo": True, "add_bos": True},
    {
        "attention": "bidirectional",
        "add_bos": True,
        "add_eos": True,
        "query_prefix": "query: ",
        "document_prefix": "passage: ",
    },
    {"attention": "causal", "lowercase": True, "query_max_length": 3, "document_top_terms": 40},
]


@pytest.mark.parametrize("side", ["query", "document"])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_a_terms_token_has_its_largest_logit(make_encoder, variant, side):
    encoder = make_encoder("llama", **variant)
    for text in TEXTS:
        attributed = encoder.attribute(text, side=side)
        encode = encoder.encode_queries if side == "query" else encoder.encode_documents
        assert attributed.vector == encode([text])[0]
        assert set(attributed.positions) == set(attributed.vector)
        [row] = encoder.tokenize([text], side=side)
        copies = row * 2 if encoder.card.echo else row
        logits = encoder.model(input_ids=torch.tensor([copies]), use_cache=False).logits[0][-len(row) :]
        for term, position in attributed.positions.items():
            of_term = logits[:, encoder.terms.index(term)]
            assert of_term[position] == pytest.approx(float(of_term.max()), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_spans_are_the_characters_of_the_tokens(make_encoder, variant):
    encoder = make_encoder("llama", **variant)
    for text in TEXTS:
        attributed = encoder.attribute(text, side="query")
        assert (
            len(attributed.tokens) == len(attributed.spans) == len(encoder.tokenize([text], side="query")[0])
        )
        assert attributed.text == encoder.card.query_prefix + (
            text.lower() if encoder.card.lowercase else text
        )
        for token, (start, end) in zip(attributed.tokens, attributed.spans, strict=True):
            of_token = "" if token in ("<s>", "</s>") else token.replace("Ġ", " ")  # the texts are ASCII
            assert attributed.text[start:end].strip() == of_token.strip()


def test_an_empty_text_has_neither_terms_nor_tokens(make_encoder):
    attributed = make_encoder("llama", add_bos=True).attribute(" \n", side="query")
    assert (
        attributed.text,
        attributed.tokens,
        attributed.spans,
        attributed.vector,
        attributed.positions,
    ) == ("", (), (), {}, {})


def test_bytes_of_one_character_share_its_span(make_encoder, byte_tokenizer: PreTrainedTokenizerFast):
    attributed = make_encoder("llama").attribute("心", side="query")
    assert len(attributed.tokens) > 1
    assert set(attributed.spans) == {(0, 1)}
