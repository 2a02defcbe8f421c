"""Pyserini's command-line programs: which one is at work, and how it tells its user of our errors.

A program is known by its code, which is the same however it was launched: `python -m`, runpy, a profiler, a
debugger, IPython.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from csplade_pyserini.errors import InputError

_FILE = re.compile(r"(?:.*[/\\])?(pyserini(?:[/\\]\w+)+)\.py")
"""File of a module of Pyserini's, in a folder or in a zip file."""


def program_of(frame: FrameType) -> str:
    """Name, as `python -m` takes it, of the module of Pyserini's that a frame runs; empty if it runs none."""
    file = _FILE.fullmatch(frame.f_code.co_filename)
    if file is None:
        return ""
    return re.sub(r"[/\\]", ".", file[1]).removesuffix(".__main__")


def running_program() -> str:
    """Name of Pyserini's program that called us, however deep; empty if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__")
        name = ""
        if module == "__main__":
            name = program_of(frame)
        elif module == "runpy":  # it imports a program's packages before it runs the program
            name = str(frame.f_locals.get("mod_name"))
        if name.startswith("pyserini."):
            return name
        frame = frame.f_back
    return ""


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn an InputError into one sentence and exit 2 in a command of Pyserini's.

    Its servers answer their client instead, and go on. Our own verbs print the sentence themselves.
    """
    try:
        yield
    except InputError as error:
        program = running_program()
        if not program or program.startswith("pyserini.server"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def say(sentence: str) -> None:
    """Print a sentence of ours on stderr, amid the output of another program."""
    print(f"csplade_pyserini: {sentence}", file=sys.stderr)
