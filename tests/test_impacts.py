import hashlib
import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from csplade_pyserini.impacts import LUCENE_MAX_TERM_LENGTH, dot, empty_term, to_term, to_terms, to_vector

TEXT = st.text(max_size=300)
# Java's Character.isWhitespace, where Lucene's whitespace tokenizers cut: java.lang.Character, Java 21.
JAVA_WHITE_SPACE = {*"\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \u1680\u2028\u2029\u205f\u3000"} | {
    chr(c) for c in range(0x2000, 0x200B)
} - {"\u2007"}
VECTORS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 500))


def byte_level_alphabet() -> list[str]:
    """The 256 characters that byte-level BPE writes bytes with (GPT-2's encoder.py, bytes_to_unicode)."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in kept] + [chr(256 + n) for n in range(256 - len(kept))]


def utf16_units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


@settings(deadline=None)
@given(st.text(alphabet=byte_level_alphabet(), min_size=1, max_size=LUCENE_MAX_TERM_LENGTH))
@example("Ġmanhattan")
@example("".join(byte_level_alphabet())[:LUCENE_MAX_TERM_LENGTH])
@example("<|begin_of_text|>")
def test_byte_level_strings_are_terms_as_they_are(token):
    assert to_term(token) == token


@settings(deadline=None, max_examples=300)
@given(TEXT)
@example("")
@example("\n\n")
@example("\u3000" * 255)
@example("😀" * 128)
@example("a" * 256)
@example("".join(sorted(JAVA_WHITE_SPACE)))
@example("".join(map(chr, range(160))))
def test_a_term_is_one_word_that_lucene_keeps_whole(token):
    term = to_term(token)
    assert term.split() == [term]
    assert not JAVA_WHITE_SPACE & set(term)
    assert not any(ord(c) < 32 for c in term)
    assert 1 <= utf16_units(term) <= LUCENE_MAX_TERM_LENGTH


def test_white_space_and_nothing_are_written_out():
    assert to_term("a b") == "a\\u0020b"
    assert to_term("\n\t") == "\\u000a\\u0009"
    assert to_term("\u3000") == "\\u3000"
    assert to_term("") == "\\empty"


def test_length_is_counted_in_utf16_units():
    for token in ("a" * 255, "ä" * 255, "😀" * 127):
        assert to_term(token) == token
    for token in ("a" * 256, "ä" * 256, "😀" * 128):
        assert to_term(token) == token[:100] + "\\" + hashlib.sha256(token.encode()).hexdigest()[:16]


def test_long_tokens_with_one_head_have_terms_of_their_own():
    assert len(set(to_terms(["a" * n for n in range(1, 400)]))) == 399


def test_a_vocabulary_keeps_its_order_and_its_gaps():
    assert to_terms(["b", None, "a c", None, "a"]) == ["b", None, "a\\u0020c", None, "a"]


@settings(deadline=None)
@given(
    st.lists(
        st.none() | st.text(max_size=8),
        max_size=20,
        unique_by=lambda token: object() if token is None else token,
    )
)
def test_the_terms_of_a_vocabulary_are_distinct_or_refused(tokens):
    singles = [None if token is None else to_term(token) for token in tokens]
    present = [term for term in singles if term is not None]
    if len(set(present)) == len(present):
        assert to_terms(tokens) == singles
    else:
        with pytest.raises(ValueError, match="would share the term"):
            to_terms(tokens)


def test_two_tokens_that_would_share_a_term_are_an_error_that_names_both():
    with pytest.raises(ValueError, match="tokens 1 and 3 would share the term") as error:
        to_terms(["x", "\n", None, "\\u000a"])
    assert "'\\\\u000a'" in str(error.value)
    with pytest.raises(ValueError, match="tokens 0 and 1"):
        to_terms(["", "\\empty"])


@settings(deadline=None)
@given(st.integers(0, 4), st.lists(st.none() | st.text(max_size=8)))
def test_the_reserved_term_is_in_no_vocabulary(wrapped, others):
    terms = [*others, *("[" * n + "[CSPLADE-EMPTY]" + "]" * n for n in range(wrapped))]
    reserved = empty_term(terms)
    assert reserved not in terms
    assert to_term(reserved) == reserved, "Lucene has to keep it whole"


def test_the_reserved_term_is_the_default_where_that_is_free():
    assert empty_term([]) == empty_term(["Ġa", None]) == "[CSPLADE-EMPTY]"
    assert empty_term(iter(["[CSPLADE-EMPTY]"])) == "[[CSPLADE-EMPTY]]"


def test_a_vector_is_heaviest_first_with_ties_by_token_id():
    vector = to_vector([4, 0, 3, 1], [7, 2, 7, 300], ["a", "b", None, "d", "e"])
    assert list(vector.items()) == [("b", 300), ("d", 7), ("e", 7), ("a", 2)]


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, 19), st.integers(1, 9)), st.randoms(use_true_random=False))
def test_a_vector_does_not_depend_on_the_order_it_is_given_in(impacts, shuffler: random.Random):
    terms = [f"t{i}" for i in range(20)]
    pairs = list(impacts.items())
    shuffler.shuffle(pairs)
    vector = to_vector([i for i, _ in pairs], [n for _, n in pairs], terms)
    assert list(vector.items()) == [
        (terms[i], n) for i, n in sorted(impacts.items(), key=lambda pair: (-pair[1], pair[0]))
    ]


def test_impacts_are_plain_ints():
    vector = to_vector(np.array([1, 0]), np.array([3, 5], dtype=np.int32), ["a", "b"])
    assert vector == {"a": 5, "b": 3}
    assert {type(impact) for impact in vector.values()} == {int}


@pytest.mark.parametrize(
    ("token_id", "impact", "shown"), [(0, 0, "0 ('a')"), (0, -3, "0 ('a')"), (1, 5, "1 (None)")]
)
def test_an_impact_below_one_or_a_token_without_a_term_is_an_error(token_id, impact, shown):
    with pytest.raises(ValueError, match="wanted a term and at least 1") as error:
        to_vector([token_id], [impact], ["a", None])
    assert str(error.value).startswith(f"token {shown.split()[0]} {shown.split()[1]} has impact {impact}")


def test_as_many_impacts_as_tokens_are_wanted():
    with pytest.raises(ValueError, match="zip"):
        to_vector([0, 1], [5], ["a", "b"])


def test_nothing_makes_the_empty_vector():
    assert to_vector([], [], ["a"]) == {}


def test_the_score_is_the_inner_product():
    assert dot({"a": 2, "b": 3, "c": 5}, {"b": 7, "c": 1, "d": 100}) == 26
    assert dot({}, {"a": 1}) == dot({"a": 1}, {}) == dot({"a": 1}, {"b": 1}) == 0


@settings(deadline=None)
@given(VECTORS, VECTORS)
def test_the_score_is_symmetric_and_sums_the_shared_terms(query, document):
    assert dot(query, document) == dot(document, query)
    assert dot(query, document) == sum(
        query[term] * document[term] for term in query.keys() & document.keys()
    )
