"""Encode topics into a query file that Pyserini reads as `--encoder FILE.jsonl`.

python -m csplade_pyserini.encode_queries --encoder csplade-tiny --topics topics.tsv --output queries.jsonl
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from csplade_pyserini.collections.manifests import QueriesManifest, versions, write_manifest
from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.collections.vectors import query_line
from csplade_pyserini.command_line import (
    add_batch_arguments,
    add_encoder_argument,
    find_query_side,
    run,
    verb_parser,
)
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.impacts import Vector
from csplade_pyserini.query_sides import build_queries

if TYPE_CHECKING:
    from csplade_pyserini.interface import QuerySide

WINDOW = 1_024
"""Queries tokenized and sorted by length together."""
SHOWN = 12


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    source = find_query_side(args)
    topics = read_topics(args.topics)
    # Pyserini looks vectors up by stripped text, so two qids with one text share a line.
    texts = list(dict.fromkeys(text.strip() for text in topics.values()))

    encoder = build_queries(source)
    empties = 0
    with whole_file(args.output) as file:
        for text, vector in encoded(encoder, texts, args.batch_tokens):
            empties += not vector
            file.write(query_line(text, vector))
            if args.show:
                print(terms_line(text, vector, encoder.readable))
    manifest = QueriesManifest(
        encoder=source.identity,
        made_by=source.maker,
        topics=args.topics,
        queries=len(texts),
        empties=empties,
        versions=versions(),
    )
    write_manifest(manifest, args.output)
    print(f"{args.output}: {len(texts)} queries, {empties} without any term", file=sys.stderr)
    return 0


def encoded(
    encoder: "QuerySide", texts: Sequence[str], batch_tokens: int | str | None
) -> Iterator[tuple[str, Vector]]:
    """Each text with its vector, in order, in windows of similar length."""
    budget = encoder.query_budget(batch_tokens)
    with tqdm(total=len(texts), desc="encoding", unit="query") as bar:
        for window in itertools.batched(texts, WINDOW):
            vectors = encoder.encode_queries(window, batch_tokens=budget, progress=bar.update)
            yield from zip(window, vectors, strict=True)


def terms_line(text: str, vector: Vector, readable: Callable[[str], str]) -> str:
    """Format a query and its heaviest terms as one line."""
    heaviest = itertools.islice(vector.items(), SHOWN)
    terms = [f"{readable(term).strip() or term} {impact}" for term, impact in heaviest]
    return f"{text}\t{', '.join(terms)}"


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = verb_parser("encode_queries")
    add_encoder_argument(parser)
    parser.add_argument("--topics", required=True, metavar="FILE.tsv|ir_datasets:ID", help="topics to encode")
    parser.add_argument(
        "--output", required=True, type=Path, metavar="FILE.jsonl", help="query file to write"
    )
    parser.add_argument(
        "--show", action="store_true", help=f"also print each query and its {SHOWN} heaviest terms"
    )
    add_batch_arguments(parser)
    args = parser.parse_args(argv)
    if args.output.suffix != ".jsonl":
        raise InputError(
            f"--output is {args.output}; wanted a name that ends in .jsonl, or Pyserini would not read it"
        )
    return args


if __name__ == "__main__":
    run(main)
