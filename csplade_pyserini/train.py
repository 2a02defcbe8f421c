"""Train an encoder: adaptation, contrastive training, and a checkpoint to search with."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.collections.corpus import IR_DATASETS_PREFIX
from csplade_pyserini.command_line import run, verb_parser
from csplade_pyserini.training.settings import (
    PHASES,
    AdaptSettings,
    ContrastSettings,
    Settings,
    read_settings,
)

EXAMPLES = """\
python -m csplade_pyserini.train adapt    --config run_scripts/train/csplade-bi-1b.toml
python -m csplade_pyserini.train contrast --config run_scripts/train/csplade-bi-1b.toml
python -m csplade_pyserini.train merge    --config run_scripts/train/csplade-bi-1b.toml

Run again to resume. On several devices: accelerate launch -m csplade_pyserini.train ..., or torchrun.
"""


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    card, settings = read_settings(args.config, args.phase, section=args.section, changes=args.set)
    output = train(card, settings)
    print(f"search with: --encoder {output}", file=sys.stderr)
    return 0


def train(card: EncoderCard, settings: Settings) -> Path:
    """Run the phase of these settings, and return the checkpoint folder that it leaves."""
    if isinstance(settings, AdaptSettings):
        from csplade_pyserini.training.adaptation import adapt

        return adapt(card, settings)
    if isinstance(settings, ContrastSettings):
        from csplade_pyserini.training.contrast import contrast

        return contrast(card, with_mined_negatives(settings))
    from csplade_pyserini.training.merging import merge

    return merge(card, settings)


def with_mined_negatives(settings: ContrastSettings) -> ContrastSettings:
    """Replace each `ir_datasets:ID` of the data by a file of examples with BM25's negatives."""
    if not any(name.startswith(IR_DATASETS_PREFIX) for name in settings.data):
        return settings
    from csplade_pyserini.lucene.mining import mine_examples

    folder = Path(f"{settings.output}.mined")
    data = []
    for name in settings.data:
        if name.startswith(IR_DATASETS_PREFIX):
            name = str(mine_examples(name, folder))
        data.append(name)
    return dataclasses.replace(settings, data=tuple(data))


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = verb_parser("train")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    parser.add_argument("phase", choices=tuple(PHASES), help="phase to run")
    parser.add_argument(
        "--config",
        required=True,
        type=Path,
        metavar="FILE.toml",
        help="configuration, such as those in run_scripts/train/",
    )
    parser.add_argument(
        "--section", default="", help="table of the configuration to read (default: the phase's name)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change a value of the configuration; may be repeated",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
