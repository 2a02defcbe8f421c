"""Search an engine that `export` filled: topics in, a TREC run out, with the encoder that the engine names.

python -m csplade_pyserini.search --engine qdrant --target target/ --topics topics.tsv --output run.txt
python -m csplade_pyserini.search --engine milvus --url http://localhost:19530 --name passages \\
    --topics topics.tsv --output run.txt
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.command_line import add_target_arguments, positive, run, target_place, verb_parser
from csplade_pyserini.engines.catalogue import ENGINES, target_class
from csplade_pyserini.engines.preflight import refuse_hits
from csplade_pyserini.engines.searching import query_vectors, read_identity, search, write_run

HITS = 1000
BATCH_SIZE = 32


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    place = target_place(args, args.target)
    target = target_class(args.engine, place)(place)
    topics = read_topics(args.topics)
    refuse_hits(target.limits, args.hits)
    try:
        identity = read_identity(target)
        vectors, dimensions = query_vectors(args.encoder, topics, identity, place)
        found = search(
            target, vectors, dimensions, hits=args.hits, batch_size=args.batch_size, scale=identity.scale
        )
    finally:
        target.close()
    if args.remove_query:
        found = {qid: [hit for hit in hits if hit[0] != qid] for qid, hits in found.items()}
    write_run(found, args.output)
    without = sum(not hits for hits in found.values())
    print(f"{args.output}: {len(found)} topics, {without} without hits", file=sys.stderr)
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = verb_parser("search")
    parser.add_argument("--engine", required=True, choices=ENGINES, help="engine that `export` filled")
    add_target_arguments(parser)
    parser.add_argument("--target", type=Path, metavar="DIR", help="folder of an embedded engine")
    parser.add_argument(
        "--encoder",
        metavar="NAME[:key=value,...]|FILE.jsonl",
        help="encoder of the topics, or their query file (default: the encoder that the target names)",
    )
    parser.add_argument("--topics", required=True, metavar="FILE.tsv|ir_datasets:ID", help="topics")
    parser.add_argument(
        "--output", required=True, type=Path, metavar="RUN", help="run to write, TREC's format"
    )
    parser.add_argument("--hits", type=positive, default=HITS, metavar="K", help=f"hits (default {HITS})")
    parser.add_argument(
        "--remove-query",
        action="store_true",
        help="leave out the hit whose docid is the qid, as Pyserini does",
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=BATCH_SIZE,
        metavar="N",
        help=f"queries in a request (default {BATCH_SIZE})",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
