"""Readers for the sources in the development data."""

import csv
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def msmarco_passages(data: Path) -> dict[str, str]:
    """Return the passages of the MS MARCO pool, by docid."""
    with gzip.open(data / "msmarco-dl" / "collection.jsonl.gz", "rt", encoding="utf-8") as lines:
        return {record["id"]: record["contents"] for record in map(json.loads, lines)}


def wordnet_glosses(data: Path) -> list[tuple[str, str]]:
    """Return WordNet's terms, each with its gloss."""
    with gzip.open(data / "pairs" / "wordnet_gloss_pairs.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [(record["query"], record["pos"]) for record in map(json.loads, lines)]


def _pairs(data: Path, name: str) -> Iterator[tuple[str, str]]:
    """Yield the questions and passages of one file of `pairs`."""
    with gzip.open(data / "pairs" / name, "rt", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            yield record["query"], record["passage"]


def medical_answers(data: Path) -> list[tuple[str, str]]:
    """Return MedQuAD's questions, each with its answer."""
    return [
        (question.replace(" (are)", "").replace(" ?", "?"), answer)
        for question, answer in _pairs(data, "medquad.jsonl.gz")
    ]


def long_answers(data: Path) -> list[tuple[str, str]]:
    """Return CLAPNQ's questions, each with its answer."""
    return [(question, natural(answer)) for question, answer in _pairs(data, "clapnq-train.jsonl.gz")]


def paragraph_questions(data: Path) -> list[tuple[str, str]]:
    """Return XQuAD's English questions, each with its paragraph."""
    return list(_pairs(data, "xquad-en.jsonl.gz"))


def wikipedia_passages(data: Path) -> list[tuple[str, str]]:
    """Return the titles and texts of Wikipedia passages."""
    with gzip.open(data / "text" / "wikipedia-passages.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [(record["title"], natural(record["text"])) for record in map(json.loads, lines)]


def lone_questions(data: Path) -> list[tuple[str, str]]:
    """Return the sources and texts of questions that have no passage."""
    with gzip.open(data / "questions" / "questions.tsv.gz", "rt", encoding="utf-8") as lines:
        rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(source, question) for source, question in rows]


def filings(data: Path) -> dict[str, dict[str, Any]]:
    """Return questions on 10-K filings in LlamaIndex's format: `corpus`, `queries`, `relevant_docs`."""
    file = data / "pairs" / "llamaindex_10k" / "train_dataset.json"
    dataset: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return dataset


def trecqa_questions(data: Path) -> Iterator[tuple[str, str, list[str], list[str]]]:
    """Yield the id, text, right and wrong sentences of every TREC QA train question."""
    file = data / "pairs" / "trecqa" / "train.xml"
    text = file.read_text(encoding="utf-8", errors="replace")
    for name, block in re.findall(r"<QApairs id='(.*?)'>(.*?)</QApairs>", text, re.S):
        sentences: dict[str, list[str]] = {"question": [], "positive": [], "negative": []}
        for tag, words in re.findall(r"^<(question|positive|negative)>\n(.*)", block, re.M):
            sentences[tag].append(natural(words))
        yield name, sentences["question"][0], sentences["positive"], sentences["negative"]


def natural(text: str) -> str:
    """Undo the tokenization of treebanks and WikiText, and collapse blanks."""
    text = re.sub(r" ?@([-,.])@ ?", r"\1", text.replace("<unk>", " "))
    for token, written in (("``", '"'), ("''", '"'), ("-LRB-", "("), ("-RRB-", ")")):
        text = text.replace(token, written)
    text = " ".join(text.split())
    return re.sub(r" ([,.;:!?%)]|n't\b|'(?:s|re|ve|ll|d|m)\b)", r"\1", text).replace("( ", "(")
