"""Folds: the tokens `heat`, `Heat`, `Ġheat` and `ĠHeat` as one Lucene term, `heat`. No torch, no Java.

A fold holds the tokens whose text is the same in lower case and without the space before it. Text means
characters: the bytes of a byte-level vocabulary are decoded first, as lower-casing them one by one would make
one term of different characters.
"""

import functools
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from csplade_pyserini.impacts import distinct_term, to_term

BYTE_SPACE = "Ġ"
"""A space in a byte-level vocabulary (GPT-2, Llama 3, Qwen, SmolLM, ModernBERT)."""
SENTENCE_SPACE = "▁"
"""A space in a SentencePiece vocabulary (Llama 2, Mistral, Gemma)."""
CONTINUATION = "##"
"""Start of a WordPiece token that goes on with a word; and of a folded term that begins no word."""
_MARKS = (BYTE_SPACE, SENTENCE_SPACE, CONTINUATION)
_SCRIPTS_WITHOUT_SPACES = ("CJK ", "HIRAGANA", "KATAKANA", "THAI ", "LAO ", "KHMER ", "MYANMAR ", "TIBETAN ")
"""Starts of the Unicode names of letters that have no spaces between words."""


class Folding(NamedTuple):
    """The terms of a vocabulary, and the term of each token."""

    terms: list[str]
    """Lucene term of each fold, in the order of its first token; all differ."""
    folds: list[int]
    """Fold of each token id; `len(terms)` for ids that are no terms."""


class _Text(NamedTuple):
    """A token's text without the space before it, in lower case."""

    text: str
    begins: bool
    """Whether a space, and so the beginning of a word, comes before it."""


def fold_vocabulary(tokenizer: Any, size: int, *, excluded: Collection[int] = ()) -> Folding:
    """Fold the first `size` ids of a tokenizer of transformers.

    Special tokens stay as they are, each a fold of its own. excluded: ids that are no terms.
    """
    tokens: list[str | None] = [None] * size
    for token, token_id in tokenizer.get_vocab().items():
        if token_id < size:
            tokens[token_id] = token
    for token_id in excluded:
        if token_id < size:
            tokens[token_id] = None
    added = {number: token.special for number, token in tokenizer.added_tokens_decoder.items()}
    added |= dict.fromkeys(tokenizer.all_special_ids, True)
    return fold_tokens(tokens, added)


def fold_tokens(tokens: Sequence[str | None], added: Mapping[int, bool]) -> Folding:
    """Fold the strings of a vocabulary by token id; None: an id that is no term.

    added: ids of tokens that were added to the vocabulary, whose strings are plain text; True for special
    ones, which are not folded.

    A term is its fold's text. A fold that begins no word is written `##ade`, so that it is no whole word. Not
    so in a script without spaces (Chinese), nor where no token begins a word with its first character: a
    vocabulary may split off all digits.
    """
    mark = _mark_of(token for number, token in enumerate(tokens) if token and number not in added)
    groups: dict[tuple[str, bool], list[int]] = {}
    begun: set[tuple[str, bool]] = set()
    for token_id, token in enumerate(tokens):
        if token is None:
            continue
        is_special = added.get(token_id, False)
        found = _Text(token, False)
        if not is_special:
            found = _text_of(token, "" if token_id in added else mark)
        key = (found.text, is_special)
        groups.setdefault(key, []).append(token_id)
        if found.begins:
            begun.add(key)
    first_characters = {text[0] for text, _ in begun}
    terms: list[str] = []
    taken: set[str] = set()
    folds = [len(groups)] * len(tokens)
    for number, (key, token_ids) in enumerate(groups.items()):
        text, is_special = key
        is_piece = key not in begun and not is_special and text[:1] in first_characters and _has_words(text)
        term = distinct_term(to_term(f"{CONTINUATION}{text}" if is_piece else text), text, taken)
        taken.add(term)
        terms.append(term)
        for token_id in token_ids:
            folds[token_id] = number
    return Folding(terms, folds)


def readable_fold(term: str) -> str:
    """Return a folded term as people read it, without the mark of a piece: `ade` for `##ade`."""
    return term.removeprefix(CONTINUATION) or term


def byte_characters(content: bytes) -> str:
    """Return a token's string in a byte-level vocabulary: one character for each byte."""
    characters = {byte: character for character, byte in _bytes_by_character().items()}
    return "".join(characters[byte] for byte in content)


def _has_words(text: str) -> bool:
    """Whether a text begins with a letter or digit of a script that puts spaces between words."""
    return text[0].isalnum() and not unicodedata.name(text[0], "").startswith(_SCRIPTS_WITHOUT_SPACES)


def _mark_of(tokens: Any) -> str:
    """Return the mark that most tokens begin with: it tells the kind of vocabulary. Empty if none does."""
    counts = dict.fromkeys(_MARKS, 0)
    for token in tokens:
        for mark in _MARKS:
            counts[mark] += token.startswith(mark)
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else ""


def _text_of(token: str, mark: str) -> _Text:
    """Return a token's text, in a vocabulary with this mark."""
    if mark == SENTENCE_SPACE:
        return _without_space(token.replace(SENTENCE_SPACE, " "))
    if mark == CONTINUATION:
        return _Text(token.lower(), False)
    known = _bytes_by_character()
    if mark != BYTE_SPACE or not all(character in known for character in token):
        return _without_space(token)
    content = bytes(known[character] for character in token)
    try:
        return _without_space(content.decode())
    except UnicodeDecodeError:  # a part of a character: written as bytes
        rest = content.removeprefix(b" ")
        return _Text("".join(f"\\x{byte:02x}" for byte in rest), len(rest) < len(content))


def _without_space(text: str) -> _Text:
    """Leave out one space before a text; white space alone stays as it is."""
    rest = text.removeprefix(" ")
    if not rest.strip():
        return _Text(text, False)
    return _Text(rest.lower(), len(rest) < len(text))


@functools.cache
def _bytes_by_character() -> dict[str, int]:
    """Byte of each character of a byte-level vocabulary: printable ones are themselves, others follow 255."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(0x100 + number): byte for number, byte in enumerate(others)}
