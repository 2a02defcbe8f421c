"""SHA-256 of large files, computed once: $CSPLADE_HOME/hashes keeps it by size and times of each file."""

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.stamps import file_hash, read_stamp, write_stamp

CACHED_FROM = 2**20
"""Bytes of the smallest file whose hash is kept: a smaller one is hashed faster than its record is read."""
_SETTLED_SECONDS = 2.0
"""Age from which a file's time tells it from a later one: clocks of file systems tick that slowly."""
_KEY = "sha256"


def cached_hash(path: Path, home: Path | None) -> str:
    """SHA-256 of a file, from `home` if its size and times have not changed since it was computed.

    The times are those of the last change of its content and of its entry, so that a file put in its place
    with an old time is noticed. Raises OSError if the file cannot be read.
    """
    status = path.stat()
    if home is None or status.st_size < CACHED_FROM:
        return file_hash(path)
    identity = _identity(path, status)
    record = home / "hashes" / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]}.json"
    known = read_stamp(record, identity).get(_KEY)
    if isinstance(known, str):
        return known
    is_settled = time.time() - max(status.st_mtime, status.st_ctime) > _SETTLED_SECONDS
    found = file_hash(path)
    if is_settled and _identity(path, path.stat()) == identity:
        _keep(record, identity, found)
    return found


def _identity(path: Path, status: os.stat_result) -> dict[str, str | int]:
    return {
        "path": str(path.resolve()),
        "size": status.st_size,
        "modified": status.st_mtime_ns,
        "changed": status.st_ctime_ns,
        "inode": status.st_ino,
    }


def _keep(record: Path, identity: Mapping[str, str | int], found: str) -> None:
    try:
        write_stamp(record, identity, **{_KEY: found})
    except (InputError, OSError):  # a home that cannot be written costs the time of the hash, no more
        return
