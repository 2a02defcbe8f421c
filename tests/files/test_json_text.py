"""Both decoders of JSON give the same."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csplade_pyserini.files import json_text
from csplade_pyserini.files.json_text import parse_json

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def in_python(text: str) -> object:
    """Parse JSON by the decoder for texts that may be nested deep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "SAFE_BRACKETS", -1)
        return parse_json(text)


@given(JSON_VALUES)
def test_both_decoders_read_the_same(value):
    text = json.dumps(value)
    assert in_python(text) == json.loads(text) == parse_json(text)


@pytest.mark.parametrize("text", ["", "[", '{"a"', '{"a": 1,}', "nul", "1 2", '"\x01"'])
def test_both_decoders_refuse_the_same(text):
    for parse in (json.loads, parse_json, in_python):
        with pytest.raises(json.JSONDecodeError):
            parse(text)


def test_many_brackets_are_read_and_deep_ones_are_refused():
    wide = json.dumps([{"a": [number]} for number in range(5000)])
    assert parse_json(wide) == json.loads(wide)
    for opening in ("[", '{"a":'):
        with pytest.raises(RecursionError):
            parse_json(opening * 100_000)
