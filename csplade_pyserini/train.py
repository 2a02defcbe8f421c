"""Train an encoder: adaptation, contrastive training, and the checkpoint that searches take. Run again to resume.

python -m csplade_pyserini.train adapt    --config run_scripts/train/csplade-bi-1b.toml
python -m csplade_pyserini.train contrast --config run_scripts/train/csplade-bi-1b.toml
python -m csplade_pyserini.train merge    --config run_scripts/train/csplade-bi-1b.toml

On several devices: accelerate launch -m csplade_pyserini.train ..., or torchrun.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from csplade_pyserini.collections.corpus import IR_DATASETS_PREFIX
from csplade_pyserini.command_line import run
from csplade_pyserini.training.settings import PHASES, AdaptSettings, ContrastSettings, read_settings


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    card, settings = read_settings(args.config, args.phase, section=args.section, changes=args.set)
    if isinstance(settings, AdaptSettings):
        from csplade_pyserini.training.adaptation import adapt

        output = adapt(card, settings)
    elif isinstance(settings, ContrastSettings):
        from csplade_pyserini.training.contrast import contrast

        output = contrast(card, with_mined_negatives(settings))
    else:
        from csplade_pyserini.training.merging import merge

        output = merge(card, settings)
    print(f"search with: --encoder {output}", file=sys.stderr)
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m csplade_pyserini.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("phase", choices=tuple(PHASES), help="what to do")
    parser.add_argument(
        "--config",
        required=True,
        type=Path,
        metavar="FILE.toml",
        help="configuration, as in run_scripts/train/",
    )
    parser.add_argument(
        "--section", default="", help="table of the configuration to read (default: the phase's name)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change a value of the configuration; may stand more than once",
    )
    return parser.parse_args(argv)


def with_mined_negatives(settings: ContrastSettings) -> ContrastSettings:
    """The settings with each `ir_datasets:ID` of the data replaced by a file of examples with BM25's negatives."""
    if not any(name.startswith(IR_DATASETS_PREFIX) for name in settings.data):
        return settings
    from csplade_pyserini.lucene.mining import mine_examples

    folder = Path(f"{settings.output}.mined")
    return dataclasses.replace(
        settings,
        data=tuple(
            str(mine_examples(name, folder)) if name.startswith(IR_DATASETS_PREFIX) else name
            for name in settings.data
        ),
    )


if __name__ == "__main__":
    run(main)
