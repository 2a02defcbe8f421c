"""A card's lengths against the positions that a model has learned: refused before anything is encoded."""

import dataclasses

import pytest
import torch
from tiny_models import tiny_model

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.errors import InputError
from csplade_pyserini.model import load_encoder
from csplade_pyserini.model.positions import check_lengths, learned_positions
from csplade_pyserini.training.adaptation import adapt
from csplade_pyserini.training.contrast import contrast
from csplade_pyserini.training.settings import AdaptSettings, ContrastSettings

POSITIONS = 40
CARD = EncoderCard(name="mine", query_max_length=8, document_max_length=16, add_bos=True, add_eos=True)
ROTARY = ("llama", "qwen2", "qwen3", "mistral")


@pytest.mark.parametrize("architecture", ["opt", "gpt2"])
def test_the_number_of_positions_is_where_the_model_itself_ends(architecture):
    key = {"opt": "max_position_embeddings", "gpt2": "n_positions"}[architecture]
    model = tiny_model(architecture, **{key: POSITIONS})
    assert learned_positions(model) == POSITIONS
    ids = torch.ones(1, POSITIONS, dtype=torch.long)
    model(input_ids=ids, attention_mask=torch.ones_like(ids))
    longer = torch.ones(1, POSITIONS + 1, dtype=torch.long)
    with pytest.raises(IndexError):
        model(input_ids=longer, attention_mask=torch.ones_like(longer))


@pytest.mark.parametrize("architecture", ROTARY)
def test_rotary_positions_have_no_end(architecture):
    model = tiny_model(architecture, max_position_embeddings=POSITIONS)
    assert learned_positions(model) == 0
    check_lengths(model, dataclasses.replace(CARD, document_max_length=10 * POSITIONS))
    ids = torch.ones(1, 2 * POSITIONS, dtype=torch.long)
    model(input_ids=ids, attention_mask=torch.ones_like(ids))


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("side", ["query", "document"])
def test_the_longest_length_that_fits_is_taken_and_one_more_refused(side, echo):
    model = tiny_model("opt", max_position_embeddings=POSITIONS)
    most = {False: 38, True: 18}[echo]
    card = dataclasses.replace(CARD, echo=echo, **{f"{side}_max_length": most})
    check_lengths(model, card)
    with pytest.raises(
        InputError, match=rf"{side}_max_length of mine is {most + 1}, .*wanted at most {most}$"
    ):
        check_lengths(model, dataclasses.replace(card, **{f"{side}_max_length": most + 1}))


def test_a_length_behind_the_encoders_name_is_refused_as_it_loads():
    load_encoder("csplade-tiny:max_length=510")
    with pytest.raises(InputError, match="max_length of csplade-tiny is 511, .*has 512 positions"):
        load_encoder("csplade-tiny:max_length=511")


def test_both_phases_refuse_what_has_no_positions(tmp_path):
    card = EncoderCard(name="mine", add_bos=True, add_eos=True, echo=True, document_max_length=255)
    settings = {"output": str(tmp_path / "out"), "data": ("none",), "learning_rate": 1.0, "steps": 1}
    with pytest.raises(InputError, match="sequence_length is 2048, and the model has 512 positions"):
        adapt(card, AdaptSettings(start="csplade-tiny", **settings))
    lines = tmp_path / "examples.jsonl"
    lines.write_text('{"query": "a", "positive_passages": [{"text": "b"}]}\n')
    settings |= {
        "output": str(tmp_path / "other"),
        "data": (str(lines),),
        "negatives": 0,
        "query_regulariser": 0.0,
        "document_regulariser": 0.0,
    }
    with pytest.raises(InputError, match="document_max_length of mine is 255, .*wanted at most 254"):
        contrast(card, ContrastSettings(start="csplade-tiny", **settings))
