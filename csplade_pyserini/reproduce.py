"""Encode, index, search and score a test collection, next to BM25 and expected scores.

python -m csplade_pyserini.reproduce --collection sample --encoder csplade-tiny --output runs/sample
python -m csplade_pyserini.reproduce --collection beir/nfcorpus --encoder csplade-tiny --output runs/nfcorpus
python -m csplade_pyserini.reproduce --collection msmarco-v1-passage --encoder csplade-bi-8b --output runs/ms

It runs commands that can be pasted. Run again, it checks what is done and goes on from there.
Exit code 1: a step failed, or a score is not the expected one.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from csplade_pyserini.cards import (
    Checkpoint,
    canonical_name,
    find_card,
    find_checkpoint,
    parse_encoder_name,
    with_options,
)
from csplade_pyserini.command_line import add_encoder_argument, positive, run, verb_parser
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.lucene.stock import size_in_bytes
from csplade_pyserini.reproduction.catalogue import TestCollection, find_collections
from csplade_pyserini.reproduction.inputs import Inputs
from csplade_pyserini.reproduction.records import RECORD, Record, make_record, read_record, write_record
from csplade_pyserini.reproduction.report import write_report
from csplade_pyserini.reproduction.score_tables import (
    ScoreTable,
    differences,
    encoding_options,
    expected_scores,
    read_expected,
)
from csplade_pyserini.reproduction.scores import evaluate, evaluation_commands
from csplade_pyserini.reproduction.steps import (
    System,
    bm25_system,
    encoder_system,
    engine_system,
    folder_name,
    run_step,
    shown,
)

EMBEDDED = ("qdrant", "milvus")
"""Engines that run in a folder."""
ENGINE_TOLERANCE = 1e-4 + 1e-9
"""Difference of a score to Lucene's: documents with equal scores come in another order."""


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.dry_run:
        dry_run(args)
        return 0
    find_checkpoint(args.encoder).check_sources()  # missing weights end this before any work
    prepare_java()
    expected = read_expected(args.expected)
    failed: list[str] = []
    for collection, inputs in collections_of(args):
        failed += reproduce(args, collection, inputs, expected)
    if failed:
        raise CheckError(f"{len(failed)} scores are not the expected ones: {'; '.join(failed)}")
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = verb_parser("reproduce")
    parser.add_argument(
        "--collection",
        required=True,
        metavar="NAME",
        help="sample, msmarco-v1-passage, beir (the paper's 13), beir/SET, cqadupstack, FILE.toml, "
        "or an ir_datasets id with qrels",
    )
    add_encoder_argument(parser)
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="folder for everything; run again to resume"
    )
    parser.add_argument(
        "--threads", type=positive, default=2, help="threads for indexing and searching (default 2)"
    )
    parser.add_argument(
        "--expected", type=Path, metavar="DIR", help="tables of expected scores (default: those that ship)"
    )
    parser.add_argument(
        "--pyserini-names", action="store_true", help="take topics and qrels by Pyserini's names for them"
    )
    parser.add_argument(
        "--engine",
        choices=EMBEDDED,
        help="run the same vectors and queries on this engine as well, and compare with Lucene",
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


def collections_of(args: argparse.Namespace) -> list[tuple[TestCollection, Inputs]]:
    """Test collections of a command line, each with its files; several get a folder each."""
    collections = find_collections(args.collection)
    if len(collections) == 1:
        return [(collections[0], Inputs(args.output, args.pyserini_names))]
    return [
        (collection, Inputs(args.output / collection.folder, args.pyserini_names))
        for collection in collections
    ]


def dry_run(args: argparse.Namespace) -> None:
    """Print the commands. Raises InputError on an unknown encoder; its weights may be missing."""
    find_card(args.encoder)
    expected = read_expected(args.expected)  # a broken table ends a dry run, too
    for collection, inputs in collections_of(args):
        encoder = with_options(args.encoder, options_of(args.encoder, collection, expected))
        systems = systems_of(args, encoder, collection, inputs)
        if args.engine:
            systems.append(engine_system(args.engine, systems[-1], inputs, collection))
        print_commands(systems, collection, inputs)


def reproduce(
    args: argparse.Namespace,
    collection: TestCollection,
    inputs: Inputs,
    expected: Sequence[ScoreTable],
) -> list[str]:
    """Run all systems on one test collection. Returns one sentence per unexpected score."""
    options = options_of(args.encoder, collection, expected)
    encoder = with_options(args.encoder, options)
    if encoder != args.encoder:
        print(
            f"{args.encoder} on {collection.name} is run as {encoder!r}, as its published scores are made so",
            file=sys.stderr,
        )
    checkpoint = find_checkpoint(encoder)
    systems = systems_of(args, encoder, collection, inputs, checkpoint.identity)
    inputs.write(collection)
    records = [run_system(system, collection, inputs) for system in systems]
    report = inputs.folder / f"report.{folder_name(args.encoder)}.html"
    write_or_keep(report, lambda: write_report(report, collection, systems, records, expected))
    print_table(collection, records)
    failed = check(collection, records, expected)
    if args.engine:
        failed += compare_engine(args.engine, systems[-1], records[-1], collection, inputs)
    if args.show_topics:
        show_topics(checkpoint, inputs, collection, systems[-1], args.show_topics)
    return failed


def options_of(
    encoder: str, collection: TestCollection, expected: Sequence[ScoreTable]
) -> dict[str, str | int]:
    """Options that the encoder's published scores on this test collection are made with."""
    name, _ = parse_encoder_name(canonical_name(encoder))
    return encoding_options(expected, name, collection.name)


def systems_of(
    args: argparse.Namespace, encoder: str, collection: TestCollection, inputs: Inputs, identity: str = ""
) -> list[System]:
    """Make the systems: BM25, then the encoder.

    encoder: its name with the options for this test collection. identity: the encoder's, empty in a dry run.
    """
    bm25_folder = inputs.folder / "bm25"
    folder = inputs.folder / folder_name(args.encoder)
    bm25 = bm25_system(inputs, bm25_folder, collection, args.threads)
    ours = encoder_system(encoder, inputs, folder, collection, args.threads, identity=identity)
    return [bm25, dataclasses.replace(ours, name=args.encoder)]


def print_commands(systems: Sequence[System], collection: TestCollection, inputs: Inputs) -> None:
    """Print every command, one per line."""
    for system in systems:
        for step in system.steps:
            print(shown(step.command))
        for topics in collection.topics:
            run_file = system.run(collection.key(topics))
            for command in evaluation_commands(inputs.qrels(topics), run_file, topics):
                print(shown(command))


def run_system(system: System, collection: TestCollection, inputs: Inputs) -> Record:
    """Run the steps that are not done, score the runs, and keep the record.

    Raises CheckError if a step fails.
    """
    seconds = run_steps(system)
    evaluated = {}
    for topics in collection.topics:
        key = collection.key(topics)
        qrels = inputs.qrels(topics)
        for command in evaluation_commands(qrels, system.run(key), topics):
            print(f"$ {shown(command)}", file=sys.stderr)
        evaluated[key] = evaluate(qrels, system.run(key), topics)
    record = make_record(system, collection.name, evaluated, seconds)
    write_or_keep(system.folder / RECORD, lambda: write_record(record, system.folder))
    return record


def write_or_keep(file: Path, write: Callable[[], None]) -> None:
    """Write a file; in a folder that cannot be written, keep the one that is there, and say so.

    Whoever verifies a finished run may have no right to change it. Raises InputError if there is none.
    """
    try:
        write()
    except InputError as error:
        if not file.is_file():
            raise
        print(f"{error}; {file} is kept as it is", file=sys.stderr)


def run_steps(system: System) -> dict[str, float]:
    """Run the steps that are not done. Returns all steps' seconds, also of earlier runs."""
    seconds: dict[str, float] = {}
    if (system.folder / RECORD).is_file():
        seconds = read_record(system.folder).seconds
    for key, steps in {"": system.build, **system.searches}.items():
        for step in steps:
            taken = run_step(step)
            if taken is not None:
                seconds[f"{step.name} {key}".strip()] = taken
    return seconds


def print_table(collection: TestCollection, records: Sequence[Record]) -> None:
    """Print the scores: one table per set of topics, one row per system."""
    for topics in collection.topics:
        key = collection.key(topics)
        width = max(map(len, [key, *(record.system for record in records)]))
        print(f"{key:<{width}}  " + "  ".join(f"{metric:>8}" for metric in topics.metrics) + "  index bytes")
        for record in records:
            scores = "  ".join(f"{record.scores[key][metric]:8.4f}" for metric in topics.metrics)
            print(f"{record.system:<{width}}  {scores}  {record.index_bytes:>11,}")


def check(collection: TestCollection, records: Sequence[Record], expected: Sequence[ScoreTable]) -> list[str]:
    """Compare the scores with the expected ones, and say so on stderr.

    Returns one sentence per score that differs.
    """
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
                source = f"{table.origin}: {table.source}"
                print(f"{record.system} on {key}: as expected ({source})", file=sys.stderr)
    return failed


def compare_engine(
    engine: str, ours: System, record: Record, collection: TestCollection, inputs: Inputs
) -> list[str]:
    """Run an encoder's vectors and queries on an engine; one sentence per score that is not Lucene's."""
    system = engine_system(engine, ours, inputs, collection)
    found = run_system(system, collection, inputs)
    size = size_in_bytes(system.folder / "target")
    print_table(collection, [record, dataclasses.replace(found, index_bytes=size)])
    failed = []
    for key, scores in found.scores.items():
        for metric, score in scores.items():
            wanted = record.scores[key][metric]
            if abs(score - wanted) > ENGINE_TOLERANCE:
                failed.append(f"{system.name}: {key} {metric} is {score:.4f}, by Lucene {wanted:.4f}")
    return failed


def show_topics(
    checkpoint: Checkpoint, inputs: Inputs, collection: TestCollection, system: System, count: int
) -> None:
    """Print the top hits of the first topics, with the terms that matched."""
    from csplade_pyserini.explanation.matches import print_matches

    topics = collection.topics[0]
    print_matches(
        checkpoint,
        topics=inputs.topics_file(topics),
        corpus=inputs.corpus,
        run=system.run(collection.key(topics)),
        vectors=system.folder / "vectors",
        count=count,
    )


if __name__ == "__main__":
    run(main)
