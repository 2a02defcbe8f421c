"""Build a Lucene impact index of a collection directory, and check that every document is in it.

python -m csplade_pyserini.index --input vectors/ --index index/
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from csplade_pyserini.command_line import positive, run
from csplade_pyserini.lucene.indexing import build_index


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m csplade_pyserini.index", description=__doc__.splitlines()[0])
    parser.add_argument("--input", required=True, type=Path, metavar="DIR", help="collection directory that `encode` made")
    parser.add_argument("--index", required=True, type=Path, metavar="DIR", help="index to write")
    parser.add_argument("--threads", type=positive, default=2, help="indexing threads, one a file at most (default 2)")
    args = parser.parse_args(argv)
    built = build_index(args.input, args.index, threads=args.threads)
    print(
        f"{args.index}: {built.documents} documents, {built.postings} postings, {built.bytes} bytes, "
        f"{built.bytes / built.postings:.2f} bytes per posting, {built.seconds} s",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    run(main)
