"""BOS, EOS, prefixes, truncation and echo follow the card."""

import pytest
import torch
from transformers import BertTokenizer

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.errors import InputError
from csplade_pyserini.model.inputs import pad, pooled_tokens, token_spans, tokenize

TEXT = "potassium in bananas"
CPU = torch.device("cpu")


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("eos", [False, True])
@pytest.mark.parametrize("side", ["query", "document"])
def test_tokens_are_bos_prefix_text_eos(byte_tokenizer, bos, eos, side):
    card = EncoderCard(
        name="x", add_bos=bos, add_eos=eos, query_prefix="query: ", document_prefix="passage: "
    )
    prefix = {"query": "query: ", "document": "passage: "}[side]
    expected = (
        [byte_tokenizer.bos_token_id] * bos
        + ids(byte_tokenizer, prefix + TEXT)
        + [byte_tokenizer.eos_token_id] * eos
    )
    assert tokenize([TEXT], side=side, card=card, tokenizer=byte_tokenizer) == [expected]


@pytest.mark.parametrize("side", ["query", "document"])
def test_truncation_keeps_the_head_and_never_costs_bos_or_eos(byte_tokenizer, side):
    card = EncoderCard(name="x", add_bos=True, add_eos=True, query_max_length=3, document_max_length=5)
    limit = {"query": 3, "document": 5}[side]
    [row] = tokenize([TEXT * 3], side=side, card=card, tokenizer=byte_tokenizer)
    assert row == [
        byte_tokenizer.bos_token_id,
        *ids(byte_tokenizer, TEXT)[:limit],
        byte_tokenizer.eos_token_id,
    ]


@pytest.mark.parametrize("blank", ["", " ", "\n\t"])
def test_a_blank_text_has_no_tokens_at_all(byte_tokenizer, blank):
    card = EncoderCard(name="x", add_bos=True, document_prefix="passage: ")
    rows = tokenize([TEXT, blank, TEXT], side="document", card=card, tokenizer=byte_tokenizer)
    assert rows[1] == []
    assert rows[0] == rows[2] != []


@pytest.mark.parametrize("side", ["query", "document"])
def test_lowercase_is_for_the_text_and_not_for_the_prefix(byte_tokenizer, side):
    prefixes = {"query_prefix": "Query: ", "document_prefix": "Query: "}
    texts = ["Apple PIE", "ÜBER alles", "", "apple pie"]
    for lowercase in (True, False):
        rows = tokenize(
            texts,
            side=side,
            card=EncoderCard(name="x", lowercase=lowercase, **prefixes),
            tokenizer=byte_tokenizer,
        )
        wanted = [
            ids(byte_tokenizer, "Query: " + (text.lower() if lowercase else text)) if text else []
            for text in texts
        ]
        assert rows == wanted
        assert (rows[0] == rows[3]) == lowercase


def test_a_bos_that_the_tokenizer_lacks_is_an_error(byte_tokenizer):
    tokenizer = type(byte_tokenizer)(tokenizer_object=byte_tokenizer.backend_tokenizer)
    with pytest.raises(InputError, match="add_bos is true, but its tokenizer has no BOS token"):
        tokenize([TEXT], side="query", card=EncoderCard(name="x", add_bos=True), tokenizer=tokenizer)


def test_padding_is_on_the_right():
    batch = pad([[4, 5, 6], [7]], echo=False, device=CPU)
    assert batch.ids.tolist() == [[4, 5, 6], [7, 0, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.pool_mask.tolist() == [[True, True, True], [True, False, False]]


def test_echo_repeats_the_unpadded_tokens_and_pools_the_second_copy():
    batch = pad([[4, 5, 6], [7], []], echo=True, device=CPU)
    assert batch.ids.tolist() == [[4, 5, 6, 4, 5, 6], [7, 7, 0, 0, 0, 0], [0] * 6]
    assert batch.attention_mask.tolist() == [[1] * 6, [1, 1, 0, 0, 0, 0], [0] * 6]
    assert batch.pool_mask.int().tolist() == [[0, 0, 0, 1, 1, 1], [0, 1, 0, 0, 0, 0], [0] * 6]


@pytest.fixture(scope="module")
def word_tokenizer():
    vocabulary = ["[UNK]", "[PAD]", "the", "heart", "##beat", "##s", ".", "of"]
    return BertTokenizer(vocab={token: number for number, token in enumerate(vocabulary)})


@pytest.mark.parametrize(
    ("settings", "text", "wanted"),
    [
        ({}, "the heartbeats .", [1, 1, 1, 1, 1]),
        ({"pool": "words"}, "the heartbeats .", [1, 1, 0, 0, 1]),
        ({"unpooled_terms": ("the", ".")}, "the heartbeats .", [0, 1, 1, 1, 0]),
        ({"pool": "words", "unpooled_terms": ("the", ".")}, "the heartbeats .", [0, 1, 0, 0, 0]),
        ({"unpooled_terms": ("the", "of")}, "of the", [1, 1]),  # nothing else is there
        ({"pool": "distinct"}, "heart the heart heart .", [1, 1, 0, 0, 1]),
        ({"pool": "distinct", "unpooled_terms": ("the",)}, "the heart the hearts", [0, 1, 0, 0, 1]),
        ({"pool": "distinct", "unpooled_terms": ("the",)}, "the the", [1, 1]),
    ],
)
@pytest.mark.parametrize("echo", [False, True])
def test_unpooled_tokens_stay_but_do_not_count(word_tokenizer, settings, text, wanted, echo):
    card = EncoderCard(name="x", **settings)
    rows = tokenize([text], side="document", card=card, tokenizer=word_tokenizer)
    pooled = pooled_tokens(card, word_tokenizer, len(word_tokenizer))
    batch = pad(rows, echo=echo, device=CPU, pooled=pooled)
    before = [0] * len(wanted) * echo
    assert batch.pool_mask.int().tolist() == [before + wanted]
    assert batch.attention_mask.tolist() == [[1] * len(wanted) * (1 + echo)]


def test_the_prefix_is_not_the_first_of_equal_tokens(word_tokenizer):
    """It does not count, so the same token of the text does."""
    card = EncoderCard(name="x", pool="distinct", document_prefix="heart ", pool_prefix=False)
    rows = tokenize(["the heart heart"], side="document", card=card, tokenizer=word_tokenizer)
    pooled = pooled_tokens(card, word_tokenizer, len(word_tokenizer))
    batch = pad(rows, echo=False, device=CPU, pooled=pooled, side="document")
    assert batch.pool_mask.int().tolist() == [[0, 1, 1, 0]]


def test_one_text_of_stop_words_does_not_change_its_neighbours(word_tokenizer):
    card = EncoderCard(name="x", unpooled_terms=("the", "of"))
    rows = tokenize(["of the", "the heart"], side="document", card=card, tokenizer=word_tokenizer)
    pooled = pooled_tokens(card, word_tokenizer, len(word_tokenizer))
    assert pad(rows, echo=False, device=CPU, pooled=pooled).pool_mask.tolist() == [
        [True, True],
        [False, True],
    ]


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("add_bos", [False, True])
@pytest.mark.parametrize("prefix", ["query: ", "query:", "  query\n", "po", ""])
def test_tokens_of_the_prefix_alone_do_not_count(byte_tokenizer, prefix, add_bos, echo):
    """A token that ends within the text counts: `Ġp` after `query: `, `op` after `po`."""
    card = EncoderCard(name="x", query_prefix=prefix, add_bos=add_bos, pool_prefix=False)
    texts = [TEXT, "heart"]
    rows = tokenize(texts, side="query", card=card, tokenizer=byte_tokenizer)
    pooled = pooled_tokens(card, byte_tokenizer, len(byte_tokenizer))
    batch = pad(rows, echo=echo, device=CPU, pooled=pooled, side="query")
    for text, row, mask in zip(texts, rows, batch.pool_mask.tolist(), strict=True):
        _, spans = token_spans(text, side="query", card=card, tokenizer=byte_tokenizer)
        wanted = [end > len(prefix) for _, end in spans]
        if add_bos:
            wanted[0] = True
        assert mask[: len(row) * (1 + echo)] == [False] * len(row) * echo + wanted
    assert batch.attention_mask.sum() == sum(map(len, rows)) * (1 + echo)


def test_only_the_side_s_own_prefix_is_left_out(byte_tokenizer):
    card = EncoderCard(name="x", query_prefix="query: ", document_prefix="passage: ", pool_prefix=False)
    pooled = pooled_tokens(card, byte_tokenizer, len(byte_tokenizer))
    for side, text in (("query", "passage: heart"), ("document", "query: heart")):
        rows = tokenize([text], side=side, card=card, tokenizer=byte_tokenizer)
        [mask] = pad(rows, echo=False, device=CPU, pooled=pooled, side=side).pool_mask.tolist()
        counted = [token for token, counts in zip(rows[0], mask, strict=True) if counts]
        assert "".join(byte_tokenizer.convert_ids_to_tokens(counted)).replace("Ġ", " ").strip() == text


def test_a_text_that_is_cut_to_its_prefix_counts_it(byte_tokenizer):
    card = EncoderCard(name="x", query_prefix="a question: ", query_max_length=2, pool_prefix=False)
    rows = tokenize(["heart"], side="query", card=card, tokenizer=byte_tokenizer)
    pooled = pooled_tokens(card, byte_tokenizer, len(byte_tokenizer))
    assert pad(rows, echo=False, device=CPU, pooled=pooled, side="query").pool_mask.tolist() == [[True, True]]


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"unpooled_terms": ("hart",)}, "no such token"), ({"pool": "words"}, "no ## pieces")],
)
def test_pooling_that_the_tokenizer_cannot_do_is_an_error(byte_tokenizer, settings, words):
    with pytest.raises(InputError, match=words):
        pooled_tokens(EncoderCard(name="x", **settings), byte_tokenizer, len(byte_tokenizer))
