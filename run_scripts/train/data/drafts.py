"""Drafts: queries with their positives, before negatives are drawn."""

import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sources import (
    filings,
    msmarco_passages,
    nfcorpus_documents,
    nfcorpus_train,
    trecqa_questions,
    wordnet_glosses,
)

CROPS = 25_000
"""Examples made from MS MARCO passages."""
GLOSSES = 20_000
"""Examples made from WordNet glosses."""
GROUP = 4
"""Largest number of positives in one NFCorpus example."""


@dataclass(frozen=True)
class Draft:
    """A training example without its negatives; queries, passages and pools by id."""

    source: str
    query: str
    positives: tuple[str, ...]
    barred: frozenset[str]
    """Passages that must not become negatives, besides the positives."""
    pool: str
    """Pool that negatives come from."""
    ranks: slice | None
    """Part of the teacher's ranking that negatives come from; None for the whole pool."""
    count: int
    """Number of negatives wanted."""


@dataclass
class Material:
    """Queries, passages, pools and drafts for all examples."""

    queries: dict[str, str] = field(default_factory=dict)
    passages: dict[str, str] = field(default_factory=dict)
    pools: dict[str, list[str]] = field(default_factory=dict)
    drafts: list[Draft] = field(default_factory=list)
    _query_ids: dict[tuple[str, str], str] = field(default_factory=dict)

    def query(self, source: str, key: str, text: str) -> str:
        """Add a query and return its id.

        The id is `key`. A text that the source had before keeps its first id.
        """
        name = self._query_ids.setdefault((source, text), key)
        if self.queries.setdefault(name, text) != text:
            raise ValueError(f"two queries have the id {name}")
        return name

    def add_pool(self, pool: str, passages: dict[str, str]) -> None:
        """Add passages and make them a pool of negatives."""
        self.passages |= passages
        self.pools[pool] = list(passages)


def read_material(data: Path, seed: int) -> Material:
    """Read all sources. The same data and seed give the same material."""
    material = Material()
    documents = nfcorpus_documents(data)
    whole = {f"nfcorpus:{name}": f"{title} {text}" for name, (title, text) in documents.items()}
    material.add_pool("nfcorpus", whole)
    passages = {f"msmarco:{name}": text for name, text in msmarco_passages(data).items()}
    material.add_pool("msmarco", passages)
    add_nfcorpus_train(material, nfcorpus_train(data), random.Random(f"{seed}:nfcorpus"))
    add_nfcorpus_titles(material, documents)
    add_crops(material, random.Random(f"{seed}:crop"))
    add_glosses(material, wordnet_glosses(data), random.Random(f"{seed}:wordnet"))
    add_filings(material, filings(data))
    add_trecqa(material, trecqa_questions(data))
    return material


def add_nfcorpus_train(
    material: Material, judged: dict[str, tuple[str, list[str]]], rng: random.Random
) -> None:
    """Add NFCorpus's train queries, with their relevant documents in groups.

    Seven negatives come from the teacher's top 100. None of them is relevant.
    """
    relevant: dict[str, dict[str, None]] = {}  # an ordered set of docids per query
    for qid, (text, docids) in judged.items():
        query = material.query("nfcorpus-train", f"nfcorpus:{qid}", text)
        known = relevant.setdefault(query, {})
        for docid in docids:
            if f"nfcorpus:{docid}" in material.passages:
                known[f"nfcorpus:{docid}"] = None
    for query, positives in relevant.items():
        barred = frozenset(positives)
        shuffled = rng.sample(list(positives), len(positives))
        for group in itertools.batched(shuffled, GROUP):
            draft = Draft("nfcorpus-train", query, group, barred, "nfcorpus", slice(0, 100), 7)
            material.drafts.append(draft)


def add_nfcorpus_titles(material: Material, documents: dict[str, tuple[str, str]]) -> None:
    """Add each NFCorpus title as a query for its document's text."""
    for name, (title, text) in documents.items():
        if not (title.strip() and text.strip()):
            continue
        query = material.query("nfcorpus-title", f"title:nfcorpus:{name}", title)
        positive = f"nfcorpus:{name}:text"
        material.passages[positive] = text
        barred = frozenset({f"nfcorpus:{name}"})
        draft = Draft("nfcorpus-title", query, (positive,), barred, "nfcorpus", slice(0, 50), 3)
        material.drafts.append(draft)


def add_crops(material: Material, rng: random.Random) -> None:
    """Add spans of MS MARCO passages as queries.

    Negatives start at rank 5: the passages above may well be relevant too.
    """
    long = [name for name in material.pools["msmarco"] if len(material.passages[name].split()) > 20]
    for name in rng.sample(long, min(CROPS, len(long))):
        span, rest = crop_pair(material.passages[name], rng)
        query = material.query("msmarco-crop", f"crop:{name}", span)
        positive = name
        if rest is not None:
            positive = f"{name}:cut"
        material.passages.setdefault(positive, rest or "")
        barred = frozenset({name})
        draft = Draft("msmarco-crop", query, (positive,), barred, "msmarco", slice(4, 100), 3)
        material.drafts.append(draft)


def crop_pair(text: str, rng: random.Random) -> tuple[str, str | None]:
    """Return a span of 3 to 8 words, and the text without it (inverse cloze).

    Half of the time the text stays whole. The second value is then None.
    """
    words = text.split()
    size = rng.randint(3, 8)
    start = rng.randint(0, max(0, len(words) - size))
    span = " ".join(words[start : start + size])
    if rng.random() < 0.5:
        return span, " ".join(words[:start] + words[start + size :])
    return span, None


def add_glosses(material: Material, glosses: list[tuple[str, str]], rng: random.Random) -> None:
    """Add WordNet's terms as queries for their glosses, with other sampled glosses as negatives."""
    whole = [number for number, pair in enumerate(glosses) if all(pair)]
    ids: dict[str, str] = {}
    by_query: dict[str, dict[str, None]] = {}  # a term may have several glosses
    for number in sorted(rng.sample(whole, min(GLOSSES, len(whole)))):
        term, gloss = glosses[number]
        positive = ids.setdefault(gloss, f"wordnet:{number}")
        query = material.query("wordnet", f"term:wordnet:{number}", term)
        by_query.setdefault(query, {})[positive] = None
    material.add_pool("wordnet", {name: gloss for gloss, name in ids.items()})
    for query, positives in by_query.items():
        barred = frozenset(positives)
        for positive in positives:
            material.drafts.append(Draft("wordnet", query, (positive,), barred, "wordnet", None, 3))


def add_filings(material: Material, dataset: dict[str, dict[str, Any]]) -> None:
    """Add questions on 10-K filings with the passages that they were made from."""
    material.add_pool("10k", {f"10k:{name}": text for name, text in dataset["corpus"].items()})
    for name, text in dataset["queries"].items():
        query = material.query("10k", f"10k:{name}", text)
        positives = tuple(f"10k:{passage}" for passage in dataset["relevant_docs"][name])
        material.drafts.append(Draft("10k", query, positives, frozenset(), "10k", None, 3))


def add_trecqa(material: Material, questions: Iterable[tuple[str, str, list[str], list[str]]]) -> None:
    """Add TREC QA's questions, one draft per answer.

    A question's pool is its own wrong sentences. A question without any takes the pool of all sentences.
    """
    ids: dict[str, str] = {}

    def ids_of(sentences: list[str]) -> list[str]:
        return [ids.setdefault(text, f"trecqa:s{len(ids)}") for text in sentences]

    for name, question, right, wrong in questions:
        query = material.query("trecqa", f"trecqa:{name}", question)
        positives = ids_of(right)
        own = [negative for negative in dict.fromkeys(ids_of(wrong)) if negative not in positives]
        pool = "trecqa"
        count = 3
        if own:
            material.pools[query] = own
            pool = query
            count = 7
        barred = frozenset(positives)
        for positive in dict.fromkeys(positives):
            material.drafts.append(Draft("trecqa", query, (positive,), barred, pool, None, count))
    material.add_pool("trecqa", {name: text for text, name in ids.items()})
