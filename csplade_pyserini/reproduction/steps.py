"""The commands that take a collection from its documents to a run, each of which can be pasted; done ones are not done again."""

import functools
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from csplade_pyserini.errors import CheckError
from csplade_pyserini.files.stamps import file_hash
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.lucene.stock import bm25_index_command
from csplade_pyserini.reproduction.inputs import Inputs
from csplade_pyserini.reproduction.test_collections import TestCollection, TopicSet

SEARCH_OPTIONS = ("--hits", "1000", "--batch-size", "32")
TAIL_LINES = 10


@dataclass(frozen=True)
class Step:
    """One command, and the file or folder it makes under the name its command has for it."""

    name: str
    """What it does, for tables of times."""
    command: list[str]
    output: Path
    reads: tuple[Path, ...]
    """Files and folders that it is made of."""
    encoder: str = ""
    """Identity of the encoder that it loads."""
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

    def queries(self, key: str) -> Path | None:
        """The query file, if queries are encoded apart from the search."""
        first = self.searches[key][0]
        return first.output if first.name == "queries" else None

    @property
    def index(self) -> Path:
        """The Lucene index."""
        return self.build[-1].output


def bm25_system(inputs: Inputs, folder: Path, collection: TestCollection, threads: int) -> System:
    """BM25 with Pyserini's defaults over title and text as one field."""
    index = folder / "index"
    build = Step(
        "index", bm25_index_command(inputs.corpus, index, threads=threads), index, reads=(inputs.corpus,)
    )
    searches: dict[str, tuple[Step, ...]] = {}
    for topics in collection.topics:
        searches[collection.key(topics)] = (_search(inputs, topics, folder, collection, threads, "--bm25"),)
    return System("BM25", folder, (build,), searches)


def encoder_system(
    encoder: str,
    inputs: Inputs,
    folder: Path,
    collection: TestCollection,
    threads: int,
    *,
    identity: str = "",
) -> System:
    """Our encoder, with its identity. Queries are encoded in batches, then searched by the stock command.

    By Pyserini's names, the stock command encodes them: the plugin alone.
    """
    corpus, vectors, index = inputs.corpus / "docs.jsonl", folder / "vectors", folder / "index"
    encode = python("csplade_pyserini.encode", "--encoder", encoder, "--corpus", corpus, "--output", vectors)
    build = python("csplade_pyserini.index", "--input", vectors, "--index", index, "--threads", threads)
    searches: dict[str, tuple[Step, ...]] = {}
    for topics in collection.topics:
        key, source, queries = (
            collection.key(topics),
            inputs.topics(topics),
            folder / f"queries{topics.infix}.jsonl",
        )
        if isinstance(source, str):
            searches[key] = (
                _search(inputs, topics, folder, collection, threads, "--encoder", encoder, identity=identity),
            )
            continue
        command = python(
            "csplade_pyserini.encode_queries", "--encoder", encoder, "--topics", source, "--output", queries
        )
        searches[key] = (
            Step("queries", command, queries, reads=(source,), encoder=identity, atomic=True),
            _search(inputs, topics, folder, collection, threads, "--impact", "--encoder", queries),
        )
    steps = (
        Step("encode", encode, vectors, reads=(corpus,), encoder=identity, atomic=True),
        Step("index", build, index, reads=(vectors,), atomic=True),
    )
    return System(encoder, folder, steps, searches)


def _search(
    inputs: Inputs,
    topics: TopicSet,
    folder: Path,
    collection: TestCollection,
    threads: int,
    *how: object,
    identity: str = "",
) -> Step:
    source, index, run = inputs.topics(topics), folder / "index", folder / f"run{topics.infix}.txt"
    remove = ["--remove-query"] if collection.remove_query else []
    command = python(
        "pyserini.search.lucene", "--index", index, "--topics", source, "--output", run,
        *how, *SEARCH_OPTIONS, "--threads", threads, *remove,
    )  # fmt: skip
    return Step(
        "search",
        command,
        run,
        reads=(index, *(path for path in (source, *how) if isinstance(path, Path))),
        encoder=identity,
    )


def run_step(step: Step) -> float | None:
    """Run a command, and return its seconds; None where the same one has made the output that is there, of the inputs that are there.

    Raises CheckError where it fails, or makes no output.
    """
    print(f"$ {shown(step.command)}", file=sys.stderr)
    stamp = step.output.with_name(f".{step.output.name}.step.json")
    if (
        stamp.is_file()
        and step.output.exists()
        and json.loads(stamp.read_text(encoding="utf-8")) == _made(step)
    ):
        print("  done already, and as it was", file=sys.stderr)
        return None
    step.output.parent.mkdir(parents=True, exist_ok=True)
    made = step.output if step.atomic else step.output.with_name(f"{step.output.name}.partial")
    command = [str(made) if word == str(step.output) else word for word in step.command]
    if not step.atomic:
        _remove(made)  # of a run that was killed
    start = time.monotonic()
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.monotonic() - start
    if result.returncode or not made.exists():
        tail = "\n".join(result.stdout.splitlines()[-TAIL_LINES:])
        raise CheckError(
            f"exit code {result.returncode}, {'no ' if not made.exists() else ''}output {made}, of: {shown(step.command)}\n{tail}"
        )
    if not step.atomic:
        _remove(step.output)
        made.replace(step.output)
    with whole_file(stamp) as file:
        json.dump(_made(step), file, indent=1)
    return seconds


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _made(step: Step) -> dict[str, object]:
    """What a step's output is the result of, and the output itself."""
    return {
        "command": shown(step.command),
        "encoder": step.encoder,
        "reads": {str(path): _content_hash(path) for path in step.reads},
        "output": _content_hash(step.output),
    }


def _content_hash(path: Path) -> str:
    """SHA-256 of a file, or of the names and hashes of all files of a folder."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return _hash_of_files(
        path, tuple((file, stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()])
    )


@functools.cache
def _hash_of_files(path: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    """What one step makes, others read: files of the same size and time are read once in a process."""
    if path.is_file():
        return file_hash(path)
    return hashlib.sha256(
        "".join(f"{file.relative_to(path)} {file_hash(file)}\n" for file, _, _ in files).encode()
    ).hexdigest()


def folder_name(encoder: str) -> str:
    """An encoder's name as a folder's."""
    return re.sub(r"[^\w.-]+", "_", encoder)


def python(module: str, *words: object) -> list[str]:
    """`python -m MODULE WORDS...` with this interpreter."""
    return [sys.executable, "-m", module, *map(str, words)]


def shown(command: Sequence[str]) -> str:
    """The command as a user would paste it."""
    return shlex.join(["python", *command[1:]])
