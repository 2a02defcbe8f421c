"""Readers for the sources in the development data."""

import csv
import gzip
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def nfcorpus_documents(data: Path) -> dict[str, tuple[str, str]]:
    """Return the title and text of every NFCorpus document, by docid."""
    documents = {}
    for line in _nfcorpus(data, "corpus.jsonl"):
        record = json.loads(line)
        documents[record["_id"]] = (record["title"], record["text"])
    return documents


def nfcorpus_train(data: Path) -> dict[str, tuple[str, list[str]]]:
    """Return the text and the relevant docids of every train query, by qid.

    BEIR keeps the queries of all splits in one file. The train qrels say which ones are taken.
    """
    queries = {}
    for line in _nfcorpus(data, "queries.jsonl"):
        record = json.loads(line)
        queries[record["_id"]] = record["text"]
    judged: dict[str, tuple[str, list[str]]] = {}
    for row in csv.DictReader(_nfcorpus(data, "qrels/train.tsv"), delimiter="\t"):
        if int(row["score"]) > 0:
            _, docids = judged.setdefault(row["query-id"], (queries[row["query-id"]], []))
            docids.append(row["corpus-id"])
    return judged


def _nfcorpus(data: Path, member: str) -> Iterator[str]:
    """Yield the lines of one file in BEIR's NFCorpus archive."""
    archive = data / "ir_datasets" / "beir" / "nfcorpus" / "source.zip"
    with zipfile.ZipFile(archive) as zipped, zipped.open(f"nfcorpus/{member}") as raw:
        yield from io.TextIOWrapper(raw, encoding="utf-8")


def msmarco_passages(data: Path) -> dict[str, str]:
    """Return the passages of the MS MARCO pool, by docid."""
    with gzip.open(data / "msmarco-dl" / "collection.jsonl.gz", "rt", encoding="utf-8") as lines:
        return {record["id"]: record["contents"] for record in map(json.loads, lines)}


def wordnet_glosses(data: Path) -> list[tuple[str, str]]:
    """Return WordNet's terms, each with its gloss."""
    with gzip.open(data / "pairs" / "wordnet_gloss_pairs.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [(record["query"], record["pos"]) for record in map(json.loads, lines)]


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
