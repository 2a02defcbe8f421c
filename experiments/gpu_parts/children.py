"""Functions in processes of their own: a crash, an out-of-memory or a hang costs one measurement.

Children are forked, so that torch and transformers are imported once. That is safe only while the
parent has not used CUDA: whoever calls `forked` or `call` must leave the device to its children.
Where a library used it on import, CSPLADE_GPU_START_METHOD=spawn in the environment starts new
interpreters instead.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

START_METHOD = "CSPLADE_GPU_START_METHOD"
"""Environment variable, since the children of children follow it too."""
PATIENCE = 5.0
"""Seconds that processes get to end after a signal."""
Send = Callable[[Any], None]


class ChildError(Exception):
    """A child that raised, died or took too long. The text says which."""


def call(function: Callable[..., Any], *args: Any, seconds: float = 3600) -> Any:
    """Return what `function(*args)` returns in a process of its own. Raises ChildError."""
    answers = list(forked(_answer, function, args, seconds=seconds))
    return answers[-1]


def forked(
    function: Callable[..., None], *args: Any, seconds: float, log: Path | None = None
) -> Iterator[Any]:
    """Yield what `function(send, *args)` sends from a process of its own, as it comes. Raises ChildError.

    log: file for what the child prints. Such a child leads a process group, and its own children end with it.
    """
    context: Any = multiprocessing.get_context(os.environ.get(START_METHOD, "fork"))
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, function, args, log))
    process.start()
    sender.close()
    deadline = time.monotonic() + seconds
    try:
        yield from _messages(receiver, process, deadline, seconds)
    finally:
        _stop(process, group=log is not None)


def _answer(send: Send, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    send(function(*args))


def _messages(receiver: Any, process: Any, deadline: float, seconds: float) -> Iterator[Any]:
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise ChildError(f"stopped after {seconds:.0f} s, its time limit")
        multiprocessing.connection.wait([receiver, process.sentinel], timeout=left)
        if not receiver.poll():
            if process.is_alive():
                continue
            raise ChildError(_how_it_ended(process))
        try:
            kind, value = receiver.recv()
        except EOFError:
            process.join(10)
            raise ChildError(_how_it_ended(process)) from None
        if kind == "error":
            raise ChildError(value)
        if kind == "end":
            return
        yield value


def _child(sender: Any, function: Callable[..., None], args: tuple[Any, ...], log: Path | None) -> None:
    """Run the function; send what it sends, then how it ended."""
    if log is not None:
        os.setsid()
        _print_to(log)
    # A spawned process would spawn the workers of its data loaders too, and each took 30 seconds to import.
    multiprocessing.set_start_method("fork", force=True)
    try:
        function(lambda value: sender.send(("value", value)), *args)
        sender.send(("end", None))
    except BaseException:
        sender.send(("error", traceback.format_exc()))


def _print_to(log: Path) -> None:
    """Send stdout and stderr of this process and its children to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _stop(process: Any, *, group: bool) -> None:
    """End the process; with `group` its children too. A launcher gets time to end its workers."""
    if group:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, sign)
            process.join(PATIENCE)
            _wait_for_group(process.pid)
    if process.is_alive():
        process.kill()
    process.join()


def _wait_for_group(leader: int) -> None:
    """Until a process group is empty, but not for long."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            os.killpg(leader, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.1)


def _how_it_ended(process: Any) -> str:
    code = process.exitcode
    if code is not None and code < 0:
        return f"ended by signal {signal.Signals(-code).name}"
    return f"ended with exit code {code} and no answer"
