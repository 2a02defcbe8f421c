"""List the encoders, or print one encoder's card in full.

python -m csplade_pyserini.cards [--encoder NAME]
"""

import argparse
from collections.abc import Sequence

from csplade_pyserini.cards import find_card, find_checkpoint, parse_encoder_name, shipped_cards, to_toml
from csplade_pyserini.command_line import run
from csplade_pyserini.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m csplade_pyserini.cards", description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", metavar="NAME", help="print this encoder's card, defaults included")
    args = parser.parse_args(argv)
    if args.encoder is None:
        for card in shipped_cards().values():
            print(f"{card.name:<18} {weights_state(card.name):<10} {card.summary}")
        return 0
    name, options = parse_encoder_name(args.encoder)
    print(to_toml(options.apply_to(find_card(name)), with_defaults=True), end="")
    return 0


def weights_state(name: str) -> str:
    """Where a shipped card's weights are: `here`, `on the hub` or `not here`."""
    try:
        return "here" if find_checkpoint(name).folder is not None else "on the hub"
    except InputError:
        return "not here"


if __name__ == "__main__":
    run(main)
