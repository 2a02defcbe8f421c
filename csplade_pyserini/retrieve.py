"""Search an index or an engine: topics in, a TREC run out, with the encoder that the index or engine names.

python -m csplade_pyserini.retrieve --index index/ --topics topics.tsv --output run.txt
python -m csplade_pyserini.retrieve --engine qdrant --target target/ --topics topics.tsv --output run.txt
python -m csplade_pyserini.retrieve --engine milvus --url http://localhost:19530 --name passages \\
    --topics topics.tsv --output run.txt
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from csplade_pyserini.collections.manifests import encoder_of
from csplade_pyserini.collections.query_files import is_query_file, vectors_of_file
from csplade_pyserini.collections.topics import Topics, read_topics
from csplade_pyserini.command_line import add_target_arguments, positive, run, target_place, verb_parser
from csplade_pyserini.engines.catalogue import ENGINES, target_class
from csplade_pyserini.engines.preflight import refuse_hits
from csplade_pyserini.engines.searching import Run, query_vectors, read_identity, search, write_run
from csplade_pyserini.errors import InputError
from csplade_pyserini.impacts import Vector
from csplade_pyserini.lucene.bulk import ImpactSearcher
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.lucene.makers import maker_name, refuse_mismatch
from csplade_pyserini.query_sides import build_queries, find_queries

HITS = 1000
BATCH_SIZE = 32


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    found = search_index(args) if args.index else search_engine(args)
    if args.remove_query:
        found = {qid: [hit for hit in hits if hit[0] != qid] for qid, hits in found.items()}
    write_run(found, args.output)
    without = sum(not hits for hits in found.values())
    print(f"{args.output}: {len(found)} topics, {without} without hits", file=sys.stderr)
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = verb_parser("retrieve")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--index", type=Path, metavar="DIR", help="Lucene index, of shards or not")
    where.add_argument("--engine", choices=ENGINES, help="engine that `export` filled")
    add_target_arguments(parser)
    parser.add_argument("--target", type=Path, metavar="DIR", help="folder of an embedded engine")
    parser.add_argument(
        "--encoder",
        metavar="NAME[:key=value,...]|FILE.jsonl",
        help="encoder of the topics, or their query file (default: the encoder that made the documents)",
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
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="queries side by side on --index (default 1)"
    )
    args = parser.parse_args(argv)
    if args.index and (args.target or args.url or args.name or args.timeout):
        raise InputError(
            "--index is a Lucene index; --target, --url, --name and --timeout are of an --engine"
        )
    if args.engine and args.threads:
        raise InputError("--threads is of an --index; an --engine answers --batch-size queries in a request")
    return args


def search_index(args: argparse.Namespace) -> Run:
    """Search a Lucene index for all topics. Raises InputError if another encoder made it."""
    topics = read_topics(args.topics)
    prepare_java()
    with ImpactSearcher(args.index) as searcher:
        vectors = index_queries(args.index, args.encoder, topics)
        found: Run = {}
        with tqdm(total=len(vectors), desc="searching", unit="query", delay=2) as bar:
            for batch in itertools.batched(vectors.items(), args.batch_size):
                found |= searcher.run(dict(batch), args.hits, args.threads or 1)
                bar.update(len(batch))
    return found


def index_queries(index: Path, encoder: str | None, topics: Topics) -> dict[str, Vector]:
    """Vectors of topics, by qid. encoder: a name or a query file; None: the encoder that made the index.

    Raises InputError if another encoder made it.
    """
    if encoder is not None and is_query_file(encoder):
        refuse_mismatch(index, encoder_of(Path(encoder)))
        return vectors_of_file(Path(encoder), topics)
    source = find_queries(encoder or maker_name(index))
    refuse_mismatch(index, source.identity, name=source.name)
    vectors = build_queries(source).encode_queries(list(topics.values()))
    return dict(zip(topics, vectors, strict=True))


def search_engine(args: argparse.Namespace) -> Run:
    """Search an engine for all topics. Raises InputError if another encoder filled it."""
    place = target_place(args, args.target)
    target = target_class(args.engine, place)(place)
    topics = read_topics(args.topics)
    refuse_hits(target.limits, args.hits)
    try:
        identity = read_identity(target)
        vectors, dimensions = query_vectors(args.encoder, topics, identity, place)
        return search(
            target, vectors, dimensions, hits=args.hits, batch_size=args.batch_size, scale=identity.scale
        )
    finally:
        target.close()


if __name__ == "__main__":
    run(main)
