"""Whole files or none: written under another name, synced, then renamed; and one writer at a time."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from csplade_pyserini.errors import InputError

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""What some network file systems say."""


@contextmanager
def whole_file(path: Path) -> Iterator[IO[str]]:
    """A text file to write that appears under `path` only when the block ends without an error.

    Raises InputError where it cannot be written (read-only folder, full disk).
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        if error.filename not in (None, str(partial), str(path.parent)):
            raise  # not about this file
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


@contextmanager
def sole_writer(lock: Path, what: str) -> Iterator[None]:
    """Hold a lock file, and its folder, while the block runs; the lock of a killed process is free again.

    Raises InputError where another process holds it, or where it cannot be written.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {what}: {error.strerror}") from error
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"another process is writing {what} (it holds {lock}): wait for it, or stop it; the same command then goes on"
        ) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise InputError(
                f"cannot write {what}: {lock}: {error.strerror or error}; another process may be writing it"
            ) from error
        print(
            f"{lock.parent} cannot be locked ({error}): see to it that no other process writes {what}",
            file=sys.stderr,
        )
    try:
        yield
    finally:
        if held.is_locked:
            with suppress(OSError):
                lock.unlink()
        held.release()
        with suppress(OSError):
            lock.parent.rmdir()  # where the block left nothing in it
