"""List the encoders, print one's card or the terms of a text, convert pickled weights, or prepare an upload.

python -m csplade_pyserini.cards
python -m csplade_pyserini.cards --encoder csplade-tiny
python -m csplade_pyserini.cards --encoder csplade-tiny --encode "heart attack symptoms"
python -m csplade_pyserini.cards --convert FOLDER       (adapter_model.bin, pytorch_model.bin: to safetensors)
python -m csplade_pyserini.cards --publish FOLDER       (README.md and card.toml for the hub)
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from csplade_pyserini.cards import find_card, is_card, shipped_cards, to_toml, weight_folders, weights_state
from csplade_pyserini.cards.publishing import publish
from csplade_pyserini.command_line import positive, run, verb_parser
from csplade_pyserini.errors import InputError

TERMS = 20


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.convert is not None:
        convert(args.convert)
    elif args.publish is not None:
        print("\n".join(publish(args.publish)))
    elif args.encode is not None:
        print_terms(args)
    elif args.encoder is not None:
        print(to_toml(find_card(args.encoder), with_defaults=True), end="")
    else:
        for card in shipped_cards().values():
            print(f"{card.name:<18} {weights_state(card.name):<10} {card.summary}")
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = verb_parser("cards")
    parser.add_argument("--encoder", metavar="NAME", help="print this encoder's card, defaults included")
    parser.add_argument(
        "--encode",
        metavar="TEXT",
        help="print the heaviest terms of this text instead, and the token behind each",
    )
    parser.add_argument(
        "--side",
        choices=("query", "document"),
        default="query",
        help="encode it as a query (default) or as a document",
    )
    parser.add_argument(
        "--terms", type=positive, default=TERMS, metavar="N", help=f"number of terms (default {TERMS})"
    )
    parser.add_argument(
        "--convert",
        metavar="FOLDER",
        help="convert the pickled weights of a checkpoint folder, or of a card's folder in $CSPLADE_HOME, "
        "to safetensors beside them",
    )
    parser.add_argument(
        "--publish",
        type=Path,
        metavar="FOLDER",
        help="write the README.md and card.toml with which a checkpoint folder can go to the hub; "
        "a record.json of `reproduce` in it gives the scores",
    )
    args = parser.parse_args(argv)
    if args.publish is not None and (args.encoder is not None or args.convert is not None):
        raise InputError("--publish takes a folder alone; leave --encoder and --convert away")
    if args.convert is not None and args.encoder is not None:
        raise InputError("--convert takes a folder alone; leave --encoder away")
    if args.encode is not None and args.encoder is None:
        raise InputError("--encode without --encoder; wanted an encoder's name as well")
    return args


def print_terms(args: argparse.Namespace) -> None:
    """Print the heaviest terms of --encode's text."""
    from csplade_pyserini.explanation.listing import vector_lines
    from csplade_pyserini.query_sides import load_encoder

    encoder = load_encoder(args.encoder)
    text = encoder.attribute(args.encode, side=args.side)
    print("\n".join(vector_lines(text, encoder.readable, terms=args.terms)))


def convert(name: str) -> None:
    """Convert the pickled weights of a folder, or of a card's folder in $CSPLADE_HOME."""
    from csplade_pyserini.model.conversion import convert_folder

    folder = Path(name)
    if not folder.is_dir() and is_card(name):
        folder = weight_folders(find_card(name))[0]
    print("\n".join(convert_folder(folder)))


if __name__ == "__main__":
    run(main)
