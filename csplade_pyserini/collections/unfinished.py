"""Collections that are not whole: work in progress, a missing manifest, shards that their names promise.

An index of one lacks documents, and nothing about the index would say so.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from csplade_pyserini.collections.index_shards import shard_name
from csplade_pyserini.collections.manifests import manifest_path, read_collection_manifest, verify_files
from csplade_pyserini.collections.shards import (
    Progress,
    partial_folder,
    progress_file,
    progress_files,
    read_progress,
)
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.notes import listed
from csplade_pyserini.files.whole import WORK_NAME

_OURS = re.compile(r"shard-(\d{4,})-of-(\d{4,})-(\d{5,})\.jsonl")
"""Name of a file that encode wrote."""
_ANY_SHARD = re.compile(r"(\d+)-of-(\d+)")
_AGAIN = "run the command that encoded it again; it goes on"


def stock_mark(collection: Path) -> Path:
    """Path of the file that says that `pyserini.encode` is filling a collection with an encoder of ours."""
    return partial_folder(collection) / "pyserini.encode.json"


def refuse_unfinished(collection: Path, *, without_manifest: bool = False, only_ours: bool = False) -> None:
    """Raise InputError, naming what is missing, if a collection is or may be only a part of one.

    without_manifest: accept files that encode wrote although their manifest is gone. only_ours: say nothing
    about collections that other programs made.
    """
    if manifest_path(collection).is_file():
        _refuse_half_written(collection)
        return
    _refuse_work_in_progress(collection)
    names = [file.name for file in collection.rglob("*") if file.is_file()]
    ours = [name for name in names if _OURS.fullmatch(name)]
    missing = _missing_by_name(ours if only_ours else names)
    if missing:
        raise InputError(
            f"{collection} is unfinished, its file names promise more: {listed(missing)} missing; "
            f"{_way_out(collection, ours)}"
        )
    if ours and not without_manifest:
        raise InputError(
            f"{collection} holds files that encode wrote, and {manifest_path(collection)} does not exist: "
            f"nobody can say whether they are all, or which encoder made them; {_way_out(collection, ours)} "
            f"(--without-manifest of csplade_pyserini.index takes them as they are)"
        )


def _way_out(collection: Path, ours: list[str]) -> str:
    if ours:
        return (
            f"copy {manifest_path(collection).name}, or {partial_folder(collection).name}, "
            f"from where they were encoded, or encode again"
        )
    return "add them, or rename the files if you want no more"


def _refuse_half_written(collection: Path) -> None:
    """Raise InputError if `pyserini.encode` began to write a whole collection again and was stopped."""
    if stock_mark(collection).is_file():
        verify_files(collection, read_collection_manifest(collection))


def _refuse_work_in_progress(collection: Path) -> None:
    for folder in {partial_folder(collection), collection / WORK_NAME}:
        if not folder.is_dir():
            continue
        if stock_mark(collection).is_file():
            raise InputError(
                f"{collection} is unfinished: pyserini.encode has not ended well there "
                f"({stock_mark(collection)}); run it again"
            )
        left = list(_unfinished_shards(collection))
        if left:
            raise InputError(f"{collection} is unfinished, {listed(left)} missing; {_AGAIN}")
        if progress_files(collection):
            raise InputError(
                f"{collection} has all its shards, but no manifest yet: "
                f"python -m csplade_pyserini.encode --merge --output {collection}"
            )
        raise InputError(f"{collection} is unfinished: its work in progress is in {folder}; {_AGAIN}")


def _unfinished_shards(collection: Path) -> Iterator[str]:
    """Documents or shards that are missing, as `75 of 259 documents of shard-0000-of-0001`."""
    found = {file: read_progress(file) for file in progress_files(collection)}
    for shard_num in {int(progress.arguments.get("shard_num", 1)) for progress in found.values()}:
        for shard_id in range(shard_num):
            progress = found.get(progress_file(collection, shard_id, shard_num))
            if progress is None:
                yield shard_name(shard_id, shard_num)
            elif not progress.is_whole:
                yield f"{_documents_left(progress)} documents of {shard_name(shard_id, shard_num)}"


def _documents_left(progress: Progress) -> str:
    done = sum(file.documents for file in progress.files)
    return f"{progress.documents - done} of {progress.documents}"


def _missing_by_name(names: Iterable[str]) -> list[str]:
    """Shards, and files of our shards, that names like `shard-0001-of-0004-00002.jsonl` promise."""
    shards: dict[tuple[str, str], set[int]] = {}
    parts: dict[str, set[int]] = {}
    for name in names:
        shard = _ANY_SHARD.search(name)
        if shard is None:
            continue
        shards.setdefault((name[: shard.start()], shard[2]), set()).add(int(shard[1]))
        if ours := _OURS.fullmatch(name):
            parts.setdefault(name[: shard.end()], set()).add(int(ours[3]))
    missing = []
    for (head, number), there in shards.items():
        first = 1 if 0 not in there and int(number) in there else 0
        width = len(number)
        wanted = set(range(first, first + int(number)))
        missing += [f"{head}{shard_id:0{width}d}-of-{number}" for shard_id in sorted(wanted - there)]
    for shard_of_ours, there in parts.items():
        missing += [f"{shard_of_ours}-{part:05d}.jsonl" for part in sorted(set(range(max(there))) - there)]
    return missing
