"""Training examples: drafts with negatives drawn and scores added."""

import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from drafts import Draft, Material
from outputs import Record, write_lines
from tqdm import tqdm
from vectors import Vectors, pair_scores, rankings

Rankings = dict[tuple[str, str], list[str]]
"""Passage ids by (query, pool), best first."""


class Scored(NamedTuple):
    """The teacher's weights for all queries and all passages."""

    queries: Vectors
    passages: Vectors


def write_examples(path: Path, material: Material, scored: Scored | None, rng: random.Random) -> None:
    """Write shuffled examples in Tevatron's format, with the teacher's scores if there is a teacher."""
    ranked: Rankings = {}
    if scored:
        ranked = rank_pools(material, scored)
    twins = same_texts(material.passages)
    drafts = [(draft, draw_negatives(draft, material, ranked, twins, rng)) for draft in material.drafts]
    rng.shuffle(drafts)
    scores: dict[tuple[str, str], float] | None = None
    if scored:
        scores = score_pairs(drafts, scored)
    progress = tqdm(drafts, desc="write examples", mininterval=5)
    write_lines(path, (example(draft, negatives, material, scores) for draft, negatives in progress))
    print(f"examples: {dict(Counter(draft.source for draft in material.drafts))}", file=sys.stderr)


def example(
    draft: Draft, negatives: list[str], material: Material, scores: dict[tuple[str, str], float] | None
) -> Record:
    """Return one example in Tevatron's format."""

    def passage(name: str) -> Record:
        record: Record = {"docid": name, "title": "", "text": material.passages[name]}
        if scores is not None:
            record["score"] = round(scores[draft.query, name], 3)
        return record

    return {
        "query_id": draft.query,
        "query": material.queries[draft.query],
        "positive_passages": [passage(name) for name in draft.positives],
        "negative_passages": [passage(name) for name in negatives],
    }


def score_pairs(drafts: list[tuple[Draft, list[str]]], scored: Scored) -> dict[tuple[str, str], float]:
    """Return the teacher's score of every (query, passage) pair in the examples."""
    pairs: dict[tuple[str, str], None] = {}  # an ordered set
    for draft, negatives in drafts:
        for name in (*draft.positives, *negatives):
            pairs[draft.query, name] = None
    scores = pair_scores(scored.queries, scored.passages, list(pairs)).tolist()
    return dict(zip(pairs, scores, strict=True))


def rank_pools(material: Material, scored: Scored) -> Rankings:
    """Rank the pools for every draft that asks for a ranking, as deep as the deepest draft asks."""
    depths: dict[str, dict[str, int]] = {}  # pool → query → depth
    for draft in material.drafts:
        if draft.ranks:
            asked = depths.setdefault(draft.pool, {})
            asked[draft.query] = max(draft.ranks.stop, asked.get(draft.query, 0))
    ranked: Rankings = {}
    for pool, asked in depths.items():
        names = material.pools[pool]
        passages = scored.passages.rows(names)
        rows = rankings(scored.queries.rows(asked), passages, max(asked.values()), pool)
        for query, best in zip(asked, rows, strict=True):
            ranked[query, pool] = [names[at] for at in best]
    return ranked


def same_texts(passages: dict[str, str]) -> dict[str, list[str]]:
    """Return the ids of every text, as one text may be several passages."""
    ids: dict[str, list[str]] = {}
    for name, text in passages.items():
        ids.setdefault(text, []).append(name)
    return ids


def draw_negatives(
    draft: Draft, material: Material, ranked: Rankings, twins: dict[str, list[str]], rng: random.Random
) -> list[str]:
    """Draw a draft's negatives from the ranking, then from the whole pool if the ranking is short.

    A small pool gives fewer negatives than the draft wants.
    """
    barred: set[str] = set()
    for name in draft.barred.union(draft.positives):
        barred.update(twins[material.passages[name]])  # a copy of a positive is no negative
    best: list[str] = []
    if draft.ranks:
        best = ranked.get((draft.query, draft.pool), [])[draft.ranks]
    chosen = draw(best, draft.count, barred, rng)
    return chosen + draw(material.pools[draft.pool], draft.count - len(chosen), barred.union(chosen), rng)


def draw(names: Sequence[str], count: int, barred: set[str], rng: random.Random) -> list[str]:
    """Draw up to `count` different names that are not barred."""
    candidates = rng.sample(names, min(len(names), count + len(barred)))
    return [name for name in candidates if name not in barred][:count]
