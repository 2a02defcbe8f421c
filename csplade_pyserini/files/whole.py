"""Output that is whole or absent: written under another name, then renamed; and one writer at a time."""

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

from filelock import FileLock, Timeout

from csplade_pyserini.errors import InputError

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of network file systems that have no locks."""
_TEXT: dict[str, Any] = {"encoding": "utf-8", "newline": "\n"}
_WAIT_FOREVER = -1
_DO_NOT_WAIT = 0
_ATTEMPTS = 100


@contextmanager
def whole_file(path: Path, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """Open a file that appears under `path` only when the block ends without an error.

    mode: `w` for UTF-8 text, `wb` for bytes. Raises InputError if it cannot be written (read-only
    folder, full disk).
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    text = _TEXT if mode == "w" else {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open(mode, **text) as file:
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
def whole_output(path: Path) -> Iterator[Path]:
    """Give a path to write to; it becomes `path` when the block ends without an error.

    For programs that make a file or a folder themselves. An older output under `path` is replaced, and
    what a killed process left is removed. Only one process may make `path` at a time (sole_writer).
    """
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    remove(partial)
    try:
        yield partial
        partial.stat()  # raises before an older output is removed
        remove(path)
        partial.replace(path)
    finally:
        remove(partial)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it becomes `path` when the block ends without an error.

    The rules of whole_output hold.
    """
    with whole_output(path) as partial:
        partial.mkdir()
        yield partial


def remove(path: Path) -> None:
    """Remove a file or a folder with all it holds; do nothing if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def sole_writer(lock: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock file while the block runs. The lock of a killed process is free again.

    The lock's folder is made, and removed again if the block leaves it empty. `what` is the output
    that errors name. wait: wait for another writer instead of raising. Raises InputError if another
    process holds the lock, or if it cannot be written.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {what}: {error.strerror}") from error
    held = FileLock(lock)
    try:
        _acquire(held, lock, wait)
    except Timeout as error:
        raise InputError(
            f"another process is writing {what} (it holds {lock}): wait for it, or stop it; "
            f"the same command then goes on"
        ) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise InputError(
                f"cannot write {what}: {lock}: {error.strerror or error}; another process may be writing it"
            ) from error
        print(
            f"{lock.parent} cannot be locked ({error}): make sure that no other process writes {what}",
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
            lock.parent.rmdir()  # only if the block left nothing in it


def _acquire(held: FileLock, lock: Path, wait: bool) -> None:
    for left in reversed(range(_ATTEMPTS)):
        try:
            held.acquire(timeout=_WAIT_FOREVER if wait else _DO_NOT_WAIT)
            return
        except FileNotFoundError:  # a writer that has just ended removed the folder
            if not left:
                raise
        lock.parent.mkdir(parents=True, exist_ok=True)
