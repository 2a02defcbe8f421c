"""Measure queries by lookup against those of the model: queries per second, one cold query, memory.

    python experiments/lookup.py --encoder csplade-tiny [--queries 200]

Both sides take turns in this process for queries per second, one by one. A cold query is a new process that
imports what its side needs, loads it, and encodes one query; its peak memory is that process's.
"""

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Sequence

from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.interface import QuerySide
from csplade_pyserini.query_sides import load_encoder
from csplade_pyserini.reproduction.catalogue import SAMPLE

WANTED = 100.0
"""Wanted ratio of queries per second."""
ROUNDS = 3
"""Rounds, of which the fastest counts."""
SIDES = ("model", "lookup")
COLD = """
import json, resource, sys, time
start = time.perf_counter()
from csplade_pyserini import load_encoder
encoder = load_encoder(sys.argv[1])
loaded = time.perf_counter()
encoder.encode("heart attack symptoms")
end = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"first": 1000 * (end - loaded), "all": 1000 * (end - start), "peak": peak}))
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--encoder", default="csplade-tiny")
    parser.add_argument("--queries", type=int, default=200)
    args = parser.parse_args(argv)
    topics = itertools.cycle(read_topics(str(SAMPLE / "topics.tsv")).values())
    queries = list(itertools.islice(topics, args.queries))
    names = {side: f"{args.encoder}:query={side}" for side in SIDES}
    cold = {side: cold_query(name) for side, name in names.items()}
    encoders = {side: load_encoder(name) for side, name in names.items()}
    fastest = dict.fromkeys(SIDES, float("inf"))
    for _ in range(ROUNDS):
        for side, encoder in encoders.items():
            fastest[side] = min(fastest[side], seconds(encoder, queries))
    for side in SIDES:
        found = cold[side]
        print(
            f"{side:<6}  {len(queries) / fastest[side]:10.1f} queries/s, cold: {found['first']:8.1f} ms for "
            f"the query, {found['all']:8.0f} ms with imports and loading, {found['peak']:6.0f} MiB at most"
        )
    ratio = fastest["model"] / fastest["lookup"]
    print(
        f"lookup / model: {ratio:.0f} times the queries per second (at least {WANTED:.0f} wanted), "
        f"{cold['lookup']['all'] / cold['model']['all']:.3f} of the time of a cold query, "
        f"{cold['lookup']['peak'] / cold['model']['peak']:.3f} of the memory"
    )
    return int(ratio < WANTED)


def seconds(encoder: QuerySide, queries: Sequence[str]) -> float:
    """Seconds that an encoder takes for queries, one by one."""
    start = time.perf_counter()
    for query in queries:
        encoder.encode(query)
    return time.perf_counter() - start


def cold_query(name: str) -> dict[str, float]:
    """Milliseconds and peak MiB of a new process that encodes one query."""
    done = subprocess.run([sys.executable, "-c", COLD, name], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    raise SystemExit(main())
