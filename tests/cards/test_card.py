import dataclasses
import json
import math
import tomllib
from pathlib import Path, PurePath
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csplade_pyserini.cards import EncoderCard, parse_card, read_card, to_toml, write_card
from csplade_pyserini.cards.card import _ADDED_LATER, VECTOR_FIELDS, Attention, Fold, Pool, Weights
from csplade_pyserini.errors import InputError

FIELDS = {field.name: field for field in dataclasses.fields(EncoderCard)}
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(min_value=1e-12, max_value=1e12)
VALUES = {
    "name": TEXT.filter(str.strip),
    "aliases": st.lists(TEXT, max_size=3).map(tuple),
    "pool": st.sampled_from(get_args(Pool)),
    "unpooled_terms": st.lists(TEXT, max_size=3).map(tuple),
    "pool_prefix": st.booleans(),
    "fold": st.sampled_from(get_args(Fold)),
    "logit_shift": st.floats(min_value=0, max_value=1e12),
    "position_top_terms": st.integers(0, 10_000),
    "least_weight": st.floats(min_value=0, max_value=1e12),
    "query_lexical_weight": st.floats(min_value=0, max_value=1e12),
    "document_lexical_weight": st.floats(min_value=0, max_value=1e12),
    "weights": st.sampled_from(get_args(Weights)),
    "adapter": TEXT.filter(
        lambda text: not PurePath(text).is_absolute() and ".." not in PurePath(text).parts
    ),
    "revision": st.just("") | st.from_regex(r"[a-z0-9_][a-z0-9_+-]{0,9}(/[a-z0-9]{1,9})?", fullmatch=True),
    "base_file": TEXT.filter(lambda text: PurePath(text).name == text),
    "layers": st.integers(0, 10_000),
    "attention": st.sampled_from(get_args(Attention)),
    "echo": st.booleans(),
    "lowercase": st.booleans(),
    "add_bos": st.booleans(),
    "add_eos": st.booleans(),
    "exclude_special_tokens": st.booleans(),
    "quantize_head": st.booleans(),
    "logit_scale": POSITIVE,
    "impact_scale": POSITIVE,
    "query_max_length": st.integers(1, 10_000),
    "document_max_length": st.integers(1, 10_000),
    "query_top_terms": st.integers(0, 10_000),
    "document_top_terms": st.integers(0, 10_000),
    "paper_scores": st.dictionaries(TEXT, NUMBER, max_size=3),
    "query": st.just("model"),
}
NO_LEXICAL = {"query_lexical_weight": 0.0, "document_lexical_weight": 0.0}


def without_what_is_refused(card: EncoderCard) -> EncoderCard:
    """Lexical weights go with no fold and no prefix."""
    if card.fold == "none" and not card.query_prefix and not card.document_prefix:
        return card
    return dataclasses.replace(card, **NO_LEXICAL)


CARDS = st.builds(EncoderCard, **{name: VALUES.get(name, TEXT) for name in FIELDS}).map(
    without_what_is_refused
)

OTHER = {
    "name": "b",
    "aliases": ("c",),
    "pool": "words",
    "unpooled_terms": ("!",),
    "pool_prefix": False,
    "fold": "case",
    "logit_shift": 15.0,
    "position_top_terms": 12,
    "least_weight": 0.25,
    "query_lexical_weight": 0.5,
    "document_lexical_weight": 0.5,
    "weights": "hub",
    "layers": 4,
    "attention": "bidirectional",
    "echo": True,
    "lowercase": True,
    "add_bos": True,
    "add_eos": True,
    "exclude_special_tokens": True,
    "quantize_head": True,
    "logit_scale": 0.5,
    "impact_scale": 10.0,
    "query_max_length": 7,
    "document_max_length": 7,
    "query_top_terms": 7,
    "document_top_terms": 7,
    "query": "lookup",
    "paper_scores": {"beir/scifact nDCG@10": 71.2},
}
"""For every field a value that is not its default; texts become 'x'."""

WRONG_VALUES = {
    "add_bos": 1,
    "add_eos": 0,
    "exclude_special_tokens": "true",
    "quantize_head": 1,
    "echo": "yes",
    "lowercase": 1,
    "layers": 4.0,
    "query_max_length": True,
    "document_max_length": 256.0,
    "query_top_terms": "512",
    "document_top_terms": [512],
    "logit_scale": True,
    "logit_shift": "15",
    "position_top_terms": 12.0,
    "fold": True,
    "pool_prefix": 0,
    "impact_scale": "100",
    "name": 1,
    "base": ["meta-llama/Llama-3.2-1B"],
    "query_prefix": False,
    "aliases": "alias",
    "attention": "full",
    "weights": True,
    "paper_scores": [38.2],
}


def write(folder: Path, text: str) -> Path:
    file = folder / "card.toml"
    file.write_text(text, encoding="utf-8")
    return file


@settings(deadline=None, max_examples=150)
@given(CARDS)
def test_any_card_survives_toml(card):
    for with_defaults in (False, True):
        text = to_toml(card, with_defaults=with_defaults)
        again = parse_card(tomllib.loads(text), "here")
        assert again == card
        assert again.hash() == card.hash()


def test_a_card_survives_a_round_trip_through_a_file(tmp_path):
    card = EncoderCard(
        name="ä",
        aliases=("A/b", 'quo"te'),
        query_prefix='tab\t "q" \\ \n',
        echo=True,
        paper_scores={"set nDCG@10": 7.0},
    )
    write_card(card, tmp_path / "card.toml")
    assert read_card(tmp_path / "card.toml") == card


def test_a_card_in_toml_leaves_defaults_out_unless_they_are_asked_for():
    card = EncoderCard(name="a", echo=True)
    assert to_toml(card) == 'name = "a"\necho = true\n'
    assert set(tomllib.loads(to_toml(card, with_defaults=True))) == set(FIELDS) - {"paper_scores"}


def test_a_whole_number_counts_as_a_float():
    card = parse_card({"name": "a", "logit_scale": 2, "paper_scores": {"set nDCG@10": 7}}, "here")
    assert card == EncoderCard(name="a", logit_scale=2.0, paper_scores={"set nDCG@10": 7.0})
    assert type(card.logit_scale) is float
    assert type(card.paper_scores["set nDCG@10"]) is float


def test_an_unknown_key_is_an_error_that_lists_the_known_ones(tmp_path):
    file = write(tmp_path, 'name = "a"\nimpact_scal = 10.0\n')
    with pytest.raises(InputError) as error:
        read_card(file)
    assert str(error.value) == f"{file}: unknown key 'impact_scal'; known: {', '.join(sorted(FIELDS))}"


@pytest.mark.parametrize(("key", "value"), WRONG_VALUES.items())
def test_a_value_of_the_wrong_type_is_an_error_that_names_file_key_and_value(tmp_path, key, value):
    table = {"name": "a", key: value}
    file = write(tmp_path, "".join(f"{k} = {json.dumps(v)}\n" for k, v in table.items()))
    with pytest.raises(InputError) as error:
        read_card(file)
    assert str(error.value).startswith(f"{file}: {key} is {value!r}; wanted ")


def test_a_list_or_table_with_one_wrong_item_is_an_error(tmp_path):
    for key, text in (
        ("aliases", '["a", 1]'),
        ("paper_scores", '{x = "high"}'),
        ("paper_scores", "{x = true}"),
    ):
        file = write(tmp_path, f'name = "a"\n{key} = {text}\n')
        with pytest.raises(InputError, match=key) as error:
            read_card(file)
        assert str(file) in str(error.value)


def test_a_wrong_choice_is_an_error_that_lists_the_right_ones():
    with pytest.raises(InputError) as error:
        parse_card({"name": "a", "attention": "full"}, "here")
    assert str(error.value) == "here: attention is 'full'; wanted one of 'causal', 'bidirectional'"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layers", -1),
        ("query_max_length", 0),
        ("document_max_length", -1),
        ("query_top_terms", -1),
        ("document_top_terms", -512),
        ("impact_scale", 0.0),
        ("impact_scale", -100.0),
        ("impact_scale", math.nan),
        ("logit_scale", 0.0),
        ("logit_scale", -0.5),
        ("logit_scale", math.nan),
        ("logit_shift", -0.5),
        ("logit_shift", math.nan),
        ("position_top_terms", -1),
    ],
)
def test_a_value_out_of_range_is_an_error_that_names_file_and_key(tmp_path, key, value):
    file = write(tmp_path, f'name = "a"\n{key} = {value}\n')
    with pytest.raises(InputError) as error:
        read_card(file)
    assert str(error.value).startswith(f"{file}: {key} is {value}; wanted ")


def test_the_lowest_values_allowed_are_allowed():
    card = parse_card(
        {
            "name": "a",
            "query_max_length": 1,
            "document_max_length": 1,
            "query_top_terms": 0,
            "document_top_terms": 0,
        },
        "x",
    )
    assert (
        card.query_max_length,
        card.document_max_length,
        card.query_top_terms,
        card.document_top_terms,
    ) == (1, 1, 0, 0)


def test_a_card_without_a_name_is_an_error(tmp_path):
    file = write(tmp_path, "echo = true\n")
    with pytest.raises(InputError) as error:
        read_card(file)
    assert str(error.value) == f"{file}: the key 'name' is missing"


@pytest.mark.parametrize("name", ["", " ", "\t\n"])
def test_a_blank_name_is_an_error(name):
    with pytest.raises(InputError) as error:
        parse_card({"name": name}, "here")
    assert str(error.value) == f"here: name is {name!r}; wanted a name"


@pytest.mark.parametrize(
    "content",
    [b"name = ", b'name = "a"\nname = "b"\n', b"{}", b'name = "\xff"\n', b'name = "a"\n\xef\xbb\xbf\n'],
)
def test_what_is_no_toml_is_an_error_that_names_the_file(tmp_path, content):
    file = tmp_path / "card.toml"
    file.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_card(file)
    assert str(error.value).startswith(f"{file} is not TOML: ")


def test_a_card_that_is_not_there_or_a_folder_is_an_error_that_names_it(tmp_path):
    for path in (tmp_path / "card.toml", tmp_path):
        with pytest.raises(InputError) as error:
            read_card(path)
        assert str(error.value).startswith(f"cannot read the card {path}: ")


@pytest.mark.parametrize("field", FIELDS)
def test_the_hash_changes_with_what_changes_a_vector_and_with_nothing_else(field):
    card = EncoderCard(name="a")
    changed = dataclasses.replace(card, **{field: OTHER.get(field, "x")})
    assert changed != card
    assert (changed.hash() != card.hash()) == (field in VECTOR_FIELDS)


def test_names_sources_and_scores_are_the_only_fields_outside_the_hash():
    outside = set(FIELDS) - set(VECTOR_FIELDS)
    assert outside == {
        "query",
        "query_encoder",
        "name",
        "aliases",
        "summary",
        "weights",
        "install",
        "source",
        "licence",
        "paper_scores",
    }


def test_the_hash_is_a_fixed_sha256_of_the_card():
    assert EncoderCard(name="a").hash() == EncoderCard(name="b").hash()
    assert len(EncoderCard(name="a").hash()) == 64
    # As version 0.1.0 computes it: a change here orphans every manifest out there.
    assert EncoderCard(name="a").hash() == "020e5a475259e0666344324db5052d8794f11e64096d3188499e1a941f6e9404"


@pytest.mark.parametrize("key", _ADDED_LATER)
def test_a_key_that_came_later_is_in_the_hash_only_where_it_is_set(key):
    card = EncoderCard(name="a", echo=True)
    default, other = getattr(card, key), OTHER[key]
    assert parse_card({"name": "a", "echo": True, key: default}, "here").hash() == card.hash()
    assert parse_card({"name": "a", "echo": True, key: other}, "here").hash() != card.hash()
    assert (
        EncoderCard(name="a", layers=1).hash()
        != EncoderCard(name="a", layers=2).hash()
        != EncoderCard(name="a", lowercase=True).hash()
    )


def test_an_infinite_scale_is_an_error():
    for key in ("impact_scale", "logit_scale", "logit_shift"):
        with pytest.raises(InputError, match=key):
            parse_card({"name": "a", key: math.inf}, "here")


@pytest.mark.parametrize(
    "card", [EncoderCard(name="a", query_prefix="\x7f"), EncoderCard(name="a", paper_scores={"😀": 1.0})]
)
def test_rare_characters_survive_toml(card):
    assert parse_card(tomllib.loads(to_toml(card)), "here") == card
