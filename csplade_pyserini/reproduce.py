"""Encode, index, search and score a test collection, next to BM25 and expected scores.

python -m csplade_pyserini.reproduce --collection sample --encoder csplade-tiny --output runs/sample
python -m csplade_pyserini.reproduce --collection beir/nfcorpus --encoder csplade-tiny --output runs/nfcorpus
python -m csplade_pyserini.reproduce --collection msmarco-v1-passage --encoder csplade-bi-8b --output runs/ms
python -m csplade_pyserini.reproduce --collection sample --encoder csplade-tiny csplade-bi-smol \\
    --output runs/both --measures nDCG@10 RR@10 R@1000 Judged@10

It runs commands that can be pasted. Run again, it checks what is done and goes on from there.
Exit code 1: a step failed, or a score is not the expected one.
"""

import argparse
import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from csplade_pyserini.cards import (
    canonical_name,
    find_card,
    find_checkpoint,
    parse_encoder_name,
    with_options,
)
from csplade_pyserini.command_line import positive, run, verb_parser
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.lucene.stock import size_in_bytes
from csplade_pyserini.query_sides import QuerySource, find_queries
from csplade_pyserini.reproduction.catalogue import TestCollection, find_collections
from csplade_pyserini.reproduction.comparison import COMPARISON, write_comparison
from csplade_pyserini.reproduction.inputs import Inputs
from csplade_pyserini.reproduction.metadata import FILE as METADATA
from csplade_pyserini.reproduction.metadata import write_metadata
from csplade_pyserini.reproduction.metrics import check_metrics
from csplade_pyserini.reproduction.records import (
    RECORD,
    Record,
    make_record,
    read_record,
    record_of_run,
    write_record,
)
from csplade_pyserini.reproduction.report import write_report
from csplade_pyserini.reproduction.score_tables import (
    ScoreTable,
    differences,
    encoding_options,
    expected_scores,
    read_expected,
)
from csplade_pyserini.reproduction.scores import evaluate, evaluation_commands
from csplade_pyserini.reproduction.significance import paired_scores
from csplade_pyserini.reproduction.steps import (
    BM25,
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
    for encoder in args.encoder:
        find_checkpoint(encoder).check_sources()  # missing weights end this before any work, as does a
        find_queries(encoder)  # missing table
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
    parser.add_argument(
        "--encoder",
        required=True,
        nargs="+",
        action="extend",
        metavar="NAME[:key=value,...]",
        help="card, alias, checkpoint folder or Hugging Face id; several are compared on one page",
    )
    parser.add_argument(
        "--measures",
        nargs="+",
        metavar="MEASURE",
        help="metrics by their names in ir_measures, such as nDCG@10 (default: those of the collection)",
    )
    parser.add_argument(
        "--baseline",
        default=BM25,
        metavar="NAME|RUN",
        help="system to compare the others with: BM25 (default), one of the encoders, or a TREC run",
    )
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
        help="print the top hits of the N topics that gain most, with their matching terms",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands and do nothing")
    args = parser.parse_args(argv)
    args.encoder = list(dict.fromkeys(args.encoder))
    folders = [folder_name(encoder) for encoder in args.encoder]
    if len(set(folders)) < len(folders):
        raise InputError(f"the encoders {', '.join(args.encoder)} would share a folder; run them one by one")
    if args.measures:
        check_metrics(args.measures, "--measures")
    if args.baseline not in (BM25, *args.encoder) and not Path(args.baseline).is_file():
        raise InputError(
            f"--baseline is {args.baseline!r}; wanted {BM25}, one of the encoders, or the file of a run"
        )
    return args


def collections_of(args: argparse.Namespace) -> list[tuple[TestCollection, Inputs]]:
    """Test collections of a command line, each with its files; several get a folder each."""
    collections = find_collections(args.collection)
    if args.measures:
        collections = [_with_measures(collection, args.measures) for collection in collections]
    is_run = args.baseline not in (BM25, *args.encoder)
    sets = sum(len(collection.topics) for collection in collections)
    if is_run and sets > 1:
        raise InputError(
            f"--baseline {args.baseline} is one run, {args.collection} has several sets of topics"
        )
    if len(collections) == 1:
        return [(collections[0], Inputs(args.output, args.pyserini_names))]
    return [
        (collection, Inputs(args.output / collection.folder, args.pyserini_names))
        for collection in collections
    ]


def _with_measures(collection: TestCollection, measures: Sequence[str]) -> TestCollection:
    topics = (dataclasses.replace(one, metrics=tuple(measures)) for one in collection.topics)
    return dataclasses.replace(collection, topics=tuple(topics))


def dry_run(args: argparse.Namespace) -> None:
    """Print the commands. Raises InputError on an unknown encoder; its weights may be missing."""
    for name in args.encoder:
        find_card(name)
    expected = read_expected(args.expected)  # a broken table ends a dry run, too
    for collection, inputs in collections_of(args):
        systems = [bm25_system(inputs, inputs.folder / "bm25", collection, args.threads)]
        for name in args.encoder:
            encoder = with_options(name, options_of(name, collection, expected))
            systems.append(system_of(args, name, encoder, collection, inputs))
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
    systems = [bm25_system(inputs, inputs.folder / "bm25", collection, args.threads)]
    sources = []
    for name in args.encoder:
        encoder = with_options(name, options_of(name, collection, expected))
        if encoder != name:
            print(
                f"{name} on {collection.name} is run as {encoder!r}, as its published scores are made so",
                file=sys.stderr,
            )
        identity = find_checkpoint(encoder).identity
        sources.append(find_queries(encoder))
        systems.append(system_of(args, name, encoder, collection, inputs, identity, sources[-1].maker))
    inputs.write(collection)
    records = [run_system(system, collection, inputs, args.baseline) for system in systems]
    baseline = baseline_of(args, records, collection, inputs)
    write_pages(args, collection, inputs, systems, records, baseline, expected)
    print_table(collection, records)
    failed = check(collection, records, expected)
    if args.engine:
        for system, record in zip(systems[1:], records[1:], strict=True):
            failed += compare_engine(args.engine, system, record, collection, inputs)
    if args.show_topics:
        for source, system, record in zip(sources, systems[1:], records[1:], strict=True):
            show_topics(source, inputs, collection, system, record, baseline, args.show_topics)
    return failed


def write_pages(
    args: argparse.Namespace,
    collection: TestCollection,
    inputs: Inputs,
    systems: Sequence[System],
    records: Sequence[Record],
    baseline: Record,
    expected: Sequence[ScoreTable],
) -> None:
    """Write a report of each encoder next to BM25, and one page that compares several encoders."""
    for system, record in zip(systems[1:], records[1:], strict=True):
        page = inputs.folder / f"report.{folder_name(record.system)}.html"
        write = functools.partial(
            write_report,
            page,
            collection,
            (systems[0], system),
            (records[0], record),
            expected,
            baseline=baseline,
        )
        write_or_keep(page, write)
    if len(args.encoder) > 1:
        page = inputs.folder / COMPARISON
        write_or_keep(page, lambda: write_comparison(page, collection, records, baseline))


def baseline_of(
    args: argparse.Namespace, records: Sequence[Record], collection: TestCollection, inputs: Inputs
) -> Record:
    """Record of the system that --baseline names, or of the run in its file."""
    for record in records:
        if record.system == args.baseline:
            return record
    [topics] = collection.topics
    run_file = Path(args.baseline)
    evaluated = {collection.key(topics): evaluate(inputs.qrels(topics), run_file, topics)}
    return record_of_run(run_file, collection.name, evaluated)


def options_of(
    encoder: str, collection: TestCollection, expected: Sequence[ScoreTable]
) -> dict[str, str | int]:
    """Options that the encoder's published scores on this test collection are made with."""
    name, _ = parse_encoder_name(canonical_name(encoder))
    return encoding_options(expected, name, collection.name)


def system_of(
    args: argparse.Namespace,
    name: str,
    encoder: str,
    collection: TestCollection,
    inputs: Inputs,
    identity: str = "",
    queries: str = "",
) -> System:
    """Make the system of an encoder.

    encoder: its name with the options for this test collection. identity: the encoder's, empty in a dry run.
    queries: what makes its queries; empty if its model does.
    """
    folder = inputs.folder / folder_name(name)
    system = encoder_system(
        encoder, inputs, folder, collection, args.threads, identity=identity, queries=queries
    )
    return dataclasses.replace(system, name=name)


def print_commands(systems: Sequence[System], collection: TestCollection, inputs: Inputs) -> None:
    """Print every command, one per line."""
    for system in systems:
        for step in system.steps:
            print(shown(step.command))
        for topics in collection.topics:
            run_file = system.run(collection.key(topics))
            for command in evaluation_commands(inputs.qrels(topics), run_file, topics):
                print(shown(command))


def run_system(system: System, collection: TestCollection, inputs: Inputs, baseline: str) -> Record:
    """Run the steps that are not done, score the runs, and keep the record.

    baseline: name of the system or run that this one is compared with. Raises CheckError if a step fails.
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
    write_or_keep(system.folder / METADATA, lambda: write_metadata(system, record, collection, baseline))
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
        widths = {metric: max(8, len(metric)) for metric in topics.metrics}
        head = "  ".join(f"{metric:>{wide}}" for metric, wide in widths.items())
        print(f"{key:<{width}}  {head}  index bytes")
        for record in records:
            scores = "  ".join(f"{record.scores[key][metric]:{wide}.4f}" for metric, wide in widths.items())
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
            if table is None or record.scores[key].keys().isdisjoint(table.scores[key]):
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
    found = run_system(system, collection, inputs, record.system)
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
    source: QuerySource,
    inputs: Inputs,
    collection: TestCollection,
    system: System,
    record: Record,
    baseline: Record,
    count: int,
) -> None:
    """Print the top hits of the topics that gain most over the baseline, with the terms that matched.

    Before them it says how many topics gain and which ones lose.
    """
    from csplade_pyserini.explanation.matches import print_matches

    topics = collection.topics[0]
    key, metric = collection.key(topics), topics.metrics[0]
    pairs = paired_scores(record.topics[key][metric], baseline.topics.get(key, {}).get(metric, {}))
    qids = sorted(pairs, key=lambda qid: (len(qid), qid))  # 2 before 11, whatever order the scores came in
    own = [qid for qid in qids if qid in record.topics[key][metric]]
    best = sorted(own, key=lambda qid: pairs[qid][1] - pairs[qid][0])[:count]
    better = sum(ours > other for ours, other in pairs.values())
    worse = [qid for qid in qids if pairs[qid][0] < pairs[qid][1]]
    losers = f" ({', '.join(worse)})" if worse else ""
    print(
        f"\n{metric} by topic: {system.name} is above {baseline.system} on {better} of {len(pairs)}, "
        f"below it on {len(worse)}{losers}"
    )
    notes = {qid: f" ({metric} {pairs[qid][0]:.2f}, {baseline.system} {pairs[qid][1]:.2f})" for qid in best}
    print_matches(
        source,
        topics=inputs.topics_file(topics),
        corpus=inputs.corpus,
        run=system.run(key),
        vectors=system.folder / "vectors",
        notes=notes,
    )


if __name__ == "__main__":
    run(main)
