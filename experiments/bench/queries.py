"""Queries per second in batches of 32 against one by one, at SmolLM2-135M's shape with random weights.

    python run_scripts/bench/queries.py [--queries 64]

Both sides take turns in one process, and have to give the same vectors. What a single query costs is reading all weights once.
"""

import argparse
import time

import torch
from encode import SHAPES
from transformers import AutoModelForCausalLM, LlamaConfig

from csplade_pyserini.cards import EncoderCard, find_checkpoint
from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.model.backbone import load_tokenizer
from csplade_pyserini.model.encoder import SparseEncoder
from csplade_pyserini.reproduction.collections import SAMPLE

BATCH = 32
WANTED = 3.0
ROUNDS = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=64)
    args = parser.parse_args()
    topics = list(read_topics(str(SAMPLE / "topics.tsv")).values())
    queries = [topics[number % len(topics)] for number in range(args.queries)]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPES["smollm2-135m"])).eval()
    # Few terms, so that turning them into Python objects is no part of it; real encoders are sparse.
    card = EncoderCard(name="bench", add_bos=False, query_max_length=32, query_top_terms=64)
    encoder = SparseEncoder(card, model, load_tokenizer(find_checkpoint("csplade-tiny")))
    encoder.encode_queries(queries[:2])
    seconds = {"one by one": [], f"{BATCH} together": []}
    for _ in range(ROUNDS):
        start = time.perf_counter()
        single = [encoder.encode(query) for query in queries]
        seconds["one by one"].append(time.perf_counter() - start)
        start = time.perf_counter()
        batched = [
            vector
            for i in range(0, len(queries), BATCH)
            for vector in encoder.encode_queries(queries[i : i + BATCH])
        ]
        seconds[f"{BATCH} together"].append(time.perf_counter() - start)
        if any(one.keys() ^ other.keys() for one, other in zip(single, batched, strict=True)):
            raise RuntimeError("the two sides give different vectors")
    tokens = sum(map(len, encoder.tokenize(queries, side="query")))
    print(
        f"{len(queries)} queries, {tokens} tokens, {torch.get_num_threads()} threads, best of {ROUNDS} rounds"
    )
    best = {side: min(times) for side, times in seconds.items()}
    for side, time_taken in best.items():
        print(f"{side:<12} {len(queries) / time_taken:8.1f} queries/s")
    ratio = best["one by one"] / best[f"{BATCH} together"]
    print(f"together / one by one: {ratio:.2f} times the queries per second (at least {WANTED} wanted)")
    return 0 if ratio >= WANTED else 1


if __name__ == "__main__":
    raise SystemExit(main())
