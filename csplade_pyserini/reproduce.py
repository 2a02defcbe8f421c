"""Encode, index, search and score a collection, next to BM25 and to the expected scores, with commands that can be pasted.

python -m csplade_pyserini.reproduce --collection sample --encoder csplade-tiny --output runs/sample
python -m csplade_pyserini.reproduce --collection beir/nfcorpus --encoder csplade-tiny --output runs/nfcorpus
python -m csplade_pyserini.reproduce --collection msmarco-v1-passage --encoder csplade-bi-8b --output runs/msmarco

Run again, it verifies what is done and goes on. Exit code 1: a step failed, or a score is not the expected one.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from csplade_pyserini.cards import find_card, find_checkpoint
from csplade_pyserini.command_line import add_encoder_argument, positive, run
from csplade_pyserini.errors import CheckError
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.reproduction.inputs import Inputs
from csplade_pyserini.reproduction.records import RECORD, Record, make_record, read_record, write_record
from csplade_pyserini.reproduction.report import write_report
from csplade_pyserini.reproduction.score_tables import ScoreTable, differences, expected_scores, read_expected
from csplade_pyserini.reproduction.scores import evaluate, evaluation_commands
from csplade_pyserini.reproduction.steps import (
    System,
    bm25_system,
    encoder_system,
    folder_name,
    run_step,
    shown,
)
from csplade_pyserini.reproduction.test_collections import TestCollection, find_collections


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.dry_run:
        find_card(args.encoder)
        identity = ""
    else:
        identity = find_checkpoint(args.encoder).identity  # missing weights should end this before any work
        prepare_java()
    expected = read_expected(args.expected)
    failed: list[str] = []
    collections = find_collections(args.collection)
    for collection in collections:
        folder = args.output / collection.folder if len(collections) > 1 else args.output
        inputs = Inputs(folder, args.pyserini_names)
        systems = systems_of(args, collection, inputs, identity)
        if args.dry_run:
            print_commands(systems, collection, inputs)
            continue
        inputs.write(collection)
        records = [run_system(system, collection, inputs) for system in systems]
        write_report(
            folder / f"report.{folder_name(args.encoder)}.html", collection, systems, records, expected
        )
        print_table(collection, records)
        failed += check(collection, records, expected)
        if args.show_topics:
            show_topics(args, folder, collection, systems[-1])
    if failed:
        raise CheckError(f"{len(failed)} scores are not the expected ones: {'; '.join(failed)}")
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m csplade_pyserini.reproduce", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--collection", required=True, metavar="NAME",
        help="sample, msmarco-v1-passage, beir (the paper's 13), beir/SET, cqadupstack, FILE.toml, or an ir_datasets id with qrels",
    )  # fmt: skip
    add_encoder_argument(parser)
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="folder for everything; run again to resume"
    )
    parser.add_argument(
        "--threads", type=positive, default=2, help="threads of indexing and searching (default 2)"
    )
    parser.add_argument(
        "--expected", type=Path, metavar="DIR", help="tables of expected scores (default: those that ship)"
    )
    parser.add_argument(
        "--pyserini-names", action="store_true", help="take topics and qrels by Pyserini's names for them"
    )
    parser.add_argument(
        "--show-topics",
        type=int,
        default=0,
        metavar="N",
        help="print the top hits of N topics with their matching terms",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands and do nothing")
    return parser.parse_args(argv)


def systems_of(
    args: argparse.Namespace, collection: TestCollection, inputs: Inputs, identity: str
) -> list[System]:
    """BM25 and the encoder."""
    folder = inputs.folder
    return [
        bm25_system(inputs, folder / "bm25", collection, args.threads),
        encoder_system(
            args.encoder,
            inputs,
            folder / folder_name(args.encoder),
            collection,
            args.threads,
            identity=identity,
        ),
    ]


def print_commands(systems: Sequence[System], collection: TestCollection, inputs: Inputs) -> None:
    """On stdout: what would be run, a line each."""
    for system in systems:
        for step in system.steps:
            print(shown(step.command))
        for topics in collection.topics:
            for command in evaluation_commands(
                inputs.qrels(topics), system.run(collection.key(topics)), topics
            ):
                print(shown(command))


def run_system(system: System, collection: TestCollection, inputs: Inputs) -> Record:
    """Every step that is not done, then the scores; keeps the record. Raises CheckError where a step fails."""
    seconds = read_record(system.folder).seconds if (system.folder / RECORD).is_file() else {}
    for name, steps in {"": system.build, **system.searches}.items():
        for step in steps:
            taken = run_step(step)
            if taken is not None:
                seconds[f"{step.name} {name}".strip()] = taken
    evaluated = {}
    for topics in collection.topics:
        key, qrels = collection.key(topics), inputs.qrels(topics)
        for command in evaluation_commands(qrels, system.run(key), topics):
            print(f"$ {shown(command)}", file=sys.stderr)
        evaluated[key] = evaluate(qrels, system.run(key), topics)
    record = make_record(system, collection.name, evaluated, seconds)
    write_record(record, system.folder)
    return record


def print_table(collection: TestCollection, records: Sequence[Record]) -> None:
    """The scores on stdout, a row a system, a table for each set of topics."""
    for topics in collection.topics:
        key = collection.key(topics)
        width = max(map(len, [key, *(record.system for record in records)]))
        print(f"{key:<{width}}  " + "  ".join(f"{metric:>8}" for metric in topics.metrics) + "  index bytes")
        for record in records:
            scores = "  ".join(f"{record.scores[key][metric]:8.4f}" for metric in topics.metrics)
            print(f"{record.system:<{width}}  {scores}  {record.index_bytes:>11,}")


def check(collection: TestCollection, records: Sequence[Record], expected: Sequence[ScoreTable]) -> list[str]:
    """What is not as expected, a sentence each; says on stderr what was held against what, and what others report."""
    failed = []
    for topics in collection.topics:
        key = collection.key(topics)
        for record in records:
            table = expected_scores(expected, record.system, key)
            if table is None:
                print(f"{record.system} on {key}: no expected score", file=sys.stderr)
                continue
            wrong = differences(table, key, record.scores[key])
            failed += [f"{record.system}: {sentence}" for sentence in wrong]
            if not wrong:
                print(
                    f"{record.system} on {key}: as expected ({table.origin}: {table.source})", file=sys.stderr
                )
    return failed


def show_topics(args: argparse.Namespace, folder: Path, collection: TestCollection, system: System) -> None:
    """The top hits of a few topics, with the terms that matched."""
    from csplade_pyserini.explanation.matches import print_matches

    first, inputs = collection.topics[0], Inputs(folder)
    run_file = system.run(collection.key(first))
    print_matches(
        args.encoder,
        inputs.topics_file(first),
        inputs.corpus,
        run_file,
        system.folder / "vectors",
        args.show_topics,
    )


if __name__ == "__main__":
    run(main)
