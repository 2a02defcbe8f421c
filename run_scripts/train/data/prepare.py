"""Prepare the training data of csplade-tiny: texts, examples scored by a teacher, and a tokenizer.

    python run_scripts/train/data/prepare.py pairs --data DATA --output WORK --teacher FOLDER
    python run_scripts/train/data/prepare.py tokenizer --texts WORK/texts.jsonl --output TOKENIZER
    python run_scripts/train/data/prepare.py map --vectors WORK/teacher --examples WORK/examples.jsonl \\
        --teacher FOLDER --tokenizer TOKENIZER --output MAPPED
    python run_scripts/train/data/prepare.py split --examples WORK/examples.jsonl --output WORK

DATA holds the development data that DATA/README.md describes. Queries, qrels and topics of development and
test splits are never used. All random choices come from --seed. A file that is already there is kept.
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

    pairs = commands.add_parser("pairs", help="write texts, training examples and the teacher's vectors")
    pairs.add_argument("--data", type=Path, required=True, help="folder of the development data")
    pairs.add_argument("--output", type=Path, required=True, help="folder to write")
    pairs.add_argument(
        "--teacher", type=Path, help="folder of a SPLADE BERT (default: no scores, and random negatives)"
    )
    pairs.add_argument("--seed", type=int, default=1)
    pairs.set_defaults(run=run_pairs)

    tokenizer = commands.add_parser("tokenizer", help="train a tokenizer")
    tokenizer.add_argument("--texts", type=Path, required=True, help="JSON Lines with contents")
    tokenizer.add_argument("--output", type=Path, required=True, help="tokenizer folder to write")
    tokenizer.add_argument("--vocabulary", type=int, default=16_384, help="entries (default: 16384)")
    tokenizer.set_defaults(run=run_tokenizer)

    mapping = commands.add_parser("map", help="map the teacher's vectors to another tokenizer's tokens")
    mapping.add_argument(
        "--vectors", type=Path, required=True, help="folder of the teacher's vectors, queries/ and documents/"
    )
    mapping.add_argument("--examples", type=Path, required=True, help="examples that `pairs` wrote")
    mapping.add_argument("--teacher", type=Path, required=True, help="teacher's folder, for its tokenizer")
    mapping.add_argument(
        "--tokenizer",
        type=Path,
        required=True,
        help="folder of the other tokenizer, or a training configuration",
    )
    mapping.add_argument("--output", type=Path, required=True, help="folder to write")
    mapping.set_defaults(run=run_map)

    split = commands.add_parser("split", help="keep NFCorpus's examples and a share of the others")
    split.add_argument("--examples", type=Path, required=True, help="examples that `pairs` wrote")
    split.add_argument("--output", type=Path, required=True, help="folder of nfcorpus.jsonl and others.jsonl")
    split.set_defaults(run=run_split)
    return parser.parse_args(argv)


# Each command imports its own modules: only `pairs` needs scipy, and --help needs none.


def run_pairs(args: argparse.Namespace) -> None:
    from pairs import prepare_pairs

    prepare_pairs(args.data, args.output, args.teacher, args.seed)


def run_tokenizer(args: argparse.Namespace) -> None:
    from tokenizer import prepare_tokenizer

    prepare_tokenizer(args.texts, args.output, args.vocabulary)


def run_map(args: argparse.Namespace) -> None:
    from mapping import map_vectors

    map_vectors(args.vectors, args.examples, args.teacher, args.tokenizer, args.output)


def run_split(args: argparse.Namespace) -> None:
    from split import split_examples

    split_examples(args.examples, args.output)


if __name__ == "__main__":
    run(main)
