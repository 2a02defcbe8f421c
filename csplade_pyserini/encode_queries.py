"""Encode topics into a query file that Pyserini reads as `--encoder FILE.jsonl`.

python -m csplade_pyserini.encode_queries --encoder csplade-tiny --topics topics.tsv --output queries.jsonl
"""

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from csplade_pyserini.collections.files import whole_file
from csplade_pyserini.collections.manifests import QueriesManifest, versions, write_manifest
from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.command_line import add_batch_arguments, add_encoder_argument, find_encoder, run
from csplade_pyserini.errors import InputError

if TYPE_CHECKING:
    from csplade_pyserini.model import Vector

WINDOW = 1_024
"""Queries tokenized and sorted by length together."""
SHOWN = 12


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    checkpoint, options = find_encoder(args)
    # Pyserini looks vectors up by stripped text, so two qids with one text share a line.
    texts = list(dict.fromkeys(text.strip() for text in read_topics(args.topics).values()))

    from csplade_pyserini.model import build_encoder

    encoder, empties = build_encoder(checkpoint, options), 0
    budget = encoder.token_budget(args.batch_tokens, side="query")
    with whole_file(args.output) as file, tqdm(total=len(texts), desc="encoding", unit="query") as bar:
        for window in itertools.batched(texts, WINDOW):
            rows = encoder.tokenize(window, side="query")
            vectors = encoder.encode_tokenized(rows, side="query", batch_tokens=budget, progress=bar.update)
            for text, vector in zip(window, vectors, strict=True):
                empties += not vector
                file.write(json.dumps({"contents": text, "vector": vector}, ensure_ascii=False) + "\n")
            if args.show:
                print(
                    "\n".join(
                        terms_line(text, vector, encoder.readable)
                        for text, vector in zip(window, vectors, strict=True)
                    )
                )
    manifest = QueriesManifest(
        encoder=encoder.identity, topics=args.topics, queries=len(texts), empties=empties, versions=versions()
    )
    write_manifest(manifest, args.output)
    print(f"{args.output}: {len(texts)} queries, {empties} without any term", file=sys.stderr)
    return 0


def terms_line(text: str, vector: "Vector", readable: Callable[[str], str]) -> str:
    """A query and its heaviest terms, in one line."""
    return f"{text}\t{', '.join(f'{readable(term).strip() or term} {impact}' for term, impact in itertools.islice(vector.items(), SHOWN))}"


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m csplade_pyserini.encode_queries", description=__doc__.splitlines()[0]
    )
    add_encoder_argument(parser)
    parser.add_argument("--topics", required=True, metavar="FILE.tsv|ir_datasets:ID", help="topics to encode")
    parser.add_argument(
        "--output", required=True, type=Path, metavar="FILE.jsonl", help="query file to write"
    )
    parser.add_argument(
        "--show", action="store_true", help=f"print each query and its {SHOWN} heaviest terms as well"
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
