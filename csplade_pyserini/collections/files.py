"""Whole files or none: written under another name, synced, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from csplade_pyserini.errors import InputError


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
