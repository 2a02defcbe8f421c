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
_MOUNTED = (errno.EBUSY, errno.EXDEV)
"""Errors of renaming to a file that is mounted by itself, as containers do."""
_MOUNTS = Path("/proc/self/mountinfo")
WORK_NAME = ".partial"
"""Ending of the folder of work in progress; its whole name in a mount point."""
_FOR_EVERYONE = 0o666
"""Mode of a lock: another user may go on after a process that was killed."""
_WAIT_FOREVER = -1
_DO_NOT_WAIT = 0
_ATTEMPTS = 100


@contextmanager
def whole_file(path: Path, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """Open a file that appears under `path` only when the block ends without an error.

    mode: `w` for UTF-8 text, `wb` for bytes. Links are followed; a device or a pipe is written to as it is.
    Raises InputError if it cannot be written (read-only folder, full disk).
    """
    real = real_path(path)
    is_stream = os.path.exists(real) and not os.path.isfile(real) and not os.path.isdir(real)
    partial = real if is_stream else real.with_name(f".{real.name}.{os.getpid()}.partial")
    text = _TEXT if mode == "w" else {}
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        with partial.open(mode, **text) as file:
            yield file
            file.flush()
            if not is_stream:
                os.fsync(file.fileno())
        if not is_stream:
            _put_file(partial, real)
    except OSError as error:
        if error.filename not in (None, str(partial), str(real.parent)):
            raise  # not about this file
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if not is_stream:
            with suppress(OSError):
                partial.unlink()


def _put_file(partial: Path, target: Path) -> None:
    try:
        partial.replace(target)
    except OSError as error:
        if error.errno not in _MOUNTED:
            raise
        shutil.copyfile(partial, target)


def real_path(path: Path) -> Path:
    """Path behind all links: absolute, or as given if there is no link in it and it ends in a name.

    Raises InputError on the root of the file system: nothing can lie beside it.
    """
    real = Path(os.path.realpath(path))
    if str(real) == os.path.abspath(path) and path.name not in ("", ".."):
        return path
    if not real.name:
        raise InputError(f"{path} is the root of the file system; wanted a file or folder in it")
    return real


def work_folder(output: Path) -> Path:
    """Folder of work in progress of an output folder, on the same file system: beside it, behind all links.

    Nothing can be renamed into a mount point from beside it, so there it lies inside.
    """
    real = real_path(output)
    if is_mount_point(real):
        return real / WORK_NAME
    return real.with_name(f"{real.name}{WORK_NAME}")


def is_mount_point(path: Path) -> bool:
    """Whether a folder is a mount point; on Linux a bind mount counts as well."""
    if not path.is_dir():
        return False
    if os.path.ismount(path):
        return True
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    real = os.path.realpath(path)
    escaped = "".join(f"\\{ord(char):03o}" if char in " \t\n\\" else char for char in real)
    return any(line.split(" ")[4:5] == [escaped] for line in mounts.splitlines())


def check_moving(work: Path, output: Path) -> None:
    """Raise InputError unless a file can be moved from the folder of work in progress to the output.

    Beside the output, where its manifest goes, a file must be possible too. For before the work: hours later
    it would be lost.
    """
    real = real_path(output)
    probe = work / f".probe-{os.getpid()}"
    beside = real.with_name(f".{real.name}{probe.name}")
    targets = [real / probe.name, beside] if real.is_dir() else [beside]
    for target in targets:
        try:
            if target is beside and is_mount_point(real):
                target.touch()
            else:
                probe.touch()
                probe.replace(target)
            target.unlink()
        except OSError as error:
            raise InputError(
                f"cannot write {output}: a file cannot be moved from {work} to {target.parent} "
                f"({error.strerror}); choose another folder"
            ) from error
        finally:
            with suppress(OSError):
                probe.unlink()


def is_empty_folder(path: Path) -> bool:
    """Whether a path is a folder that holds nothing, work in progress aside."""
    return path.is_dir() and all(child.name == WORK_NAME for child in path.iterdir())


def put_folder(source: Path, target: Path) -> None:
    """Move a finished folder to its place, where there is nothing or an empty folder.

    A mount point cannot be replaced: it gets the files, Lucene's list of segments last.
    """
    real = real_path(target)
    if not is_mount_point(real):
        source.replace(real)
        return
    for child in sorted(source.iterdir(), key=lambda child: (child.name.startswith("segments_"), child.name)):
        child.replace(real / child.name)
    source.rmdir()


@contextmanager
def whole_output(path: Path) -> Iterator[Path]:
    """Give a path to write to; it becomes `path` when the block ends without an error.

    For programs that make a file or a folder themselves. An older output under `path` is replaced, and
    what a killed process left is removed. Links are followed. Only one process may make `path` at a time
    (sole_writer).
    """
    real = real_path(path)
    is_mount = is_mount_point(real)
    partial = real / WORK_NAME if is_mount else real.with_name(f".{real.name}{WORK_NAME}")
    real.parent.mkdir(parents=True, exist_ok=True)
    remove(partial)
    try:
        yield partial
        partial.stat()  # raises before an older output is removed
        if not is_mount:
            remove(real)
        else:
            for child in real.iterdir():
                if child != partial:
                    remove(child)
        put_folder(partial, real)
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
    held = FileLock(lock, mode=_FOR_EVERYONE)
    try:
        _acquire(held, lock, wait)
    except Timeout as error:
        raise InputError(
            f"another process is writing {what} (it holds {lock}): wait for it, or stop it; "
            f"the same command then goes on"
        ) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise InputError(f"cannot write {what}: {_refusal(lock, error)}") from error
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


def _refusal(lock: Path, error: OSError) -> str:
    """Say why a lock cannot be had: the folder is another user's, or something else holds the file."""
    reason = error.strerror or str(error)
    folder = lock.parent
    if not folder.is_dir() or os.access(
        folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids
    ):
        return f"{lock}: {reason}; another process may be writing it"
    try:
        owner = folder.owner()
    except (KeyError, OSError, NotImplementedError):
        owner = "another user"
    return f"{folder} belongs to {owner}: {reason}"


def _acquire(held: FileLock, lock: Path, wait: bool) -> None:
    for left in reversed(range(_ATTEMPTS)):
        try:
            held.acquire(timeout=_WAIT_FOREVER if wait else _DO_NOT_WAIT)
            return
        except FileNotFoundError:  # a writer that has just ended removed the folder
            if not left:
                raise
        lock.parent.mkdir(parents=True, exist_ok=True)
