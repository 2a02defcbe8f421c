"""The commands that take a collection from its documents to a run, each of which can be pasted; done ones are not done again."""

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from csplade_pyserini.collections.files import whole_file
from csplade_pyserini.errors import CheckError
from csplade_pyserini.lucene.stock import bm25_index_command
from csplade_pyserini.reproduction.collections import TestCollection, TopicSet
from csplade_pyserini.reproduction.inputs import Inputs

SEARCH_OPTIONS = ("--hits", "1000", "--batch-size", "32")
TAIL_LINES = 10


@dataclass(frozen=True)
class Step:
    """One command, and the file or folder it makes under the name its command has for it."""

    name: str
    """What it does, for tables of times."""
    command: list[str]
    output: Path
    atomic: bool = False
    """Whether the command itself puts its output there whole; else it works under another name first."""


@dataclass(frozen=True)
class System:
    """An encoder, or BM25, on a collection: an index, and a run for each set of topics."""

    name: str
    folder: Path
    build: tuple[Step, ...]
    """From documents to the index, which the last one makes."""
    searches: dict[str, tuple[Step, ...]]
    """From topics to a run, which the last one makes, by the key of collection and topics."""

    @property
    def steps(self) -> list[Step]:
        """All of them, in order."""
        return [*self.build, *(step for steps in self.searches.values() for step in steps)]

    def run(self, key: str) -> Path:
        """The run file."""
        return self.searches[key][-1].output

    @property
    def index(self) -> Path:
        """The Lucene index."""
        return self.build[-1].output


def bm25_system(inputs: Inputs, folder: Path, collection: TestCollection, threads: int) -> System:
    """BM25 with Pyserini's defaults over title and text as one field."""
    index = Step("index", bm25_index_command(inputs.corpus, folder / "index", threads=threads), folder / "index")
    searches = {
        collection.key(topics): (_search(inputs, topics, folder, collection, threads, "--bm25"),) for topics in collection.topics
    }  # fmt: skip
    return System("BM25", folder, (index,), searches)


def encoder_system(encoder: str, inputs: Inputs, folder: Path, collection: TestCollection, threads: int) -> System:
    """Our encoder: queries are encoded in batches, then searched by the stock command."""
    vectors, index = folder / "vectors", folder / "index"
    encode = python("csplade_pyserini.encode", "--encoder", encoder, "--corpus", inputs.corpus / "docs.jsonl", "--output", vectors)
    build = python("csplade_pyserini.index", "--input", vectors, "--index", index, "--threads", threads)
    searches = {}
    for topics in collection.topics:
        queries = folder / f"queries{topics.infix}.jsonl"
        command = python("csplade_pyserini.encode_queries", "--encoder", encoder, "--topics", inputs.topics(topics), "--output", queries)
        searches[collection.key(topics)] = (
            Step("queries", command, queries, atomic=True),
            _search(inputs, topics, folder, collection, threads, "--impact", "--encoder", queries),
        )
    return System(encoder, folder, (Step("encode", encode, vectors, atomic=True), Step("index", build, index, atomic=True)), searches)


def _search(inputs: Inputs, topics: TopicSet, folder: Path, collection: TestCollection, threads: int, *how: object) -> Step:
    run = folder / f"run{topics.infix}.txt"
    remove = ["--remove-query"] if collection.remove_query else []
    command = python(
        "pyserini.search.lucene", "--index", folder / "index", "--topics", inputs.topics(topics), "--output", run,
        *how, *SEARCH_OPTIONS, "--threads", threads, *remove,
    )  # fmt: skip
    return Step("search", command, run)


def run_step(step: Step) -> float | None:
    """Run a command, and return its seconds; None where the same command has already made its output.

    Raises CheckError where it fails, or makes no output.
    """
    print(f"$ {shown(step.command)}", file=sys.stderr)
    stamp = step.output.with_name(f".{step.output.name}.command")
    if step.output.exists() and stamp.is_file() and stamp.read_text(encoding="utf-8") == shown(step.command):
        print("  done already", file=sys.stderr)
        return None
    step.output.parent.mkdir(parents=True, exist_ok=True)
    made = step.output if step.atomic else step.output.with_name(f"{step.output.name}.partial")
    command = [str(made) if word == str(step.output) else word for word in step.command]
    start = time.monotonic()
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode or not made.exists():
        tail = "\n".join(result.stdout.splitlines()[-TAIL_LINES:])
        raise CheckError(
            f"exit code {result.returncode}, {'no ' if not made.exists() else ''}output {made}, of: {shown(step.command)}\n{tail}"
        )
    if not step.atomic:
        made.replace(step.output)
    with whole_file(stamp) as file:
        file.write(shown(step.command))
    return time.monotonic() - start


def python(module: str, *words: object) -> list[str]:
    """`python -m MODULE WORDS...` with this interpreter."""
    return [sys.executable, "-m", module, *map(str, words)]


def shown(command: Sequence[str]) -> str:
    """The command as a user would paste it."""
    return shlex.join(["python", *command[1:]])
