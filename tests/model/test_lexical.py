"""Lexical weights: BM25's, added to those of the model."""

import dataclasses
import random
from collections import Counter

import pytest
import torch
from tiny_models import TEXTS, VOCABULARY, tiny_model
from tiny_training import configuration, train

from csplade_pyserini.cards import EncoderCard, find_checkpoint, parse_card, read_card, write_card
from csplade_pyserini.errors import InputError
from csplade_pyserini.model import SparseEncoder, load_encoder
from csplade_pyserini.model.lexical import Lexical, read_lexical, write_lexical
from csplade_pyserini.training.checkpoints import Student
from csplade_pyserini.training.contrast import ContrastCollator, ContrastiveModel
from csplade_pyserini.training.settings import ContrastSettings

MEAN_LENGTH = 7.5
CARD = EncoderCard(
    name="lexical",
    attention="bidirectional",
    least_weight=0.4,
    query_lexical_weight=0.5,
    document_lexical_weight=0.25,
)


def root_idf() -> torch.Tensor:
    """sqrt(idf) of the vocabulary; every fifth token counts nowhere."""
    values = torch.rand(VOCABULARY, generator=torch.Generator().manual_seed(4)) * 2 + 0.5
    values[::5] = 0
    return values


def lexical(**changes) -> Lexical:
    made = Lexical(root_idf(), MEAN_LENGTH, torch.ones(VOCABULARY))
    return dataclasses.replace(made, **changes)


@pytest.fixture
def encoder(byte_tokenizer):
    return SparseEncoder(CARD, tiny_model("llama"), byte_tokenizer, lexical=lexical())


@pytest.fixture
def folder(tmp_path, byte_tokenizer):
    """Checkpoint folder of `encoder`."""
    path = tmp_path / "encoder"
    tiny_model("llama").save_pretrained(path)
    byte_tokenizer.save_pretrained(path)
    write_card(CARD, path / "card.toml")
    write_lexical(root_idf(), MEAN_LENGTH, path / "lexical.safetensors")
    return path


def bm25_weights(row: list[int], side: str) -> list[float]:
    """The formula of the module, token by token."""
    idf = root_idf().tolist()
    length = sum(1 for token in row if idf[token])
    weights = [0.0] * VOCABULARY
    for token, count in Counter(row).items():
        part = 1.0
        if side == "document":
            norm = 1.2 * (1 - 0.75 + 0.75 * length / MEAN_LENGTH)
            part = count * 2.2 / (count + norm)
        weights[token] = idf[token] * part
    return weights


def padded(rows: list[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad_id] * (width - len(row)) for row in rows])
    mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    return ids, mask


@pytest.mark.parametrize("pad_id", [0, 7])
@pytest.mark.parametrize("side", ["query", "document"])
def test_weights_are_those_of_the_formula_whatever_the_padding(side, pad_id):
    drawn = random.Random(2)
    rows = [[drawn.choice([3, 5, 7, 8, 11, 12]) for _ in range(drawn.randint(1, 30))] for _ in range(20)]
    got = lexical().weights(*padded(rows, pad_id), side=side)
    torch.testing.assert_close(got, torch.tensor([bm25_weights(row, side) for row in rows]))


def test_the_inner_product_is_bm25():
    query, document = [3, 8, 8, 12], [3, 3, 4, 8, 9, 9, 9, 1]
    product = lexical().weights(*padded([query], 0), side="query") @ lexical().weights(
        *padded([document], 0), side="document"
    ).squeeze(0)
    idf = root_idf().square().tolist()
    norm = 1.2 * (0.25 + 0.75 * 8 / MEAN_LENGTH)
    assert float(product) == pytest.approx(
        idf[3] * 2 * 2.2 / (2 + norm) + idf[8] * 2.2 / (1 + norm), rel=1e-5
    )


@pytest.mark.parametrize("side", ["query", "document"])
def test_they_are_added_to_the_models_weights_without_the_light_ones(encoder, make_encoder, side):
    plain = make_encoder("llama", attention="bidirectional")
    own = plain.weights(TEXTS, side=side)
    assert ((own > 0) & (own < CARD.least_weight)).any()
    factor = CARD.side(side).lexical_weight
    added = torch.tensor([bm25_weights(row, side) for row in plain.tokenize(TEXTS, side=side)])
    added *= torch.tensor([term is not None for term in plain.terms])
    wanted = own.where(own >= CARD.least_weight, 0) + factor * added
    torch.testing.assert_close(encoder.weights(TEXTS, side=side), wanted)


def test_batch_and_order_change_no_vector(encoder):
    alone = [encoder.encode_documents([text])[0] for text in TEXTS]
    assert encoder.encode_documents(TEXTS) == alone
    assert encoder.encode_documents(TEXTS[::-1], batch_tokens=40) == alone[::-1]


def test_an_empty_text_has_no_weights(encoder):
    assert encoder.encode_documents(["", " \n"]) == [{}, {}]


def test_echo_counts_a_token_once(byte_tokenizer):
    card = dataclasses.replace(CARD, attention="causal", echo=True)
    echo = SparseEncoder(card, tiny_model("llama"), byte_tokenizer, lexical=lexical())
    none = SparseEncoder(
        dataclasses.replace(card, query_lexical_weight=0.0, document_lexical_weight=0.0),
        tiny_model("llama"),
        byte_tokenizer,
    )
    rows = echo.tokenize(TEXTS, side="document")
    added = torch.tensor([bm25_weights(row, "document") for row in rows])
    torch.testing.assert_close(echo.weights(TEXTS), none.weights(TEXTS) + 0.25 * added)


def test_unpooled_and_special_tokens_have_none_and_unpooled_ones_count_in_lengths(folder, byte_tokenizer):
    write_card(dataclasses.replace(CARD, unpooled_terms=("a",), add_bos=True), folder / "card.toml")
    loaded = load_encoder(str(folder))
    one = byte_tokenizer.convert_tokens_to_ids("a")
    [row] = loaded.tokenize(["a b a c"], side="document")
    made = loaded._lexical
    weights = made.weights(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.bool), side="document")[0]
    assert weights[one] == weights[row[0]] == 0
    wanted = torch.tensor(bm25_weights(row, "document"))  # its length counts the unpooled token
    wanted[[one, row[0]]] = 0
    torch.testing.assert_close(weights, wanted)
    counted = sum(1 for token in row if root_idf()[token])
    assert counted > sum(1 for token in row if root_idf()[token] and token != one)


def test_a_term_with_a_lexical_weight_alone_is_explained_by_its_own_token(folder):
    write_card(dataclasses.replace(CARD, least_weight=100.0), folder / "card.toml")
    attributed = load_encoder(str(folder)).attribute(TEXTS[1], side="document")
    assert attributed.vector
    for term, position in attributed.positions.items():
        assert attributed.tokens.index(term) == position


def test_a_folder_is_loaded_as_it_was_in_memory_and_its_idf_are_part_of_its_identity(folder, encoder):
    assert load_encoder(str(folder)).encode_documents(TEXTS) == encoder.encode_documents(TEXTS)
    before = find_checkpoint(str(folder)).identity
    write_lexical(root_idf() * 2, MEAN_LENGTH, folder / "lexical.safetensors")
    assert find_checkpoint(str(folder)).identity != before


def test_each_key_changes_the_hash():
    plain = EncoderCard(name="x")
    hashes = {
        dataclasses.replace(plain, **{key: 0.5}).hash()
        for key in ("least_weight", "query_lexical_weight", "document_lexical_weight")
    }
    assert len({*hashes, plain.hash()}) == 4


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no lexical.safetensors beside.*prepare.py lexical"),
        (b"{}", "no file of lexical weights"),
        ((torch.tensor([1.0, -1.0]), 3.0), "at least 0"),
        ((torch.tensor([1.0, torch.nan]), 3.0), "finite"),
        ((torch.ones(4), 0.0), "a mean length"),
        ((torch.ones(VOCABULARY + 1), 3.0), f"for {VOCABULARY + 1} tokens; wanted at most {VOCABULARY}"),
    ],
)
def test_a_file_that_does_not_fit_is_an_error(folder, content, reason):
    file = folder / "lexical.safetensors"
    file.unlink()
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        write_lexical(*content, file)
    with pytest.raises(InputError, match=reason):
        load_encoder(str(folder))


@pytest.mark.parametrize("key", ["fold", "query_prefix", "document_prefix"])
def test_folds_and_prefixes_are_refused(key):
    value = "case" if key == "fold" else "query: "
    with pytest.raises(InputError, match="no fold and no prefix with lexical weights"):
        parse_card({"name": "x", "query_lexical_weight": 1.0, key: value}, "card")


@pytest.mark.parametrize("key", ["least_weight", "query_lexical_weight", "document_lexical_weight"])
def test_weights_below_zero_are_refused(key):
    with pytest.raises(InputError, match=f"{key} is -1.*wanted at least 0"):
        parse_card({"name": "x", key: -1.0}, "card")


def test_weights_in_training_are_those_of_the_encoder(byte_tokenizer):
    card = dataclasses.replace(CARD, attention="causal", least_weight=0.0)  # training sees light ones, too
    student = Student(tiny_model("llama"), byte_tokenizer, card, lexical=lexical())
    settings = ContrastSettings(
        output="", data=("",), learning_rate=1.0, steps=1, query_regulariser=0.0, document_regulariser=0.0
    )
    model = ContrastiveModel(student, settings)
    encoder = SparseEncoder(card, tiny_model("llama"), byte_tokenizer, lexical=lexical())
    rows = encoder.tokenize(TEXTS, side="document")
    batch = ContrastCollator(card, byte_tokenizer, {})._batch(TEXTS, list(TEXTS), "document")
    weights = model._with_lexical(model._weights(model._peaks(batch, None), 0), batch, "document")
    torch.testing.assert_close(weights * encoder._is_term, encoder._weights(rows, "document"))


@pytest.mark.parametrize("lora", [0, 4])
def test_training_and_merging_keep_them(tmp_path, folder, lora):
    keys = "least_weight = 0.4\nquery_lexical_weight = 0.5\ndocument_lexical_weight = 0.25"
    file = configuration(tmp_path, folder, card=keys)
    assert train("contrast", file, f"contrast.lora_rank={lora}") == 0
    assert train("merge", file) == 0
    trained, merged = load_encoder(str(tmp_path / "contrasted")), load_encoder(str(tmp_path / "merged"))
    assert read_card(tmp_path / "merged" / "card.toml").document_lexical_weight == 0.25
    torch.testing.assert_close(read_lexical(tmp_path / "merged" / "lexical.safetensors")[0], root_idf())
    assert merged.encode_documents(TEXTS) == trained.encode_documents(TEXTS)


@pytest.mark.parametrize("side", ["query", "document"])
def test_rows_of_zeros_at_the_heads_end_are_left_out_and_change_nothing(byte_tokenizer, side, monkeypatch):
    """Their terms have lexical weights alone. The other encoder multiplies all rows."""
    model = tiny_model("llama", tie_word_embeddings=False)
    model.lm_head.weight.data[VOCABULARY // 2 :] = 0
    encoder = SparseEncoder(CARD, model, byte_tokenizer, lexical=lexical())
    assert encoder._rows_in_use == VOCABULARY // 2
    monkeypatch.setattr("csplade_pyserini.model.encoder.rows_in_use", len)
    whole = SparseEncoder(CARD, model, byte_tokenizer, lexical=lexical())
    assert whole._rows_in_use == VOCABULARY
    weights = encoder.weights(TEXTS, side=side)
    torch.testing.assert_close(weights, whole.weights(TEXTS, side=side))
    plain = SparseEncoder(plain_card(CARD), model, byte_tokenizer).weights(TEXTS, side=side)
    only = weights[:, VOCABULARY // 2 :]
    assert (plain[:, VOCABULARY // 2 :] == 0).all()
    assert (only > 0).any()
    assert encoder.attribute(TEXTS[0], side=side) == whole.attribute(TEXTS[0], side=side)


def plain_card(card: EncoderCard) -> EncoderCard:
    """A card without lexical weights."""
    return dataclasses.replace(card, query_lexical_weight=0.0, document_lexical_weight=0.0)
