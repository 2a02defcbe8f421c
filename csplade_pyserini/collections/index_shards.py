"""Shards of a Lucene index: its documents, split by docid into several Lucene indexes in one folder.

INDEX/shard-0000-of-0004   a Lucene index of its own, and three more beside it
"""

import hashlib
import re
from pathlib import Path

from csplade_pyserini.errors import InputError

MOST_SHARDS = 256
"""Number of shards at most: each is open at once when a part of the collection is indexed."""
_NAME = re.compile(r"shard-(\d{4,})-of-(\d{4,})")


def shard_name(shard_id: int, shard_num: int) -> str:
    """Name of a shard, of a collection or of an index; names of its files begin with it."""
    return f"shard-{shard_id:04d}-of-{shard_num:04d}"


def shard_of(docid: str, shard_num: int) -> int:
    """Number of a document's shard, from 0, by SHA-256 of its docid."""
    return int.from_bytes(hashlib.sha256(docid.encode()).digest()) % shard_num


def folders_to_write(index: Path, shard_num: int) -> list[Path]:
    """Folders of the Lucene indexes that make up an index of that many shards; one shard is the index."""
    if shard_num == 1:
        return [index]
    return [index / shard_name(number, shard_num) for number in range(shard_num)]


def index_folders(index: Path) -> list[Path]:
    """Folders of the Lucene indexes that make up an index: the folder itself, or its shards in order.

    Raises InputError that names a missing shard, or shards of two indexes.
    """
    if not index.is_dir() or any(index.glob("segments_*")):
        return [index]
    found = [match for child in index.iterdir() if (match := _NAME.fullmatch(child.name)) and child.is_dir()]
    if not found:
        return [index]
    totals = sorted({int(match[2]) for match in found})
    folders = folders_to_write(index, totals[-1])
    if len(totals) > 1:
        foreign = sorted(match[0] for match in found if int(match[2]) != totals[-1])
        raise InputError(
            f"{index} holds shards of {' and of '.join(map(str, totals))}: of which index are "
            f"{', '.join(foreign)}? Remove the shards of the other one"
        )
    names = {match[0] for match in found}
    missing = [folder.name for folder in folders if folder.name not in names]
    if missing:
        raise InputError(
            f"{index} lacks {', '.join(missing)} of its {totals[-1]} shards: "
            f"put it back, or remove {index} and index again"
        )
    return folders
