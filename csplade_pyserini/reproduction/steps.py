"""Steps from a test collection's documents to a run: commands that can be pasted.

A step is done again only if its command, its encoder, its inputs or its output have changed.
"""

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from csplade_pyserini.collections.manifests import manifest_path
from csplade_pyserini.errors import CheckError
from csplade_pyserini.files.stamps import content_hash, is_made_of, write_made_of
from csplade_pyserini.files.whole import whole_output
from csplade_pyserini.lucene.stock import bm25_index_command
from csplade_pyserini.reproduction.catalogue import TestCollection, TopicSet
from csplade_pyserini.reproduction.inputs import Inputs

BM25 = "BM25"
"""Name of the system that every encoder is compared with."""
SEARCH_OPTIONS = ("--hits", "1000", "--batch-size", "32")
TAIL_LINES = 10


@dataclass(frozen=True)
class Step:
    """One command, and the file or folder that it makes."""

    name: str
    """Name in tables of times."""
    command: list[str]
    """Words of the command; one of them is the output."""
    output: Path
    reads: tuple[Path, ...]
    """Files and folders that the output is made of."""
    encoder: str = ""
    """Identity of the encoder that the command loads; empty if none."""
    atomic: bool = False
    """Whether the command itself makes its output whole or not at all."""

    @property
    def stamp(self) -> Path:
        """File that says what the output was made of."""
        return self.output.with_name(f".{self.output.name}.step.json")


@dataclass(frozen=True)
class System:
    """An encoder or BM25 on a test collection: one index, one run per set of topics."""

    name: str
    folder: Path
    build: tuple[Step, ...]
    """Steps from documents to the index, which the last one makes."""
    searches: dict[str, tuple[Step, ...]]
    """Steps from topics to a run, which the last one makes, by test collection with topics."""

    @property
    def steps(self) -> list[Step]:
        """All steps, in order."""
        steps = list(self.build)
        for search in self.searches.values():
            steps += search
        return steps

    def run(self, key: str) -> Path:
        """Path of the run file."""
        return self.searches[key][-1].output

    def queries(self, key: str) -> Path | None:
        """Path of the query file; None if the search itself encodes the queries."""
        first = self.searches[key][0]
        if first.name != "queries":
            return None
        return first.output

    @property
    def index(self) -> Path:
        """Path of the Lucene index."""
        return self.build[-1].output


def bm25_system(inputs: Inputs, folder: Path, collection: TestCollection, threads: int) -> System:
    """Make the steps of BM25, with Pyserini's defaults, over title and text as one field."""
    index = folder / "index"
    command = bm25_index_command(inputs.corpus, index, threads=threads)
    build = Step("index", command, index, reads=(inputs.corpus,))
    searches: dict[str, tuple[Step, ...]] = {}
    for topics in collection.topics:
        searches[collection.key(topics)] = (_search(inputs, topics, folder, collection, threads, "--bm25"),)
    return System(BM25, folder, (build,), searches)


def encoder_system(
    encoder: str,
    inputs: Inputs,
    folder: Path,
    collection: TestCollection,
    threads: int,
    *,
    identity: str = "",
    queries: str = "",
) -> System:
    """Make the steps of one of our encoders; identity: the encoder's, empty in a dry run.

    queries: what makes its queries; empty if its model does.

    Queries are encoded in batches, then the stock command searches with them. With Pyserini's names the stock
    command encodes them itself, by the plugin alone.
    """
    searches: dict[str, tuple[Step, ...]] = {}
    query_side = f"{identity} {queries}".strip()
    for topics in collection.topics:
        key = collection.key(topics)
        if inputs.pyserini_names:
            how = ("--encoder", encoder)
            searches[key] = (_search(inputs, topics, folder, collection, threads, *how, identity=query_side),)
            continue
        encode = _encode_queries(encoder, inputs, topics, folder, query_side)
        by_file = ("--impact", "--encoder", encode.output)
        searches[key] = (encode, _search(inputs, topics, folder, collection, threads, *by_file))
    return System(encoder, folder, _encode_and_index(encoder, inputs, folder, threads, identity), searches)


def engine_system(engine: str, ours: System, inputs: Inputs, collection: TestCollection) -> System:
    """Make the steps that run an encoder's vectors and queries on a search engine, embedded in a folder."""
    folder = ours.folder / engine
    target = folder / "target"
    vectors = ours.build[0].output
    manifest = manifest_path(target)  # engines change their files when they are opened, not this one
    export = python("csplade_pyserini.export", "--input", vectors, "--to", engine, "--output", target)
    searches: dict[str, tuple[Step, ...]] = {}
    for topics in collection.topics:
        key = collection.key(topics)
        source = inputs.topics_file(topics)
        run = folder / f"run{topics.infix}.txt"
        command = python("csplade_pyserini.retrieve", "--engine", engine, "--target", target)
        command += ["--topics", str(source), "--output", str(run), *SEARCH_OPTIONS]
        reads = [manifest, source]
        queries = ours.queries(key)
        if queries is not None:
            command += ["--encoder", str(queries)]
            reads.append(queries)
        if collection.remove_query:
            command.append("--remove-query")
        searches[key] = (Step("search", command, run, reads=tuple(reads), atomic=True),)
    build = Step("export", export, manifest, reads=(vectors,), atomic=True)
    return System(f"{ours.name} on {engine}", folder, (build,), searches)


def _encode_and_index(
    encoder: str, inputs: Inputs, folder: Path, threads: int, identity: str
) -> tuple[Step, ...]:
    corpus = inputs.corpus / "docs.jsonl"
    vectors = folder / "vectors"
    index = folder / "index"
    encode = python("csplade_pyserini.encode", "--encoder", encoder, "--corpus", corpus, "--output", vectors)
    build = python("csplade_pyserini.index", "--input", vectors, "--index", index, "--threads", threads)
    return (
        Step("encode", encode, vectors, reads=(corpus,), encoder=identity, atomic=True),
        Step("index", build, index, reads=(vectors,), atomic=True),
    )


def _encode_queries(encoder: str, inputs: Inputs, topics: TopicSet, folder: Path, identity: str) -> Step:
    source = inputs.topics_file(topics)
    output = folder / f"queries{topics.infix}.jsonl"
    command = python(
        "csplade_pyserini.encode_queries", "--encoder", encoder, "--topics", source, "--output", output
    )
    return Step("queries", command, output, reads=(source,), encoder=identity, atomic=True)


def _search(
    inputs: Inputs,
    topics: TopicSet,
    folder: Path,
    collection: TestCollection,
    threads: int,
    *how: object,
    identity: str = "",
) -> Step:
    """Make the search step; how: options that name BM25 or the encoder."""
    source = inputs.topics(topics)
    index = folder / "index"
    run = folder / f"run{topics.infix}.txt"
    command = python("pyserini.search.lucene", "--index", index, "--topics", source, "--output", run)
    command += [*map(str, how), *SEARCH_OPTIONS, "--threads", str(threads)]
    if collection.remove_query:
        command.append("--remove-query")
    files = [path for path in (source, *how) if isinstance(path, Path)]
    return Step("search", command, run, reads=(index, *files), encoder=identity)


def run_step(step: Step) -> float | None:
    """Run a step's command; return its seconds, or None if the step is done already.

    Raises CheckError if the command fails or makes no output.
    """
    print(f"$ {shown(step.command)}", file=sys.stderr)
    if _is_done(step):
        print("  done already, and unchanged", file=sys.stderr)
        return None
    if step.atomic:
        step.output.parent.mkdir(parents=True, exist_ok=True)
        seconds = _run(step, step.output)
    else:
        with whole_output(step.output) as partial:
            seconds = _run(step, partial)
    write_made_of(step.stamp, _made_of(step))
    return seconds


def _is_done(step: Step) -> bool:
    """Whether the same command has made this output of these inputs."""
    return step.stamp.is_file() and step.output.exists() and is_made_of(step.stamp, _made_of(step))


def _run(step: Step, output: Path) -> float:
    """Run the command with another output path; return its seconds."""
    command = [str(output) if word == str(step.output) else word for word in step.command]
    start = time.monotonic()
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.monotonic() - start
    if result.returncode or not output.exists():
        found = f"output {output}"
        if not output.exists():
            found = f"no {found}"
        tail = "\n".join(result.stdout.splitlines()[-TAIL_LINES:])
        raise CheckError(f"exit code {result.returncode}, {found}, of: {shown(step.command)}\n{tail}")
    return seconds


def _made_of(step: Step) -> dict[str, object]:
    """Everything that the output depends on, and the output itself, so that damage is noticed."""
    return {
        "command": shown(step.command),
        "encoder": step.encoder,
        "reads": {str(path): content_hash(path) for path in step.reads},
        "output": content_hash(step.output),
    }


def folder_name(encoder: str) -> str:
    """Turn an encoder's name into a folder's name."""
    return re.sub(r"[^\w.-]+", "_", encoder)


def python(module: str, *words: object) -> list[str]:
    """Make the command `python -m MODULE WORDS...` with this interpreter."""
    return [sys.executable, "-m", module, *map(str, words)]


def shown(command: Sequence[str]) -> str:
    """Format a command as a user would paste it."""
    return shlex.join(["python", *command[1:]])
