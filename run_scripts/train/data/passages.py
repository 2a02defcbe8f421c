"""The passages and the queries that the small encoder learns from: all but those of test collections.

MS MARCO's passages are the pool's texts; its topics and qrels are test, and are not read here.
"""

import random
from collections.abc import Iterator
from pathlib import Path

from sources import (
    filings,
    lone_questions,
    long_answers,
    medical_answers,
    msmarco_passages,
    paragraph_questions,
    trecqa_questions,
    wikipedia_passages,
    wordnet_glosses,
)
from texts import running_text

LONG = "long:"
"""First characters of a long passage's id."""
PASSAGE_WORDS = 110
"""Words of a passage. A longer text gives one stretch of it, at random."""
SPARE_WORDS = 30
"""A text with so many words more stays whole."""
LEAST_WORDS = 40
"""A stretch has at least so many words."""
LONG_WORDS = 230
"""Words of a long passage. Encoders that read no long ones in training are bad at them."""
LONG_TEXT_WORDS = 150
"""Texts with so many words give a long passage too, until there are enough:"""
LONG_MEDICAL = 4_500
LONG_OTHERS = 3_500
LEAST_CHARACTERS = 15
GLOSSES = 20_000
"""WordNet glosses that are passages."""
GLOSS_TERMS = 6_000
"""WordNet terms that are queries."""
MEDICAL_SHARE = 0.4
"""Share of the medical questions that are queries. They would outweigh the others."""
CROPPED = ("msmarco", "wikipedia", "clapnq")
"""Sources whose passages give a query each, as long ones do: a span of 3 to 8 words."""
SPAN_WORDS = range(3, 9)
CROPPED_WORDS = 20
"""Passages with more words than this are cropped."""


def read_passages(data: Path, seed: int) -> dict[str, str]:
    """Return the passages by id, each text once; the ids of long ones begin with `long:`."""
    passages: dict[str, str] = {}
    long_texts: dict[bool, dict[str, str]] = {True: {}, False: {}}
    seen = set()
    for name, text in _whole_texts(data, seed):
        passage = stretch(text, random.Random(f"{seed}:{name}"))
        if len(passage) >= LEAST_CHARACTERS and passage not in seen:
            seen.add(passage)
            passages[name] = passage
        if len(text.split()) >= LONG_TEXT_WORDS:
            long_texts[name.startswith("medquad:")][name] = text
    rng = random.Random(f"{seed}:long")
    for texts, most in ((long_texts[True], LONG_MEDICAL), (long_texts[False], LONG_OTHERS)):
        for name in rng.sample(list(texts), min(most, len(texts))):
            passages[f"{LONG}{name}"] = long_stretch(texts[name], random.Random(f"{seed}:long:{name}"))
    return passages


def read_queries(data: Path, passages: dict[str, str], seed: int) -> dict[str, str]:
    """Return questions, titles, terms and spans of passages, by id."""
    queries = dict(_questions(data, seed))
    for name, text in passages.items():
        if name.startswith(LONG):
            queries[f"crop-{name}"] = span(text, random.Random(f"{seed}:crop:{name}"))
        elif name.startswith(CROPPED) and len(text.split()) > CROPPED_WORDS:
            queries[f"crop:{name}"] = span(text, random.Random(f"{seed}:crop:{name}"))
    return {name: " ".join(text.split()) for name, text in queries.items() if text.strip()}


def stretch(text: str, rng: random.Random) -> str:
    """Return a text of at most PASSAGE_WORDS + SPARE_WORDS words, or PASSAGE_WORDS of them at random."""
    words = text.split()
    if len(words) > PASSAGE_WORDS + SPARE_WORDS:
        start = rng.choice(range(0, len(words) - LEAST_WORDS, PASSAGE_WORDS))
        words = words[start : start + PASSAGE_WORDS]
    return " ".join(words)


def long_stretch(text: str, rng: random.Random) -> str:
    """Return LONG_WORDS words of a text at random, or the whole of a shorter one."""
    words = text.split()
    if len(words) > LONG_WORDS:
        start = rng.choice(range(0, len(words) - PASSAGE_WORDS, PASSAGE_WORDS))
        words = words[start : start + LONG_WORDS]
    return " ".join(words)


def span(text: str, rng: random.Random) -> str:
    """Return a span of SPAN_WORDS words."""
    words = text.split()
    size = rng.choice(SPAN_WORDS)
    start = rng.randint(0, max(0, len(words) - size))
    return " ".join(words[start : start + size])


def _whole_texts(data: Path, seed: int) -> Iterator[tuple[str, str]]:
    """Yield the id and text of everything that is a passage."""
    yield from _named("msmarco", msmarco_passages(data))
    yield from _numbered("medquad", [answer for _, answer in medical_answers(data)])
    yield from _numbered("wikipedia", [f"{title}. {text}" for title, text in wikipedia_passages(data)])
    yield from _numbered("clapnq", [answer for _, answer in long_answers(data)])
    yield from _numbered("xquad", [paragraph for _, paragraph in paragraph_questions(data)])
    yield from _named("10k", filings(data)["corpus"])
    sentences = [text for _, _, right, wrong in trecqa_questions(data) for text in right + wrong]
    yield from _numbered("trecqa", sentences)
    yield from running_text(data)
    glosses = wordnet_glosses(data)
    for number in sorted(
        random.Random(f"{seed}:glosses").sample(range(len(glosses)), min(GLOSSES, len(glosses)))
    ):
        term, gloss = glosses[number]
        yield f"wordnet:{number}", f"{term}: {gloss}"


def _questions(data: Path, seed: int) -> Iterator[tuple[str, str]]:
    """Yield the id and text of every query that people or a WordNet entry wrote."""
    rng = random.Random(f"{seed}:medical")
    for number, (question, _) in enumerate(medical_answers(data)):
        if rng.random() < MEDICAL_SHARE:
            yield f"medquad:{number}", question
    yield from _numbered("wikipedia", [title for title, _ in wikipedia_passages(data)])
    yield from _numbered("clapnq", [question for question, _ in long_answers(data)])
    yield from _numbered("xquad", [question for question, _ in paragraph_questions(data)])
    yield from _named("10k", filings(data)["queries"])
    yield from _named("trecqa", {name: question for name, question, _, _ in trecqa_questions(data)})
    glosses = wordnet_glosses(data)
    for number in sorted(
        random.Random(f"{seed}:terms").sample(range(len(glosses)), min(GLOSS_TERMS, len(glosses)))
    ):
        yield f"wordnet:{number}", glosses[number][0]
    for number, (source, question) in enumerate(lone_questions(data)):
        yield f"{source}:{number}", question


def _named(source: str, texts: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name, text in texts.items():
        yield f"{source}:{name}", text


def _numbered(source: str, texts: list[str]) -> Iterator[tuple[str, str]]:
    for number, text in enumerate(texts):
        yield f"{source}:{number}", text
