"""Encode, index, search and score a collection, next to BM25, with commands that can be pasted.

python -m csplade_pyserini.reproduce --collection sample --encoder csplade-tiny --output runs/sample
python -m csplade_pyserini.reproduce --collection beir/nfcorpus/test --encoder csplade-tiny --output runs/nfcorpus
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from csplade_pyserini.cards import find_card, find_checkpoint, parse_encoder_name
from csplade_pyserini.collections.corpus import IR_DATASETS_PREFIX, measure_corpus, open_corpus, write_corpus
from csplade_pyserini.collections.files import whole_file
from csplade_pyserini.collections.topics import read_qrels, read_topics, write_qrels, write_topics
from csplade_pyserini.command_line import add_encoder_argument, positive, run
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.lucene.evaluation import METRICS, evaluate, evaluation_command
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.lucene.stock import bm25_index_command, size_in_bytes

SAMPLE = Path(__file__).parent / "sample"
QUERY_IS_DOCUMENT = ("beir/arguana", "beir/quora")
"""Data sets whose queries stand in the corpus: BEIR takes the query itself out of its hits."""
SEARCH_OPTIONS = ("--hits", "1000", "--batch-size", "32")


@dataclass(frozen=True)
class Inputs:
    """A collection as files that Pyserini reads."""

    corpus: Path
    topics: Path
    qrels: Path


@dataclass(frozen=True)
class Step:
    """One command, and the file or folder it makes under the name its command has for it."""

    command: list[str]
    output: Path
    atomic: bool = False
    """Whether the command itself puts its output there whole; else it works under another name first."""


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    name, _ = parse_encoder_name(args.encoder)
    label = re.sub(r"[^\w.-]+", "_", args.encoder)
    if args.dry_run:
        find_card(name)
    else:
        find_checkpoint(name)  # missing weights should end this before any work
    inputs = inputs_of(args.output)
    systems = {
        "BM25": bm25_steps(inputs, args.output / "bm25", args.collection, args.threads),
        label: encoder_steps(args.encoder, inputs, args.output / label, args.collection, args.threads),
    }
    if args.dry_run:
        for steps in systems.values():
            print("\n".join(shown(step.command) for step in steps))
            print(shown(evaluation_command(inputs.qrels, steps[-1].output)))
        return 0

    prepare_java()
    write_inputs(args.collection, args.output, inputs)
    rows = {}
    for system, steps in systems.items():
        for step in steps:
            run_step(step)
        print(f"$ {shown(evaluation_command(inputs.qrels, steps[-1].output))}", file=sys.stderr)
        rows[system] = evaluate(inputs.qrels, steps[-1].output) | {"index bytes": size_in_bytes(steps[-2].output)}
    write_scores(args, label, rows)
    print_table(args.collection, rows)
    if args.show_topics:
        from csplade_pyserini.matches import print_matches

        print_matches(
            args.encoder, inputs.topics, inputs.corpus, systems[label][-1].output, args.output / label / "vectors", args.show_topics
        )
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m csplade_pyserini.reproduce", description=__doc__.splitlines()[0])
    parser.add_argument("--collection", required=True, metavar="NAME", help="sample, or an ir_datasets id with topics and qrels")
    add_encoder_argument(parser)
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for everything; run again to resume")
    parser.add_argument("--threads", type=positive, default=2, help="threads of indexing and searching (default 2)")
    parser.add_argument("--show-topics", type=int, default=0, metavar="N", help="print the top hits of N topics with their matching terms")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and do nothing")
    return parser.parse_args(argv)


def inputs_of(output: Path) -> Inputs:
    """Where a collection's files lie in the output folder.

    Pyserini reads qids of a path that contains `beir` as strings; any other TSV loses leading zeros.
    """
    return Inputs(output / "corpus", output / "topics.beir.tsv", output / "qrels.txt")


def write_inputs(collection: str, output: Path, inputs: Inputs) -> None:
    """Write the collection's corpus, topics and qrels. Raises InputError where the folder holds another one."""
    stamp = output / "collection.json"
    if stamp.is_file():
        before = json.loads(stamp.read_text(encoding="utf-8"))["collection"]
        if before != collection:
            raise InputError(f"{output} holds the collection {before!r}, not {collection!r}: choose another --output")
        return
    if collection == "sample":
        origin = {"corpus": str(SAMPLE / "corpus.jsonl"), "topics": str(SAMPLE / "topics.tsv"), "qrels": str(SAMPLE / "qrels.txt")}
    else:
        origin = dict.fromkeys(("corpus", "topics", "qrels"), IR_DATASETS_PREFIX + collection)
    corpus = open_corpus(origin["corpus"])
    topics, qrels = read_topics(origin["topics"]), read_qrels(origin["qrels"])
    documents = measure_corpus(corpus).documents
    write_corpus(corpus, inputs.corpus / "docs.jsonl")
    # Only judged topics count, as in trec_eval's own mean.
    write_topics({qid: text for qid, text in topics.items() if qid in qrels}, inputs.topics)
    write_qrels(qrels, inputs.qrels)
    with whole_file(stamp) as file:
        json.dump({"collection": collection, "documents": documents, "topics": len(qrels)}, file)


def bm25_steps(inputs: Inputs, folder: Path, collection: str, threads: int) -> list[Step]:
    """BM25 with Pyserini's defaults over title and text as one field."""
    index = bm25_index_command(inputs.corpus, folder / "index", threads=threads)
    return [Step(index, folder / "index"), search_step(inputs, folder, collection, threads, "--bm25")]


def encoder_steps(encoder: str, inputs: Inputs, folder: Path, collection: str, threads: int) -> list[Step]:
    """Our encoder, through the stock search command."""
    vectors, index = folder / "vectors", folder / "index"
    encode = python("csplade_pyserini.encode", "--encoder", encoder, "--corpus", inputs.corpus / "docs.jsonl", "--output", vectors)
    build = python("csplade_pyserini.index", "--input", vectors, "--index", index, "--threads", threads)
    return [
        Step(encode, vectors, atomic=True),
        Step(build, index, atomic=True),
        search_step(inputs, folder, collection, threads, "--encoder", encoder),
    ]


def search_step(inputs: Inputs, folder: Path, collection: str, threads: int, *how: str) -> Step:
    remove = ["--remove-query"] if collection.startswith(QUERY_IS_DOCUMENT) else []
    command = python(
        "pyserini.search.lucene", "--index", folder / "index", "--topics", inputs.topics, "--output", folder / "run.txt",
        *how, *SEARCH_OPTIONS, "--threads", threads, *remove,
    )  # fmt: skip
    return Step(command, folder / "run.txt")


def run_step(step: Step) -> None:
    """Run a command unless the same command has already made its output. Raises CheckError where it fails."""
    print(f"$ {shown(step.command)}", file=sys.stderr)
    stamp = step.output.with_name(f".{step.output.name}.command")
    if step.output.exists() and stamp.is_file() and stamp.read_text(encoding="utf-8") == shown(step.command):
        print("  done already", file=sys.stderr)
        return
    step.output.parent.mkdir(parents=True, exist_ok=True)
    made = step.output if step.atomic else step.output.with_name(f"{step.output.name}.partial")
    command = [str(made) if word == str(step.output) else word for word in step.command]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode or not made.exists():
        tail = "\n".join(result.stdout.splitlines()[-10:])
        raise CheckError(
            f"exit code {result.returncode}, {'no ' if not made.exists() else ''}output {made}, of: {shown(step.command)}\n{tail}"
        )
    if not step.atomic:
        made.replace(step.output)
    with whole_file(stamp) as file:
        file.write(shown(step.command))


def python(module: str, *words: object) -> list[str]:
    """`python -m MODULE WORDS...` with this interpreter."""
    return [sys.executable, "-m", module, *map(str, words)]


def shown(command: Sequence[str]) -> str:
    """The command as a user would paste it."""
    return shlex.join(["python", *command[1:]])


def write_scores(args: argparse.Namespace, label: str, rows: dict[str, dict[str, float]]) -> None:
    with whole_file(args.output / f"scores.{label}.json") as file:
        json.dump({"collection": args.collection, "encoder": args.encoder, "scores": rows}, file, indent=1)


def print_table(collection: str, rows: dict[str, dict[str, float]]) -> None:
    """The scores on stdout, one row a system."""
    width = max(map(len, [collection, *rows]))
    print(f"{collection:<{width}}  " + "  ".join(f"{metric:>8}" for metric in METRICS) + "  index bytes")
    for system, row in rows.items():
        print(f"{system:<{width}}  " + "  ".join(f"{row[metric]:8.4f}" for metric in METRICS) + f"  {row['index bytes']:>11,}")


if __name__ == "__main__":
    run(main)
