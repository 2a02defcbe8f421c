"""The command `collect`: texts, passages, queries and pairs of them."""

import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from outputs import Record, absent, read_contents, write_lines
from passages import LONG, read_passages, read_queries


def collect(data: Path, output: Path, seed: int) -> None:
    """Write texts.jsonl, passages.jsonl, queries.jsonl and pairs.jsonl.

    texts.jsonl has the passages in random order, for language modelling. pairs.jsonl has every query and
    every passage, two by two at random. Training towards vectors takes them one by one, and needs no labels.
    Long passages and their spans are in passages.jsonl and queries.jsonl alone.
    """
    if absent(output / "passages.jsonl"):
        write_contents(output / "passages.jsonl", read_passages(data, seed).items())
    passages = dict(read_contents(output / "passages.jsonl"))
    short = {name: text for name, text in passages.items() if not name.startswith(LONG)}
    if absent(output / "texts.jsonl"):
        names = random.Random(f"{seed}:texts").sample(list(short), len(short))
        write_contents(output / "texts.jsonl", ((name, short[name]) for name in names))
    if absent(output / "queries.jsonl"):
        write_contents(output / "queries.jsonl", read_queries(data, passages, seed).items())
    queries = {
        name: text
        for name, text in read_contents(output / "queries.jsonl")
        if not name.startswith(f"crop-{LONG}")
    }
    if absent(output / "pairs.jsonl"):
        write_lines(output / "pairs.jsonl", paired(queries, short, random.Random(f"{seed}:pairs")))


def write_contents(file: Path, texts: Iterable[tuple[str, str]]) -> None:
    """Write ids and texts, and print the number of each source."""
    records = [{"id": name, "contents": text} for name, text in texts]
    write_lines(file, records)
    print(f"{file}: {dict(Counter(record['id'].partition(':')[0] for record in records))}", file=sys.stderr)


def paired(queries: dict[str, str], passages: dict[str, str], rng: random.Random) -> Iterator[Record]:
    """Yield training examples. The shorter side is repeated."""
    qids = rng.sample(list(queries), len(queries))
    docids = rng.sample(list(passages), len(passages))
    for at in range(max(len(qids), len(docids))):
        qid = qids[at % len(qids)]
        docid = docids[at % len(docids)]
        yield {
            "query_id": qid,
            "query": queries[qid],
            "positive_passages": [{"docid": docid, "title": "", "text": passages[docid]}],
            "negative_passages": [],
        }
