"""Shards of a collection: their names, what each has finished, and how whole ones become a collection.

DIR.partial holds, for each shard, a lock while it is being encoded, its progress, and its docids' hashes.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from csplade_pyserini.cards import same_encoder
from csplade_pyserini.collections.corpus import IR_DATASETS_PREFIX
from csplade_pyserini.collections.docids import refuse_repeated
from csplade_pyserini.collections.index_shards import shard_name
from csplade_pyserini.collections.manifests import (
    FILES_KEY,
    CollectionManifest,
    VectorFile,
    files_table,
    manifest_path,
    parse_files,
    read_collection_manifest,
    verify_files,
    versions,
    write_manifest,
)
from csplade_pyserini.collections.vectors import read_records
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.files.tables import parse_table, read_json
from csplade_pyserini.files.whole import whole_file, work_folder

_SHOWN = 10
"""Number of missing shards that an error lists."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Finished files of one shard, and the command that made them."""

    encoder: str
    """The encoder's identity."""
    card: dict[str, Any]
    arguments: dict[str, Any]
    """Arguments that change the output; all shards of a collection share them."""
    documents: int
    """Number of documents in the whole shard."""
    digest: str
    """Hash of the shard's docids and texts, in order."""
    files: tuple[VectorFile, ...]

    @property
    def is_whole(self) -> bool:
        """Whether all documents of the shard are encoded."""
        return sum(file.documents for file in self.files) == self.documents

    @property
    def made_with(self) -> dict[str, Any]:
        """Encoder and arguments, as a repeated command has to have them."""
        return {"encoder": self.encoder, **self.arguments}


def comparable(made_with: Mapping[str, Any], *, is_same_corpus: bool = False) -> dict[str, Any]:
    """Encoder and arguments that two commands on one output must share.

    A corpus of files may move: its size and its contents count, not its path. is_same_corpus: the contents
    were compared, all of them.
    """
    is_data_set = str(made_with.get("corpus")).startswith(IR_DATASETS_PREFIX)
    free = {"encoder_name"}  # its identity counts
    if is_same_corpus or not is_data_set:
        free.add("corpus")
    if is_same_corpus:
        free.add("corpus_size")
    return {key: value for key, value in made_with.items() if key not in free}


def partial_folder(output: Path) -> Path:
    """Folder of work in progress of a collection, as work_folder places it."""
    return work_folder(output)


def progress_file(output: Path, shard_id: int, shard_num: int) -> Path:
    """Path of a shard's progress."""
    return partial_folder(output) / f"{shard_name(shard_id, shard_num)}.json"


def lock_file(output: Path, shard_id: int, shard_num: int) -> Path:
    """Path of the lock that a shard's encoder holds."""
    return partial_folder(output) / f"{shard_name(shard_id, shard_num)}.lock"


def docids_file(output: Path, shard_id: int, shard_num: int) -> Path:
    """Path of the hashes of a shard's docids."""
    return partial_folder(output) / f"{shard_name(shard_id, shard_num)}.docids.npy"


def progress_files(output: Path) -> list[Path]:
    """Paths of all shards' progress, in order."""
    return sorted(partial_folder(output).glob("shard-*.json"))


def write_progress(progress: Progress, file: Path) -> None:
    """Write a shard's progress. Raises InputError if it cannot be written."""
    table = {
        "encoder": progress.encoder,
        "card": progress.card,
        "arguments": progress.arguments,
        "documents": progress.documents,
        "digest": progress.digest,
        FILES_KEY: files_table(progress.files),
    }
    with whole_file(file) as out:
        json.dump(table, out, indent=1)


def read_progress(file: Path) -> Progress:
    """Read a shard's progress. Raises InputError, with the cure, if it is damaged."""
    try:
        table = read_json(file)
        table["files"] = parse_files(table.pop(FILES_KEY, None), file)
        progress = parse_table(Progress, table, str(file))
    except InputError as error:
        raise InputError(f"{error}; remove {file}, and encode that shard again") from error
    if type(progress.arguments.get("shard_num")) is not int:
        raise InputError(f"{file} has no shard_num; remove it, and encode that shard again")
    return progress


def merge_shards(output: Path) -> CollectionManifest:
    """Write the manifest of a collection whose shards are all whole, by whatever processes.

    Raises InputError if there is no work in progress, if a progress file is damaged, or if a docid stands in
    two shards. Raises CheckError if shards are missing, changed or of different commands.
    """
    if manifest_path(output).is_file():
        manifest = read_collection_manifest(output)
        verify_files(output, manifest)
        return manifest
    shards = _whole_shards(output)
    first = shards[0]
    manifest = CollectionManifest(
        encoder=min((shard.encoder for shard in shards), key=len),  # what all shards are known by
        card=first.card,
        arguments=first.arguments | {"digests": [shard.digest for shard in shards]},
        versions=versions(),
        files=tuple(_files(shards)),
    )
    if not manifest.documents:
        raise InputError(f"the corpus {first.arguments.get('corpus')} is empty")
    verify_files(output, manifest)
    if len(shards) > 1:
        _refuse_repeated_docids(output, manifest, len(shards))
    write_manifest(manifest, output)
    shutil.rmtree(partial_folder(output), ignore_errors=True)
    return manifest


def missing_shards(output: Path, shard_num: int) -> list[str]:
    """Names of shards without progress, or that are not whole yet. Raises InputError on a damaged one."""
    missing = []
    for shard_id in range(shard_num):
        file = progress_file(output, shard_id, shard_num)
        if not file.is_file() or not read_progress(file).is_whole:
            missing.append(shard_name(shard_id, shard_num))
    return missing


def _whole_shards(output: Path) -> list[Progress]:
    """Progress of all shards, in order, each of them whole and all of one command."""
    files = progress_files(output)
    if not files:
        raise InputError(
            f"{output} has no manifest, and {partial_folder(output)} no shard: "
            f"wanted the output of encode with --shard-num, copied together"
        )
    found = {file: read_progress(file) for file in files}
    _refuse_different_commands(found)
    shard_num = found[files[0]].arguments["shard_num"]
    missing = missing_shards(output, shard_num)
    if missing:
        raise CheckError(
            f"{len(missing)} of {shard_num} shards of {output} are missing or not whole: "
            f"{', '.join(missing[:_SHOWN])}"
        )
    return [found[progress_file(output, shard_id, shard_num)] for shard_id in range(shard_num)]


def _refuse_different_commands(found: Mapping[Path, Progress]) -> None:
    (first_file, first), *others = found.items()
    for file, progress in others:
        for key, value in comparable(progress.made_with).items():
            wanted = first.made_with.get(key)
            is_same_encoder = key == "encoder" and same_encoder(value, first.encoder)
            if value != wanted and not is_same_encoder:
                raise CheckError(
                    f"{file} was made with {key} {value!r}, {first_file} with {wanted!r}: "
                    f"they are not of one collection"
                )


def _refuse_repeated_docids(output: Path, manifest: CollectionManifest, shard_num: int) -> None:
    hashes = [np.load(docids_file(output, shard_id, shard_num)) for shard_id in range(shard_num)]
    records = read_records(output / file.file for file in manifest.files)
    refuse_repeated(np.concatenate(hashes), lambda: ((record.docid, record.place) for record in records))


def _files(shards: Sequence[Progress]) -> Iterator[VectorFile]:
    for shard in shards:
        yield from shard.files
