"""Train an encoder: adaptation, contrastive training, and a checkpoint to search with."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from csplade_pyserini.cards import CARD_FILE, TABLE_FILE, EncoderCard, parse_encoder_name, table_folders
from csplade_pyserini.collections.corpus import IR_DATASETS_PREFIX
from csplade_pyserini.command_line import add_encoder_argument, positive, run, verb_parser, whole_number
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
python -m csplade_pyserini.train lookup   --encoder csplade-8b --texts corpus.jsonl --output FOLDER

Run again to resume. On several devices: accelerate launch -m csplade_pyserini.train ..., or torchrun.
"""

LOOKUP = "lookup"
"""Phase that needs no configuration."""


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.phase == LOOKUP:
        table = fit(args)
        print(f"{table}: search with --encoder {name_of(args, table)}", file=sys.stderr)
        return 0
    card, settings = read_settings(args.config, args.phase, section=args.section, changes=args.set)
    output = train(card, settings)
    print(f"search with: --encoder {output}", file=sys.stderr)
    return 0


def fit(args: argparse.Namespace) -> Path:
    """Fit a table of query weights; return its path."""
    from csplade_pyserini.training.lookup import LookupSettings, fit_lookup

    return fit_lookup(
        LookupSettings(
            encoder=args.encoder,
            output=args.output,
            texts=tuple(args.texts),
            queries=tuple(args.queries),
            vectors=tuple(args.vectors),
            documents=args.documents,
            most_queries=args.most_queries,
            objective=args.objective,
            device=args.device,
            seed=args.seed,
        )
    )


def name_of(args: argparse.Namespace, table: Path) -> str:
    """Name by which a table's queries are asked for."""
    name, _ = parse_encoder_name(args.encoder)
    places = [Path(place).resolve() for place in table_folders(name)]
    if table.parent.resolve() in places:
        return f"{name}:query=lookup"
    if (table.parent / CARD_FILE).is_file():
        return str(table.parent)
    return f"{name}:query=lookup, once it lies in {places[0]}"


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
    phases = parser.add_subparsers(dest="phase", required=True, metavar="{adapt,contrast,merge,lookup}")
    for phase in PHASES:
        _add_settings(phases.add_parser(phase, help="run this phase of a configuration"))
    _add_lookup(
        phases.add_parser(LOOKUP, help="fit a table of token weights that makes queries without the model")
    )
    return parser.parse_args(argv)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the phases that a configuration describes."""
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


def _add_lookup(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `train lookup`."""
    add_encoder_argument(parser)
    parser.add_argument(
        "--texts",
        nargs="+",
        default=[],
        metavar="NAME",
        help="corpora, FILE.txt or ir_datasets:ID: documents to encode, and text to cut queries from",
    )
    parser.add_argument(
        "--queries",
        nargs="+",
        default=[],
        metavar="NAME",
        help="topics or FILE.txt with a query in each line (default: cut from --texts)",
    )
    parser.add_argument(
        "--vectors",
        nargs="+",
        default=[],
        type=Path,
        metavar="DIR",
        help="collections that this encoder has encoded (default: encode --texts)",
    )
    parser.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="FOLDER",
        help=f"folder of {TABLE_FILE}: that of the encoder's weights, or one of its own",
    )
    parser.add_argument(
        "--documents", type=positive, default=20_000, metavar="N", help="most documents (default 20000)"
    )
    parser.add_argument(
        "--most-queries", type=positive, default=12_000, metavar="N", help="most queries (default 12000)"
    )
    parser.add_argument(
        "--objective",
        choices=("squared", "kl"),
        default="kl",
        help="KL divergence of score distributions (default), or squared error of score differences",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: CUDA if there is one)")
    parser.add_argument("--seed", type=whole_number, default=1, help="of what is drawn (default 1)")


if __name__ == "__main__":
    run(main)
