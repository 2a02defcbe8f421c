"""Packing: all tokens of all texts in order, an end token after each text, in sequences of equal length."""

import gzip
import json

import numpy as np
import pytest
import torch
from tiny_models import TEXTS

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.errors import InputError
from csplade_pyserini.training import texts as texts_module
from csplade_pyserini.training.texts import PackedDataset, pack

CARD = EncoderCard(name="x", document_max_length=2, query_prefix="query: ")
"""Neither its length nor what it says of queries counts here."""


def corpus(path, texts):
    path.write_text("".join(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(texts)))
    return str(path)


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def packed(tmp_path, tokenizer, *names, card=CARD):
    """Tokens that pack writes, as a list."""
    file = tmp_path / "deep" / "tokens.uint32"
    pack(names, file, card=card, tokenizer=tokenizer)
    assert [path.name for path in file.parent.iterdir()] == ["tokens.uint32"]
    return np.fromfile(file, dtype=np.uint32).tolist()


def test_packing_loses_no_token_and_ends_each_text_with_the_end_token(tmp_path, byte_tokenizer):
    found = packed(tmp_path, byte_tokenizer, corpus(tmp_path / "c.jsonl", TEXTS))
    end = byte_tokenizer.eos_token_id
    assert found == [token for text in TEXTS for token in [*ids(byte_tokenizer, text), end]]
    assert found.count(end) == len(TEXTS)


@pytest.mark.parametrize("at_once", [1, 2, 5, 1000])
def test_how_many_texts_are_tokenized_together_never_matters(tmp_path, byte_tokenizer, monkeypatch, at_once):
    monkeypatch.setattr(texts_module, "_TEXTS_AT_ONCE", at_once)
    found = packed(tmp_path, byte_tokenizer, corpus(tmp_path / "c.jsonl", TEXTS * 3))
    assert found == [
        token for text in TEXTS * 3 for token in [*ids(byte_tokenizer, text), byte_tokenizer.eos_token_id]
    ]


def test_texts_are_tokenized_as_the_card_has_documents(tmp_path, byte_tokenizer):
    card = EncoderCard(name="x", add_bos=True, document_prefix="passage: ", lowercase=True)
    found = packed(tmp_path, byte_tokenizer, corpus(tmp_path / "c.jsonl", TEXTS), card=card)
    bos, end = byte_tokenizer.bos_token_id, byte_tokenizer.eos_token_id
    assert found == [
        token for text in TEXTS for token in [bos, *ids(byte_tokenizer, "passage: " + text.lower()), end]
    ]


def test_a_tokenizer_without_an_end_token_packs_without_one(tmp_path, byte_tokenizer):
    tokenizer = type(byte_tokenizer)(tokenizer_object=byte_tokenizer.backend_tokenizer)
    found = packed(tmp_path, tokenizer, corpus(tmp_path / "c.jsonl", TEXTS))
    assert found == [token for text in TEXTS for token in ids(byte_tokenizer, text)]


def test_blank_texts_leave_nothing_not_even_an_end_token(tmp_path, byte_tokenizer):
    found = packed(tmp_path, byte_tokenizer, corpus(tmp_path / "c.jsonl", ["", "pain", " \n"]))
    assert found == [*ids(byte_tokenizer, "pain"), byte_tokenizer.eos_token_id]


def test_files_are_packed_in_the_order_they_are_named_and_their_texts_in_theirs(tmp_path, byte_tokenizer):
    one, two = corpus(tmp_path / "a.jsonl", TEXTS[:2]), corpus(tmp_path / "b.jsonl", TEXTS[2:])
    alone = [packed(tmp_path, byte_tokenizer, name) for name in (one, two)]
    assert packed(tmp_path, byte_tokenizer, two, one, two) == alone[1] + alone[0] + alone[1]


def test_packing_again_gives_the_same_file(tmp_path, byte_tokenizer):
    name = corpus(tmp_path / "c.jsonl", TEXTS * 20)
    assert packed(tmp_path, byte_tokenizer, name) == packed(tmp_path, byte_tokenizer, name)


@pytest.mark.parametrize("ending", [".txt", ".txt.gz"])
def test_a_text_file_has_a_text_a_line(tmp_path, byte_tokenizer, ending):
    file = tmp_path / f"texts{ending}"
    content = "".join(text + "\n" for text in [TEXTS[0], "", "  ", *TEXTS[1:]]).encode()
    file.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    [line_end] = ids(byte_tokenizer, "\n")
    found = [token for token in packed(tmp_path, byte_tokenizer, str(file)) if token != line_end]
    assert found == [
        token for text in TEXTS for token in [*ids(byte_tokenizer, text), byte_tokenizer.eos_token_id]
    ]


def test_token_ids_beyond_16_bits_survive(tmp_path):
    file = tmp_path / "tokens.uint32"
    np.array([128_255, 65_536, 7, 2**31 - 1], dtype=np.uint32).tofile(file)
    [sequence] = PackedDataset(file, 4)
    assert sequence["ids"].tolist() == [128_255, 65_536, 7, 2**31 - 1]


@pytest.mark.parametrize("length", [2, 7, 10, 20])
def test_sequences_are_equal_cuts_of_the_file_and_the_rest_is_left_out(tmp_path, length):
    file = tmp_path / "tokens.uint32"
    tokens = list(range(20))
    np.array(tokens, dtype=np.uint32).tofile(file)
    dataset = PackedDataset(file, length)
    found = [dataset[index]["ids"] for index in range(len(dataset))]
    assert [ids.tolist() for ids in found] == [
        tokens[at : at + length] for at in range(0, 20 - length + 1, length)
    ]
    assert all(ids.dtype == torch.int64 for ids in found)


def test_what_is_read_may_be_changed_and_the_file_may_not(tmp_path):
    file = tmp_path / "tokens.uint32"
    np.arange(6, dtype=np.uint32).tofile(file)
    dataset = PackedDataset(file, 3)
    dataset[1]["ids"].fill_(99)
    assert dataset[1]["ids"].tolist() == [3, 4, 5]


def test_texts_that_fill_no_sequence_are_an_error(tmp_path, byte_tokenizer):
    file = tmp_path / "tokens.uint32"
    pack([corpus(tmp_path / "c.jsonl", ["pain"])], file, card=CARD, tokenizer=byte_tokenizer)
    count = len(ids(byte_tokenizer, "pain")) + 1
    assert len(PackedDataset(file, count)) == 1
    with pytest.raises(InputError) as error:
        PackedDataset(file, count + 1)
    assert (
        str(error.value)
        == f"the texts have {count} tokens; wanted at least one sequence of {count + 1} (sequence_length)"
    )


@pytest.mark.parametrize("texts", [[], ["", "\t"]])
def test_no_texts_at_all_are_an_error(tmp_path, byte_tokenizer, texts):
    file = tmp_path / "tokens.uint32"
    pack([corpus(tmp_path / "c.jsonl", texts)], file, card=CARD, tokenizer=byte_tokenizer)
    with pytest.raises(InputError, match="the texts have 0 tokens; wanted at least one sequence of 2"):
        PackedDataset(file, 2)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("none.txt", "the text file {} does not exist"),
        ("none.txt.gz", "the text file {} does not exist"),
        ("none.jsonl", "the corpus {} "),
    ],
)
def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path, byte_tokenizer, name, wanted):
    with pytest.raises(InputError) as error:
        packed(tmp_path, byte_tokenizer, str(tmp_path / name))
    assert str(error.value).startswith(wanted.format(tmp_path / name))


def test_a_bad_line_is_an_error_that_names_it_and_leaves_no_file_of_tokens(tmp_path, byte_tokenizer):
    name = corpus(tmp_path / "c.jsonl", TEXTS)
    with open(name, "a") as file:
        file.write('{"id": "x"}\n')
    with pytest.raises(InputError) as error:
        pack([name], tmp_path / "tokens.uint32", card=CARD, tokenizer=byte_tokenizer)
    assert str(error.value).startswith(f"{name}:{len(TEXTS) + 1}: no text; wanted ")
    assert not (tmp_path / "tokens.uint32").exists()
