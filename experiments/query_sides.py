"""Measure nDCG@10 of each query side over one document index.

    python experiments/query_sides.py --encoder csplade-tiny --collection sample beir/nfcorpus/dev \\
        --output work/query-sides [--sides model lookup encoder]

Documents are encoded and indexed once, by `reproduce` with the model's queries; run again, nothing is done
twice. Then Pyserini searches that index with each other side. The share is of the model's nDCG@10.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from csplade_pyserini.errors import CheckError
from csplade_pyserini.query_sides import find_queries
from csplade_pyserini.reproduce import collections_of
from csplade_pyserini.reproduce import main as reproduce
from csplade_pyserini.reproduce import parse_args as reproduce_args
from csplade_pyserini.reproduction.catalogue import TestCollection
from csplade_pyserini.reproduction.inputs import Inputs
from csplade_pyserini.reproduction.scores import ALL, evaluate
from csplade_pyserini.reproduction.steps import encoder_system, folder_name, run_step

METRIC = "nDCG@10"
SIDES = ("model", "lookup", "encoder")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    print("collection" + "".join(f"\t{side}\tshare" for side in args.sides))
    for name in args.collection:
        for key, scores in scores_of(name, args.encoder, args.sides, args.output / folder_name(name)):
            shares = "".join(f"\t{score:.4f}\t{score / (scores[0] or 1):.3f}" for score in scores)
            print(f"{key}{shares}", flush=True)
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--encoder", default="csplade-tiny")
    parser.add_argument("--collection", nargs="+", default=["sample"], metavar="NAME")
    parser.add_argument("--output", type=Path, default=Path("work/query-sides"), metavar="DIR")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=["model", "lookup"])
    return parser.parse_args(argv)


def scores_of(name: str, encoder: str, sides: Sequence[str], folder: Path) -> list[tuple[str, list[float]]]:
    """Score of each side on each set of topics of one or several test collections."""
    by_model = f"{encoder}:query=model"
    words = ["--collection", name, "--encoder", by_model, "--output", str(folder), "--threads", "1"]
    try:
        reproduce(words)
    except CheckError as error:  # expected scores are none of this script's business
        print(error, file=sys.stderr)
    found = []
    for collection, inputs in collections_of(reproduce_args(words)):
        found += scores_on(collection, encoder, sides, inputs)
    return found


def scores_on(
    collection: TestCollection, encoder: str, sides: Sequence[str], inputs: Inputs
) -> list[tuple[str, list[float]]]:
    """Score of each side on each set of topics of a collection that `reproduce` has run."""
    found = []
    by_model = f"{encoder}:query=model"
    folder = inputs.folder
    index = encoder_system(by_model, inputs, folder / folder_name(by_model), collection, 1).index
    for topics in collection.topics:
        key = collection.key(topics)
        scores = []
        for side in sides:
            own = folder / f"queries-{side}"
            own.mkdir(exist_ok=True)
            link = own / "index"
            if not link.exists():
                link.symlink_to(index.resolve())
            source = find_queries(f"{encoder}:query={side}")
            system = encoder_system(
                source.text, inputs, own, collection, 1, identity=source.identity, queries=source.maker
            )
            for step in system.searches[key]:
                run_step(step)
            scores.append(evaluate(inputs.qrels(topics), system.run(key), topics)[METRIC][ALL])
        found.append((key, scores))
    return found


if __name__ == "__main__":
    raise SystemExit(main())
