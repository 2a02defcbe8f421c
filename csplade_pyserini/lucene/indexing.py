"""A collection directory to a Lucene impact index, with the documents counted on every side.

Processes index parts of the collection in INDEX.partial, where a stopped build finds finished parts again.
Then the parts are merged, counted against the records read and the manifest, and only then renamed.
"""

import dataclasses
import functools
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from csplade_pyserini.collections.docids import refuse_repeated
from csplade_pyserini.collections.index_shards import MOST_SHARDS, folders_to_write, index_folders
from csplade_pyserini.collections.manifests import (
    CollectionManifest,
    IndexManifest,
    IndexShard,
    index_commit,
    manifest_hash,
    manifest_path,
    read_collection_manifest,
    read_index_manifest,
    refuse_changed,
    verify_files,
    versions,
    write_manifest,
)
from csplade_pyserini.collections.unfinished import refuse_unfinished
from csplade_pyserini.collections.vectors import collection_files, read_record
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.files.stamps import is_made_of, json_hash, write_made_of
from csplade_pyserini.files.whole import (
    check_moving,
    is_empty_folder,
    put_folder,
    remove,
    sole_writer,
    work_folder,
)
from csplade_pyserini.lucene import postings
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.lucene.makers import commit_table, shard_table
from csplade_pyserini.lucene.parts import collection_lines, plan_parts
from csplade_pyserini.lucene.processes import refuse_unguarded_script, workers
from csplade_pyserini.lucene.stock import build_stock_index, missing_documents, size_in_bytes
from csplade_pyserini.lucene.workers import PartCounts, beside, counts_of, index_part

BRIEF_BYTES = 100_000_000
"""Size of a process's share of a collection, up to which Java compiles in a hurry."""


@dataclass(frozen=True, kw_only=True)
class IndexJob:
    """Work of one `index` command."""

    collection: Path
    index: Path
    threads: int = 2
    shards: int = 1
    """Number of Lucene indexes that documents are split into, by docid."""
    optimize: bool = True
    store_raw: bool = False
    stock: bool = False
    """Let Pyserini's own command build the index, from repeated words."""
    without_manifest: bool = False
    """Take files that encode wrote as they are although their manifest is gone."""

    @property
    def partial(self) -> Path:
        """Folder of work in progress."""
        return work_folder(self.index)

    @property
    def built(self) -> Path:
        """The index before it is checked and renamed."""
        return self.partial / "index"

    @property
    def lock(self) -> Path:
        """Lock of the process that works in the folder."""
        return self.partial / "lock"


def build_index(job: IndexJob) -> IndexManifest:
    """Index a collection directory and return what the index holds.

    Raises InputError if the collection is unfinished, a record is broken, a docid stands twice or the index
    path is taken, and if Pyserini's own command is asked for shards. Raises CheckError if the collection has
    changed since it was made, or if the index lacks anything of it.
    """
    refuse_unguarded_script()
    _check_shards(job)
    refuse_unfinished(job.collection, without_manifest=job.without_manifest)
    manifest = None
    if manifest_path(job.collection).is_file():
        manifest = read_collection_manifest(job.collection)
        verify_files(job.collection, manifest)
    identity = collection_identity(job.collection)
    if _is_taken(job.index):
        return _already_built(job, identity)
    prepare_java()
    with sole_writer(job.lock, str(job.index)):
        if _is_taken(job.index):  # another process has built it meanwhile
            return _already_built(job, identity)
        check_moving(job.partial, job.index)
        if manifest is None:
            print(
                f"{job.collection} has no manifest: its encoder is unknown, "
                f"so any encoder may search {job.index}",
                file=sys.stderr,
            )
        return _build(job, identity, manifest)


def _check_shards(job: IndexJob) -> None:
    if not 1 <= job.shards <= MOST_SHARDS:
        raise InputError(f"--shards is {job.shards}; wanted 1 to {MOST_SHARDS}")
    if job.stock and job.shards > 1:
        raise InputError(f"--stock builds one index; --shards is {job.shards}: leave out one of the two")


def _is_taken(index: Path) -> bool:
    """Whether there is something at the place of an index; an empty folder is nothing."""
    return index.exists() and not is_empty_folder(index)


def collection_identity(collection: Path) -> str:
    """SHA-256 of a collection's manifest; without one, of its files' names, sizes and times.

    Raises InputError if there are no files.
    """
    if manifest_path(collection).is_file():
        return manifest_hash(collection)
    described = []
    for file in collection_files(collection):
        status = file.stat()
        described.append((str(file.relative_to(collection)), status.st_size, status.st_mtime_ns))
    return json_hash(described)


def _already_built(job: IndexJob, identity: str) -> IndexManifest:
    if job.index.is_dir() and manifest_path(job.index).is_file():
        built = read_index_manifest(job.index)
        shards = len(built.shards) or 1
        if built.collection == identity and shards != job.shards:
            raise InputError(
                f"{job.index} exists and has {shards} shards, --shards is {job.shards}: "
                f"choose another --index, or remove it"
            )
        if built.collection == identity:
            refuse_changed(job.index)
            print(f"{job.index} is whole already: {built.documents} documents", file=sys.stderr)
            return built
    raise InputError(
        f"{job.index} exists and is not the index of {job.collection}: choose another --index, or remove it"
    )


def _build(job: IndexJob, identity: str, manifest: CollectionManifest | None) -> IndexManifest:
    start = time.monotonic()
    if job.stock:
        shards = [_stock(job, manifest)]
    else:
        shards = _from_postings(job, identity, manifest)
    counts = postings.IndexCounts.total(shards)
    encoder = name = query_encoder = ""
    if manifest:
        encoder = manifest.encoder
        name = manifest.encoder_name
        query_encoder = manifest.query_encoder
        _check_counts(job, counts, manifest)
    built = IndexManifest(
        encoder=encoder,
        encoder_name=name,
        collection=identity,
        documents=counts.documents,
        postings=counts.postings,
        terms=counts.terms,
        impacts=counts.impacts,
        bytes=size_in_bytes(job.built),
        commit=index_commit(job.built),
        query_encoder=query_encoder,
        shards=_described(job, shards),
        seconds=round(time.monotonic() - start, 1),
        versions=versions(),
    )
    write_manifest(built, job.index)  # manifest first: an orphan manifest is harmless
    put_folder(job.built, job.index)
    _clear(job)
    return built


def _described(job: IndexJob, counts: Sequence[postings.IndexCounts]) -> tuple[IndexShard, ...]:
    """Describe each shard for the manifest; nothing if the index is one Lucene index."""
    if job.shards == 1:
        return ()
    return tuple(
        IndexShard(
            folder=folder.name,
            documents=shard.documents,
            postings=shard.postings,
            terms=shard.terms,
            impacts=shard.impacts,
            bytes=size_in_bytes(folder),
            commit=index_commit(folder),
        )
        for folder, shard in zip(index_folders(job.built), counts, strict=True)
    )


def _clear(job: IndexJob) -> None:
    """Remove everything in the folder of work in progress, except its lock."""
    for path in job.partial.iterdir():
        if path != job.lock:
            remove(path)


def _stock(job: IndexJob, manifest: CollectionManifest | None) -> postings.IndexCounts:
    _clear(job)
    build_stock_index(
        job.collection, job.built, threads=job.threads, optimize=job.optimize, store_raw=job.store_raw
    )
    records = sum(1 for _ in collection_lines(job.collection))
    with workers(1, brief=True) as pool:
        pool.submit(postings.store_table, job.built, commit_table(manifest)).result()
        counts = pool.submit(postings.count_index, job.built).result()
    if counts.documents != records:
        raise CheckError(
            f"Pyserini's index has {counts.documents} documents, the collection {records} lines; "
            f"{missing_documents(job.collection, job.built)}"
        )
    return counts


def _from_postings(
    job: IndexJob, identity: str, manifest: CollectionManifest | None
) -> list[postings.IndexCounts]:
    """Build the index, and return the counts of each shard."""
    parts = plan_parts(collection_files(job.collection))
    plan = {
        "collection": identity,
        "store_raw": job.store_raw,
        "parts": len(parts),
        "shards": job.shards,
    }
    _keep_or_clear(job, plan)
    folders = [job.partial / f"part-{number:05d}" for number in range(len(parts))]
    done = [folder for folder in folders if folder.is_dir()]
    if done:
        print(f"{len(done)} of {len(parts)} parts are indexed already", file=sys.stderr)
    counter = multiprocessing.get_context("spawn").Value("q", 0)
    size = sum(part.end - part.start for part in parts)
    number = min(job.threads, max(len(parts), job.shards))
    with workers(number, counter, brief=size < BRIEF_BYTES * number) as pool:
        futures = []
        for part, folder in zip(parts, folders, strict=True):
            if folder not in done:
                is_checked = manifest is not None
                futures.append(pool.submit(index_part, part, folder, job.store_raw, is_checked, job.shards))
        _follow(pool, futures, counter, _progress_bar(done, manifest))
        read = PartCounts.total([counts_of(folder) for folder in folders])
        _refuse_repeated_docids(job, folders)
        if read.empties:
            print(
                f"{read.empties} of {read.documents} records have an empty vector; no query finds them",
                file=sys.stderr,
            )
        print(f"merging {len(parts)} parts", file=sys.stderr)
        remove(job.built)
        merging = [pool.submit(merge) for merge in _merges(job, folders, identity, manifest)]
        shards = [future.result() for future in merging]
    merged = postings.IndexCounts.total(shards)
    if manifest:
        read = dataclasses.replace(read, impacts=sum(file.impacts for file in manifest.files))
    if (merged.documents, merged.postings, merged.impacts) != (read.documents, read.postings, read.impacts):
        raise CheckError(f"Lucene's index has {merged}, the records read have {read}")
    return shards


def _merges(
    job: IndexJob, parts: Sequence[Path], identity: str, manifest: CollectionManifest | None
) -> Iterator[Callable[[], postings.IndexCounts]]:
    """Give the work of merging the parts of each shard."""
    targets = folders_to_write(job.built, job.shards)
    sources = zip(*[folders_to_write(part, job.shards) for part in parts], strict=True)
    for target, folders in zip(targets, sources, strict=True):
        table = commit_table(manifest)
        if job.shards > 1:
            table = shard_table(table, target.name, identity)
        yield functools.partial(postings.merge_indexes, folders, target, optimize=job.optimize, table=table)


def _keep_or_clear(job: IndexJob, plan: dict[str, Any]) -> None:
    """Keep the parts of a stopped build of the same collection, and nothing else."""
    file = job.partial / "plan.json"
    if not is_made_of(file, plan):
        _clear(job)
        write_made_of(file, plan)


def _progress_bar(done: Sequence[Path], manifest: CollectionManifest | None) -> "tqdm[Any]":
    total = manifest.documents if manifest else None
    documents = sum(counts_of(folder).documents for folder in done)
    return tqdm(total=total, initial=documents, desc="indexing", unit="doc")


def _follow(
    pool: ProcessPoolExecutor,
    futures: Sequence["Future[None]"],
    counter: "Synchronized[int]",
    bar: "tqdm[Any]",
) -> None:
    """Show the workers' progress until all have ended; the first error ends them all."""
    with bar:
        before = bar.n
        left = set(futures)
        while left:
            ended, left = wait(left, timeout=0.5)
            bar.update(before + counter.value - bar.n)
            try:
                for future in ended:
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _refuse_repeated_docids(job: IndexJob, folders: Sequence[Path]) -> None:
    """Raise InputError if a docid stands twice: Lucene keeps both, and a run cannot tell them apart."""

    def docids() -> Iterator[tuple[str, object]]:
        for place, line in collection_lines(job.collection):
            yield read_record(line, place).docid, place

    hashes = [np.load(beside(folder, "docids.npy")) for folder in folders]
    refuse_repeated(np.concatenate(hashes), docids)


def _check_counts(job: IndexJob, counts: postings.IndexCounts, manifest: CollectionManifest) -> None:
    if (counts.documents, counts.postings) != (manifest.documents, manifest.terms):
        raise CheckError(
            f"the index has {counts.documents} documents and {counts.postings} postings, the collection "
            f"{manifest.documents} and {manifest.terms}; {missing_documents(job.collection, job.built)}"
        )
