"""Export a collection's vectors to a search engine, checked before and counted after. Run again to resume.

python -m csplade_pyserini.export --input vectors/ --to qdrant --output target/
python -m csplade_pyserini.export --input vectors/ --to opensearch --url http://localhost:9200 --name docs
python -m csplade_pyserini.export --input vectors/ --to qdrant --output target/ \\
    --check --index index/ --topics topics.tsv

Engines: opensearch, elasticsearch, qdrant, milvus by --url and --name; qdrant and milvus embedded, vespa and
ciff as files by --output. Exit code 1: documents were rejected, a count differs, or --check finds a
difference.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.command_line import (
    add_target_arguments,
    positive,
    run,
    target_place,
    verb_parser,
    whole_number,
)
from csplade_pyserini.engines.catalogue import ENGINES, target_class
from csplade_pyserini.engines.dimensions import Dimensions, dimensions_of
from csplade_pyserini.engines.documents import Source, open_source
from csplade_pyserini.engines.loading import BATCH_DOCUMENTS, load, local_path, preflight, refuse_other
from csplade_pyserini.engines.patience import patiently
from csplade_pyserini.engines.searching import Run, compare_runs, query_vectors, read_identity, search
from csplade_pyserini.engines.target import Place, Target
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.impacts import Vector

DEPTHS = (10, 100, 1000)
TOLERANCE = 1e-6
"""Relative: a 32-bit float has 24 bits."""


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    place = target_place(args, args.output)
    engine = target_class(args.to, place)
    source = open_source(
        args.input,
        encoder=args.encoder,
        scale=args.scale,
        shard_id=args.shard_id,
        shard_num=args.shard_num,
        without_manifest=args.without_manifest,
    )
    if args.check:
        check(args, engine(place), source)
        return 0
    if args.dry_run:
        print(engine.schema(source.identity))
        preflight(source, dimensions_of(source.checkpoint), engine)
        print(f"{source.documents} documents can go to {args.to} as they are", file=sys.stderr)
        return 0
    export(args, engine(place), source, place)
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = verb_parser("export")
    parser.add_argument(
        "--input",
        required=True,
        type=Path,
        metavar="VECTORS",
        help="collection directory that `encode` wrote",
    )
    parser.add_argument("--to", required=True, choices=ENGINES, help="engine")
    add_target_arguments(parser)
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder of an embedded engine, or of files for one"
    )
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help="encoder of the vectors, whose token ids are the dimensions (default: the manifest's)",
    )
    parser.add_argument("--shard-id", type=whole_number, default=0, metavar="I", help="shard, from 0")
    parser.add_argument(
        "--shard-num", type=positive, default=1, metavar="N", help="number of shards that go side by side"
    )
    parser.add_argument(
        "--scale",
        type=positive_factor,
        default=1.0,
        metavar="F",
        help="multiply impacts by this and round them; scores are divided by it again (default 1)",
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=BATCH_DOCUMENTS,
        metavar="N",
        help=f"documents in a request at most (default {BATCH_DOCUMENTS})",
    )
    parser.add_argument(
        "--without-manifest",
        action="store_true",
        help="take files that `encode` wrote without their manifest",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the schema and check the vectors; send nothing"
    )
    checks = parser.add_argument_group("--check")
    checks.add_argument(
        "--check", action="store_true", help="compare the target with a Lucene index instead of filling it"
    )
    checks.add_argument("--topics", metavar="FILE.tsv|ir_datasets:ID", help="topics to search both with")
    checks.add_argument("--index", type=Path, metavar="DIR", help="Lucene index of the same collection")
    checks.add_argument("--hits", type=positive, default=DEPTHS[-1], metavar="K", help="hits (default 1000)")
    checks.add_argument(
        "--query-encoder", metavar="NAME", help="encoder or query file of the topics (default: the target's)"
    )
    checks.add_argument(
        "--tolerance",
        type=tolerance,
        default=TOLERANCE,
        metavar="T",
        help=f"largest relative score difference, and loss of overlap (default {TOLERANCE:g})",
    )
    args = parser.parse_args(argv)
    if args.shard_id >= args.shard_num:
        raise InputError(f"--shard-id is {args.shard_id}; wanted one below --shard-num, {args.shard_num}")
    if args.check and not (args.topics and args.index):
        raise InputError("--check compares with Lucene; wanted --topics and --index as well")
    return args


def positive_factor(text: str) -> float:
    """Parse a factor above 0 and at most 1, for argparse."""
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}; wanted a number above 0 and at most 1")
    return factor


def tolerance(text: str) -> float:
    """Parse a share from 0 to 1, for argparse."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}; wanted a number from 0 to 1")
    return share


def export(args: argparse.Namespace, target: Target, source: Source, place: Place) -> None:
    """Fill the target. Raises CheckError as `load` does."""
    path = local_path(place, args.to, source)
    try:
        manifest = load(
            source,
            dimensions_of(source.checkpoint),
            target,
            engine=args.to,
            path=path,
            batch_documents=args.batch_size,
        )
    finally:
        target.close()
    print(
        f"{place}: {manifest.documents} documents in {manifest.seconds} s, of {source.identity.encoder}",
        file=sys.stderr,
    )


def check(args: argparse.Namespace, target: Target, source: Source) -> None:
    """Compare a target with a Lucene index of the same collection.

    Raises CheckError if the count, an overlap or a score differs by more than --tolerance.
    """
    from csplade_pyserini.collections.manifests import refuse_mismatch
    from csplade_pyserini.lucene.bulk import ImpactSearcher

    topics = read_topics(args.topics)
    identity = read_identity(target)
    refuse_other(identity, source.identity, target.place)
    refuse_mismatch(args.index, identity.encoder)
    count = patiently(target.count)
    if count != source.total:
        raise CheckError(f"{target.place} counts {count} documents; the collection has {source.total}")
    vectors, dimensions = query_vectors(args.query_encoder, topics, identity, target.place)
    found = _found(target, vectors, dimensions, args.hits, identity.scale)
    with ImpactSearcher(args.index) as searcher:
        listed = searcher.run(vectors, args.hits)
    # Anserini takes a millionth off each next tie; sums of whole impacts are whole
    wanted = {qid: [(docid, float(round(score))) for docid, score in hits] for qid, hits in listed.items()}
    report(wanted, found, target, args)


def _found(
    target: Target, vectors: dict[str, Vector], dimensions: Dimensions, hits: int, scale: float
) -> Run:
    try:
        return search(target, vectors, dimensions, hits=hits, batch_size=32, scale=scale)
    finally:
        target.close()


def report(wanted: Run, found: Run, target: Target, args: argparse.Namespace) -> None:
    """Print the comparison. Raises CheckError beyond --tolerance."""
    depths = [depth for depth in DEPTHS if depth <= args.hits] or [args.hits]
    overlaps, difference = compare_runs(wanted, found, depths)
    print(f"{len(wanted)} topics, {args.hits} hits, {args.index} and {target.place}")
    for depth, overlap in overlaps.items():
        print(f"overlap@{depth:<5} {overlap:.6f}")
    print(f"largest relative score difference {difference:.3g}")
    worst = max(difference, 1 - min(overlaps.values()))
    if worst > args.tolerance:
        raise CheckError(
            f"{target.place} differs from {args.index} by {worst:.3g}; allowed {args.tolerance:g}"
        )


if __name__ == "__main__":
    run(main)
