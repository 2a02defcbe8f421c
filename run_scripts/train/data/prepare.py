"""Prepare the training data of the small encoders.

    python run_scripts/train/data/prepare.py collect --data DATA --output WORK
    python run_scripts/train/data/prepare.py vocabulary --texts WORK/passages.jsonl WORK/queries.jsonl \\
        --teacher FOLDER --output TOKENIZER
    python run_scripts/train/data/prepare.py lexical --passages WORK/passages.jsonl \\
        --tokenizer TOKENIZER --output CHECKPOINT/lexical.safetensors
    python run_scripts/train/data/prepare.py vectors --side document --texts WORK/passages.jsonl \\
        --passages WORK/passages.jsonl --teacher FOLDER --tokenizer TOKENIZER --output VECTORS/passages
    python run_scripts/train/data/prepare.py ranks --queries WORK/queries.jsonl \\
        --passages WORK/passages.jsonl --vectors VECTORS --dense FOLDER --output WORK/ranks.jsonl

DATA holds the development data that DATA/README.md describes. No query, qrel or document of a test
collection is read, except the texts of MS MARCO's pool. All random choices come from --seed. A file that is
already there is kept: run again to resume.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from csplade_pyserini.command_line import run


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    args.run(args)
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    collect = commands.add_parser("collect", help="write texts, passages, queries and pairs of them")
    collect.add_argument("--data", type=Path, required=True, help="folder of the development data")
    collect.add_argument("--output", type=Path, required=True, help="folder to write")
    collect.add_argument("--seed", type=int, default=1)
    collect.set_defaults(run=run_collect)

    vocabulary = commands.add_parser("vocabulary", help="cut the teacher's tokenizer to the terms in use")
    vocabulary.add_argument("--texts", type=Path, nargs="+", required=True, help="JSON Lines with contents")
    vocabulary.add_argument("--teacher", type=Path, required=True, help="folder of a SPLADE BERT")
    vocabulary.add_argument("--output", type=Path, required=True, help="tokenizer folder to write")
    vocabulary.add_argument("--terms", type=int, default=26_000, help="most used terms (default: 26000)")
    vocabulary.set_defaults(run=run_vocabulary)

    lexical = commands.add_parser("lexical", help="write the idf of an encoder's lexical weights")
    lexical.add_argument("--passages", type=Path, required=True, help="JSON Lines with contents")
    lexical.add_argument("--tokenizer", type=Path, required=True, help="folder of a tokenizer")
    lexical.add_argument("--output", type=Path, required=True, help="file to write")
    lexical.set_defaults(run=run_lexical)

    vectors = commands.add_parser("vectors", help="write the vectors that the encoder learns")
    vectors.add_argument("--side", choices=("query", "document"), required=True)
    vectors.add_argument("--texts", type=Path, required=True, help="JSON Lines with contents")
    vectors.add_argument("--passages", type=Path, required=True, help="passages, for BM25's statistics")
    vectors.add_argument("--teacher", type=Path, required=True, help="folder of a SPLADE BERT")
    vectors.add_argument(
        "--tokenizer", type=Path, required=True, help="folder of a tokenizer, or a training configuration"
    )
    vectors.add_argument("--output", type=Path, required=True, help="folder to write")
    vectors.set_defaults(run=run_vectors)

    ranks = commands.add_parser("ranks", help="write queries with passages and a teacher's scores")
    ranks.add_argument("--queries", type=Path, required=True, help="JSON Lines with contents")
    ranks.add_argument("--passages", type=Path, required=True, help="JSON Lines with contents")
    ranks.add_argument("--vectors", type=Path, required=True, help="folder of their vectors")
    ranks.add_argument("--dense", type=Path, required=True, help="folder of a sentence-transformers model")
    ranks.add_argument("--output", type=Path, required=True, help="file to write")
    ranks.add_argument("--seed", type=int, default=1)
    ranks.set_defaults(run=run_ranks)
    return parser.parse_args(argv)


# Each command imports its own modules: not all need scipy or torch, and --help needs none.


def run_collect(args: argparse.Namespace) -> None:
    from collect import collect

    collect(args.data, args.output, args.seed)


def run_vocabulary(args: argparse.Namespace) -> None:
    from vocabulary import prepare_vocabulary

    prepare_vocabulary(args.texts, args.teacher, args.output, args.terms)


def run_lexical(args: argparse.Namespace) -> None:
    from lexical import prepare_lexical
    from vectors import read_tokenizer

    prepare_lexical(args.passages, read_tokenizer(args.tokenizer), args.output)


def run_vectors(args: argparse.Namespace) -> None:
    from vectors import prepare_vectors

    prepare_vectors(args.side, args.texts, args.passages, args.teacher, args.tokenizer, args.output)


def run_ranks(args: argparse.Namespace) -> None:
    from ranks import prepare_ranks

    prepare_ranks(args.queries, args.passages, args.vectors, args.dense, args.output, args.seed)


if __name__ == "__main__":
    run(main)
