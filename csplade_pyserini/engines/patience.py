"""Back-off: a busy engine is asked again later; one that refuses a batch gets its halves."""

import time
from collections.abc import Callable, Sequence

from csplade_pyserini.engines.target import BatchRefusedError, Document, EngineBusyError, Failure, Target
from csplade_pyserini.errors import InputError

DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0)
"""Seconds before each new try."""


def patiently[T](call: Callable[[], T]) -> T:
    """Call an engine, and again after 429, 503 or a time-out.

    Raises InputError when patience is at its end.
    """
    for delay in DELAYS:
        try:
            return call()
        except EngineBusyError as error:
            time.sleep(max(delay, error.seconds))
        except BatchRefusedError as error:
            raise InputError(f"the engine refuses: {error}") from error
    try:
        return call()
    except EngineBusyError as error:
        raise _exhausted(error) from error


def deliver(target: Target, documents: Sequence[Document]) -> list[Failure]:
    """Write documents, however often the engine is busy; return those that it rejects for good.

    Raises InputError when patience is at its end.
    """
    rejected: list[Failure] = []
    pending = list(documents)
    tries = 0
    while pending:
        seconds = 0.0
        try:
            failures = target.write(pending)
        except BatchRefusedError as error:
            if len(pending) == 1:
                return [*rejected, Failure(pending[0], "refused", str(error), is_busy=False)]
            middle = len(pending) // 2
            return [*rejected, *deliver(target, pending[:middle]), *deliver(target, pending[middle:])]
        except EngineBusyError as error:
            reason: object = error
            seconds = error.seconds
            left = pending
        else:
            rejected += [failure for failure in failures if not failure.is_busy]
            busy = [failure for failure in failures if failure.is_busy]
            left = [failure.document for failure in busy]
            reason = busy[0].reason if busy else ""
        if len(left) < len(pending):
            tries = 0
        pending = left
        if not pending:
            break
        if tries == len(DELAYS):
            raise _exhausted(reason)
        time.sleep(max(DELAYS[tries], seconds))
        tries += 1
    return rejected


def _exhausted(reason: object) -> InputError:
    return InputError(
        f"the engine is still busy after {len(DELAYS) + 1} tries in {sum(DELAYS):.0f} s: {reason}; "
        f"the same command resumes"
    )
