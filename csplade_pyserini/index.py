"""Build a Lucene impact index of a collection directory, and check that every document is in it.

python -m csplade_pyserini.index --input vectors/ --index index/
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from csplade_pyserini.command_line import positive, run, verb_parser
from csplade_pyserini.lucene.indexing import IndexJob, build_index


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    built = build_index(
        IndexJob(
            collection=args.input,
            index=args.index,
            threads=args.threads,
            shards=args.shards,
            optimize=args.optimize,
            store_raw=args.store_raw,
            stock=args.stock,
            without_manifest=args.without_manifest,
        )
    )
    print(
        f"{args.index}: {built.documents} documents, {built.postings} postings, {built.bytes} bytes, "
        f"{built.bytes / max(1, built.postings):.2f} bytes per posting, {built.seconds} s",
        file=sys.stderr,
    )
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = verb_parser("index")
    parser.add_argument(
        "--input",
        required=True,
        type=Path,
        metavar="DIR",
        help="collection directory that `encode` wrote, or any JsonVectorCollection",
    )
    parser.add_argument("--index", required=True, type=Path, metavar="DIR", help="index to write")
    parser.add_argument(
        "--threads",
        type=positive,
        default=2,
        help="processes that index, each with its own JVM (default 2)",
    )
    parser.add_argument(
        "--shards",
        type=positive,
        default=1,
        metavar="N",
        help="split documents by docid into N Lucene indexes in one folder, searched as one (default 1)",
    )
    parser.add_argument(
        "--no-optimize",
        dest="optimize",
        action="store_false",
        help="leave several segments: faster to build, slower to search",
    )
    parser.add_argument(
        "--store-raw", action="store_true", help="keep each record, as Anserini's --storeRaw does"
    )
    parser.add_argument(
        "--stock", action="store_true", help="build it with Pyserini's own command, from repeated words"
    )
    parser.add_argument(
        "--without-manifest",
        action="store_true",
        help="index files that `encode` wrote although their manifest is lost: their encoder is then unknown",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
