"""The command `split`: NFCorpus's examples, and a share of the others."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from outputs import Record, absent, write_lines
from tqdm import tqdm

JUDGED = "nfcorpus:"
"""Beginning of the ids of queries whose relevant documents people chose."""
OTHERS_KEPT = 3
"""One in this many of the other examples is kept."""


def split_examples(examples: Path, output: Path) -> None:
    """Write nfcorpus.jsonl and others.jsonl.

    NFCorpus's qrels count a document as relevant that is two links away. A small model can learn the half of
    the positives that the teacher scores higher, so each group keeps that half. Without scores all stay.
    """
    if absent(output / "nfcorpus.jsonl"):
        judged = (record for record in read_examples(examples) if is_judged(record))
        write_lines(output / "nfcorpus.jsonl", map(better_half, judged))
    if absent(output / "others.jsonl"):
        others = (record for record in read_examples(examples) if not is_judged(record))
        write_lines(output / "others.jsonl", itertools.islice(others, 0, None, OTHERS_KEPT))


def read_examples(examples: Path) -> Iterator[Record]:
    """Yield the examples in a JSON Lines file."""
    with examples.open(encoding="utf-8") as lines:
        yield from map(json.loads, tqdm(lines, desc=f"read {examples}", unit="line", mininterval=5))


def is_judged(record: Record) -> bool:
    """Return whether people chose the relevant documents of the example's query."""
    query_id: str = record["query_id"]
    return query_id.startswith(JUDGED)


def better_half(record: Record) -> Record:
    """Keep the half of the positives with the higher scores, if there are scores."""
    positives = record["positive_passages"]
    if any("score" not in passage for passage in positives):
        return record
    best = sorted(positives, key=lambda passage: -passage["score"])
    return record | {"positive_passages": best[: (len(positives) + 1) // 2]}
