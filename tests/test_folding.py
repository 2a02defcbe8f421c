"""Folds of vocabularies: which tokens share a term, and what the term is called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizer

from csplade_pyserini.cards import find_checkpoint
from csplade_pyserini.folding import byte_characters, fold_tokens, fold_vocabulary, readable_fold
from csplade_pyserini.impacts import LUCENE_MAX_TERM_LENGTH, empty_term
from csplade_pyserini.model.backbone import load_tokenizer


def terms_of(tokens, added=()):
    folding = fold_tokens(tokens, dict(added))
    return [[*folding.terms, None][fold] for fold in folding.folds]


def byte_level(*texts):
    return [byte_characters(text if isinstance(text, bytes) else text.encode()) for text in texts]


def test_tokens_that_differ_in_case_or_in_the_space_before_them_are_one_readable_word():
    tokens = byte_level("heat", "Heat", " heat", " Heat", "HEAT", " cold", "été", " ÉTÉ", " Ναί", " ΝΑΊ")
    assert terms_of(tokens) == ["heat"] * 5 + ["cold"] + ["été"] * 2 + ["ναί"] * 2


def test_sentencepiece_marks_the_same_words():
    tokens = ["▁heat", "▁Heat", "heat", "Heat", "▁the", "<s>", "▁of▁the", "▁▁", "▁"]
    wanted = ["heat"] * 4 + ["the", "<s>", "of\\u0020the", "\\u0020\\u0020", "\\u0020"]
    assert terms_of(tokens, {5: True}) == wanted


def test_wordpiece_keeps_pieces_apart_from_words():
    tokens = ["[CLS]", "heat", "Heat", "##heat", "##Heat", "##s", "s", "##"]
    assert terms_of(tokens, {0: True}) == ["[CLS]", "heat", "heat", "##heat", "##heat", "##s", "s", "##"]


def test_a_fold_that_begins_no_word_is_marked_as_a_piece():
    tokens = byte_level(" air", "ade", "Ade", " ads", "irport", " in", ").", "...", "zyx")
    assert terms_of(tokens) == ["air", "##ade", "##ade", "ads", "##irport", "in", ").", "...", "zyx"]
    assert readable_fold("##ade") == "ade"
    assert readable_fold("##") == "##"
    assert readable_fold("air") == "air"


def test_digits_that_are_always_split_off_and_scripts_without_spaces_have_no_pieces():
    assert terms_of(byte_level(" a", "1", "2024", "北京", " 北", "京都")) == [
        "a", "1", "2024", "北京", "北", "京都",
    ]  # fmt: skip
    assert terms_of(byte_level(" a", " 1", "12", " 2")) == ["a", "1", "##12", "2"]


def test_bytes_are_not_lower_cased_one_by_one():
    """`上` and `下` differ in one byte, whose characters in the vocabulary are a letter's two cases."""
    tokens = byte_level("上", "下", "（", "）", " a")
    assert tokens[0].lower() == tokens[1].lower()
    assert tokens[2].lower() == tokens[3].lower()
    assert terms_of(tokens) == ["上", "下", "（", "）", "a"]


def test_parts_of_characters_are_written_as_bytes():
    assert terms_of(byte_level(b"\xc3", b" \xc3", b"\xe3", " a", "Ã", "ã")) == [
        "\\xc3", "\\xc3", "\\xe3", "a", "ã", "ã",
    ]  # fmt: skip


def test_white_space_and_control_characters_are_no_part_of_a_term():
    tokens = byte_level(" ", "  ", "\n", " \n", "\x00", "\u2028", " a\u00a0b", " x")
    assert terms_of(tokens) == [
        "\\u0020", "\\u0020\\u0020", "\\u000a", "\\u0020\\u000a", "\\u0000", "\\u2028", "a\\u00a0b", "x",
    ]  # fmt: skip


def test_special_tokens_are_never_folded_and_other_added_ones_are_plain_text():
    tokens = [*byte_level(" heat", " s>"), "<S>", "<s>", "Heat", " heat"]
    assert terms_of(tokens, {2: True, 3: True, 4: False, 5: False}) == [
        "heat", "s>", "<S>", "<s>", "heat", "heat",
    ]  # fmt: skip


def test_terms_that_would_collide_stay_apart():
    folding = fold_tokens([*byte_level(" a", " b", "ab", "##ab", " <s>", "\\u0020", " "), "<s>"], {7: True})
    assert len(folding.terms) == len(set(folding.terms)) == 8
    assert folding.terms[:3] == ["a", "b", "##ab"]
    assert folding.terms[4] == "<s>"


def test_the_reserved_term_is_never_a_fold_s():
    for tokens, added in (
        (byte_level(" [CSPLADE-EMPTY]", " x"), {}),
        ([*byte_level(" x"), "[CSPLADE-EMPTY]"], {1: True}),
    ):
        terms = fold_tokens(tokens, added).terms
        assert empty_term(terms) not in terms


def test_ids_without_a_token_are_no_terms():
    folding = fold_tokens([*byte_level(" a"), None, *byte_level("A"), None], {})
    assert folding.terms == ["a"]
    assert folding.folds == [0, 1, 0, 1]


CHARACTERS = st.characters(exclude_categories=["Cs"])


@given(st.lists(st.text(CHARACTERS, min_size=1, max_size=300), max_size=12, unique=True), st.booleans())
def test_any_vocabulary_has_terms_that_lucene_keeps_whole_and_apart(texts, marked):
    tokens = [byte_characters(text.encode()) for text in texts] if marked else texts
    folding = fold_tokens(tokens, {})
    assert len(folding.folds) == len(tokens)
    assert sorted(set(folding.folds)) == list(range(len(folding.terms)))
    assert len(set(folding.terms)) == len(folding.terms)
    for term in folding.terms:
        assert len(term.encode("utf-16-le")) // 2 <= LUCENE_MAX_TERM_LENGTH
        assert len(term.split()) == 1


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Zs", "Cc"]), min_size=1), unique=True))
def test_folding_merges_exactly_what_is_equal_in_lower_case_without_its_space(words):
    """Against every pair of tokens, one by one."""
    texts = list(dict.fromkeys(form for word in words for form in (word, f" {word}", word.upper())))
    texts = [text for text in texts if text.strip()]
    folds = fold_tokens([byte_characters(text.encode()) for text in texts], {}).folds
    for one, first in zip(texts, folds, strict=True):
        for other, second in zip(texts, folds, strict=True):
            same = one.removeprefix(" ").lower() == other.removeprefix(" ").lower()
            assert (first == second) == same, (one, other)


def test_the_shipped_tokenizer_is_folded_already_and_its_special_tokens_stay():
    tokenizer = load_tokenizer(find_checkpoint("csplade-tiny"))
    folding = fold_vocabulary(tokenizer, len(tokenizer) + 2)
    assert len(tokenizer) == len(folding.terms) == 26_037
    assert folding.folds[-2:] == [len(folding.terms)] * 2
    for token, token_id in tokenizer.get_added_vocab().items():
        assert folding.terms[folding.folds[token_id]] == token
    excluded = fold_vocabulary(tokenizer, len(tokenizer), excluded=tokenizer.all_special_ids)
    assert len(folding.terms) - len(excluded.terms) == len(tokenizer.all_special_ids)


@pytest.mark.smol
def test_smollm2_has_33_151_folds():
    """33,057 if its bytes were lower-cased one by one, as if they were letters."""
    tokenizer = load_tokenizer(find_checkpoint("csplade-bi-smol"))
    vocabulary = tokenizer.get_vocab()
    folding = fold_vocabulary(tokenizer, len(vocabulary))
    assert (len(vocabulary), len(folding.terms)) == (49_152, 33_151)
    assert len({token.removeprefix("Ġ").lower() for token in vocabulary}) == 33_057
    of = {token: folding.terms[folding.folds[token_id]] for token, token_id in vocabulary.items()}
    assert {of[token] for token in ("heat", "Heat", "Ġheat", "ĠHeat")} == {"heat"}
    assert of["Ġtherapy"] == "therapy"


def test_a_wordpiece_tokenizer_of_transformers_keeps_its_pieces():
    vocabulary = ["[UNK]", "[PAD]", "the", "The", "heart", "##beat", "##Beat", "beat"]
    tokenizer = BertTokenizer(vocab={token: number for number, token in enumerate(vocabulary)})
    folding = fold_vocabulary(tokenizer, len(vocabulary))
    found = [folding.terms[fold] for fold in folding.folds]
    assert found == ["[UNK]", "[PAD]", "the", "the", "heart", "##beat", "##beat", "beat"]
