"""Measure queries per second in batches of 32 against one by one, with random weights.

    python experiments/bench/queries.py [--queries 64] [--shape smollm2-135m]

Both sides take turns in one process, and have to give the same vectors. A single query costs one reading of
all weights.
"""

import argparse
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from csplade_pyserini.cards import EncoderCard, find_checkpoint
from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.files.tables import read_toml
from csplade_pyserini.impacts import Vector
from csplade_pyserini.model.backbone import load_tokenizer
from csplade_pyserini.model.encoder import SparseEncoder
from csplade_pyserini.reproduction.catalogue import SAMPLE

SHAPES = read_toml(Path(__file__).parents[1] / "shapes.toml", "shapes")
BATCH = 32
WANTED = 3.0
"""Wanted ratio of queries per second."""
ROUNDS = 3
"""Rounds, of which the fastest counts."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--queries", type=int, default=64)
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    args = parser.parse_args(argv)
    topics = itertools.cycle(read_topics(str(SAMPLE / "topics.tsv")).values())
    queries = list(itertools.islice(topics, args.queries))
    encoder = build(args.shape)
    encoder.encode_queries(queries[:2])  # warm up the threads and libraries
    alone: list[float] = []
    together: list[float] = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        single = [encoder.encode(query) for query in queries]
        alone.append(time.perf_counter() - start)
        start = time.perf_counter()
        batched = in_batches(encoder, queries)
        together.append(time.perf_counter() - start)
        if any(one.keys() ^ other.keys() for one, other in zip(single, batched, strict=True)):
            raise RuntimeError("the two sides give different vectors")
    tokens = sum(map(len, encoder.tokenize(queries, side="query")))
    print(
        f"{len(queries)} queries, {tokens} tokens, {torch.get_num_threads()} threads, best of {ROUNDS} rounds"
    )
    print(f"one by one   {len(queries) / min(alone):8.1f} queries/s")
    print(f"{BATCH} together  {len(queries) / min(together):8.1f} queries/s")
    ratio = min(alone) / min(together)
    print(f"together / one by one: {ratio:.2f} times the queries per second (at least {WANTED} wanted)")
    return 0


def build(shape: str) -> SparseEncoder:
    """Build an encoder with random weights."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPES[shape])).eval()
    # Few terms, as real encoders are sparse: making Python objects of many would be timed too.
    card = EncoderCard(name="bench", add_bos=False, query_max_length=32, query_top_terms=64)
    return SparseEncoder(card, model, load_tokenizer(find_checkpoint("csplade-tiny")))


def in_batches(encoder: SparseEncoder, queries: list[str]) -> list[Vector]:
    vectors = []
    for batch in itertools.batched(queries, BATCH):
        vectors += encoder.encode_queries(batch)
    return vectors


if __name__ == "__main__":
    raise SystemExit(main())
