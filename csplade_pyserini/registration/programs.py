"""The program that `python -m` runs, and how it tells its user of our errors."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from csplade_pyserini.errors import InputError

_PACKAGES = ("pyserini", "csplade_pyserini")
_OPTIONS_WITH_VALUES = ("-X", "-W", "--check-hash-based-pycs")


def program() -> str:
    """Module that `python -m` runs; empty if it runs none."""
    words = iter(sys.orig_argv[1:])
    for word in words:
        flags = re.fullmatch(r"-[bBdEiIOPqRsSuvx]*m(.*)", word)
        if flags:
            return flags[1] or next(words, "")
        if word in _OPTIONS_WITH_VALUES:
            next(words, None)  # the value is a word of its own
        elif not word.startswith("-") or word == "-c":
            return ""
    return ""


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn an InputError into one sentence and exit 2 on a command line of Pyserini's or ours."""
    try:
        yield
    except InputError as error:
        package, _, _ = program().partition(".")
        is_server = program().startswith("pyserini.server")  # it answers its client, and goes on
        if package not in _PACKAGES or is_server:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def say(sentence: str) -> None:
    """Print a sentence of ours on stderr, amid the output of another program."""
    print(f"csplade_pyserini: {sentence}", file=sys.stderr)
