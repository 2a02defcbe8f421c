"""Processes that index, each with a JVM of its own: how they start, and what their sudden end means."""

import multiprocessing
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.lucene.java import OPTION_VARIABLES
from csplade_pyserini.lucene.workers import start_worker

_GUARD = 'if __name__ == "__main__":'


_BRIEF = ("-XX:TieredStopAtLevel=1",)
"""Options of a JVM that ends before Java's slower compiler would have paid for itself."""
_ONE_THREAD = ("-XX:+UseSerialGC",)
"""Options of a JVM that works in one thread."""
_OWN_COLLECTOR = re.compile(r"-XX:\+Use\w+GC\b")


@contextmanager
def workers(
    number: int, counter: "Synchronized[int] | None" = None, *, brief: bool = False
) -> Iterator[ProcessPoolExecutor]:
    """Start processes; never forked, since a JVM does not survive that.

    brief: each has less than half a minute of work. Raises CheckError if one of them dies.
    """
    context = multiprocessing.get_context("spawn")
    arguments = (counter, java_options(brief=brief))
    try:
        with ProcessPoolExecutor(number, context, initializer=start_worker, initargs=arguments) as pool:
            yield pool
    except BrokenProcessPool as error:
        raise CheckError(
            "a worker process died, perhaps for lack of memory: run again to go on, with fewer --threads"
        ) from error


def java_options(*, brief: bool) -> tuple[str, ...]:
    """Return the options of a worker's JVM. A garbage collector that the user chose stays: Java takes one."""
    options: tuple[str, ...] = _BRIEF if brief else ()
    chosen = " ".join(os.environ.get(name, "") for name in OPTION_VARIABLES)
    if not _OWN_COLLECTOR.search(chosen):
        options += _ONE_THREAD
    return options


def refuse_unguarded_script() -> None:
    """Raise InputError in a script whose call every new process would repeat, and end such a process.

    A process that is started runs the main script again, as a module of another name.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(f"error: a script that indexes has to do so under '{_GUARD}': new processes run it again")
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None or not Path(script).is_file():
        return  # an interactive session, or -c
    if b"__main__" not in Path(script).read_bytes():
        raise InputError(
            f"the script {script} has no '{_GUARD}': the processes that index run it again when they start; "
            f"put its call under that line"
        )
