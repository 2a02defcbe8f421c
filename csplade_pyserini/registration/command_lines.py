"""Command lines of Pyserini's `python -m` programs, completed for encoders of ours.

The programs read sys.argv after the package `pyserini` has loaded. Their own defaults would lose data.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from csplade_pyserini.cards import is_ours
from csplade_pyserini.collections.manifests import manifest_path
from csplade_pyserini.collections.unfinished import refuse_unfinished
from csplade_pyserini.registration import manifests
from csplade_pyserini.registration.patches import after_loading
from csplade_pyserini.registration.programs import program, say

_named_ours: list[str] = []
"""Encoders of ours on this process's command line."""


def names_ours() -> bool:
    """Whether the command line of this process names an encoder of ours."""
    return bool(_named_ours)


def is_our_query_file(name: str) -> bool:
    """Whether a name is a query file that `encode_queries` wrote."""
    return name.endswith(".jsonl") and manifest_path(Path(name)).is_file()


@after_loading("pyserini")
def adapt_command_line(_: ModuleType) -> None:
    """Complete the arguments of the program that runs, and plan the manifest of what it makes."""
    adapt = _ADAPTATIONS.get(program())
    if adapt is not None:
        adapt()


def _adapt_search() -> None:
    sys.argv[1:] = imply_impact(sys.argv[1:])


def _adapt_encode_query() -> None:
    sys.argv[1:] = keep_impacts(sys.argv[1:])


def _adapt_encode() -> None:
    encoder = _option(sys.argv, "--encoder")
    folder = _option(sys.argv, "--embeddings")
    if encoder and folder and is_ours(encoder) and "--to-faiss" not in sys.argv:
        manifests.stamp_collection_at_exit(encoder, Path(folder))


def _adapt_index() -> None:
    words = [word.removeprefix("-") if word.startswith("--") else word for word in sys.argv]
    collection = _option(words, "-input")
    index = _option(words, "-index")
    if collection and index:
        refuse_unfinished(Path(collection), only_ours=True)
        manifests.stamp_at_exit(Path(index), lambda: manifests.stamp_index(Path(collection), Path(index)))


def imply_impact(argv: list[str]) -> list[str]:
    """Add `--impact` behind an encoder of ours: without it stock Pyserini would run BM25 and not say so."""
    for position, name in _options(argv, "--encoder"):  # hybrid search has a dense encoder as well
        if is_ours(name) or is_our_query_file(name):
            _named_ours.append(name)
            return _with_impact(argv, position, name)
    return argv


def _with_impact(argv: list[str], position: int, name: str) -> list[str]:
    if "--impact" in argv or "--dense" in argv:
        return argv
    say(f"--encoder {name} implies --impact")
    return [*argv[: position + 1], "--impact", *argv[position + 1 :]]


def keep_impacts(argv: list[str]) -> list[str]:
    """Add `--weight-range 1 --quant-range 1`: vectors are impacts, which a second quantizing would spoil."""
    name = _option(argv, "--encoder")
    if not name or not is_ours(name):
        return argv
    _named_ours.append(name)
    for option in ("--weight-range", "--quant-range"):
        value = _option(argv, option)
        if value not in (None, "1"):
            say(f"{option} {value} is replaced by 1: vectors of {name} are impacts already")
    # argparse takes the last value of a repeated option.
    return [*argv, "--weight-range", "1", "--quant-range", "1"]


def _options(argv: list[str], name: str) -> Iterator[tuple[int, str]]:
    """Values of an option, each with its last position in argv: for `--x v` and for `--x=v`."""
    for position, word in enumerate(argv):
        if word == name and position + 1 < len(argv):
            yield position + 1, argv[position + 1]
        elif word.startswith(f"{name}="):
            yield position, word.removeprefix(f"{name}=")


def _option(argv: list[str], name: str) -> str | None:
    """First value of an option; None if it is not given."""
    for _, value in _options(argv, name):
        return value
    return None


_ADAPTATIONS = {
    "pyserini.search.lucene": _adapt_search,
    "pyserini.search.hybrid": _adapt_search,
    "pyserini.encode.query": _adapt_encode_query,
    "pyserini.encode": _adapt_encode,
    "pyserini.index.lucene": _adapt_index,
}
"""Adaptation of each program."""
