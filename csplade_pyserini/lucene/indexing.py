"""A collection directory to a Lucene impact index, out of its postings, with the documents counted on every side.

Parts of the collection are indexed by processes of their own in INDEX.partial, where a stopped build finds them again;
then they are merged, counted against the records read and the manifest, and only then renamed.
"""

import dataclasses
import functools
import hashlib
import json
import multiprocessing
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from csplade_pyserini.collections.corpus import refuse_repeated
from csplade_pyserini.collections.manifests import (
    CollectionManifest,
    IndexManifest,
    index_commit,
    manifest_hash,
    manifest_path,
    read_collection_manifest,
    read_index_manifest,
    verify_shards,
    versions,
    write_manifest,
)
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.files.spans import Place
from csplade_pyserini.files.whole import sole_writer, whole_file
from csplade_pyserini.lucene import postings
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.lucene.parts import collection_files, collection_lines, plan_parts
from csplade_pyserini.lucene.stock import build_stock_index, missing_documents, size_in_bytes
from csplade_pyserini.lucene.workers import (
    PartCounts,
    beside,
    counts_of,
    index_part,
    read_record,
    start_worker,
)


@dataclass(frozen=True, kw_only=True)
class IndexJob:
    """What one `index` command has to do."""

    collection: Path
    index: Path
    threads: int = 2
    optimize: bool = True
    store_raw: bool = False
    stock: bool = False
    """Have Pyserini's own command build it, by fake words."""

    @property
    def partial(self) -> Path:
        """Where work in progress is."""
        return self.index.with_name(f"{self.index.name}.partial")

    @property
    def lock(self) -> Path:
        """What a process holds that works there."""
        return self.partial / "lock"


def build_index(job: IndexJob) -> IndexManifest:
    """Index a collection directory and return what the index holds.

    Raises InputError where a record is broken, a docid stands twice or the index path is taken, CheckError where the
    collection has changed since it was made or the index lacks anything of it.
    """
    manifest = None
    if manifest_path(job.collection).is_file():
        manifest = read_collection_manifest(job.collection)
        verify_shards(job.collection, manifest)
    identity = collection_identity(job.collection)
    if job.index.exists():
        return _already_built(job, identity)
    prepare_java()
    with sole_writer(job.lock, str(job.index)):
        if job.index.exists():  # by now
            return _already_built(job, identity)
        return _build(job, identity, manifest)


def _build(job: IndexJob, identity: str, manifest: CollectionManifest | None) -> IndexManifest:
    start = time.monotonic()
    counts = _stock(job) if job.stock else _from_postings(job, identity, manifest)
    built = IndexManifest(
        encoder=manifest.encoder if manifest else "",
        collection=identity,
        documents=counts.documents,
        postings=counts.postings,
        terms=counts.terms,
        impacts=counts.impacts,
        bytes=size_in_bytes(job.partial / "index"),
        commit=index_commit(job.partial / "index"),
        seconds=round(time.monotonic() - start, 1),
        versions=versions(),
    )
    _check_counts(job, built, manifest)
    write_manifest(
        built, job.index
    )  # before its index: a manifest that is left without one is in nobody's way
    (job.partial / "index").rename(job.index)
    _clear(job)
    return built


def _clear(job: IndexJob) -> None:
    """Remove what is in the folder of work in progress, but not its lock."""
    for path in job.partial.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path != job.lock:
            path.unlink()


def collection_identity(collection: Path) -> str:
    """SHA-256 of a collection's manifest; without one, of its files' names, sizes and times. Raises InputError without files."""
    if manifest_path(collection).is_file():
        return manifest_hash(collection)
    stats = [(str(file.relative_to(collection)), file.stat()) for file in collection_files(collection)]
    return hashlib.sha256(
        json.dumps([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]).encode()
    ).hexdigest()


def _stock(job: IndexJob) -> postings.IndexCounts:
    _clear(job)
    build_stock_index(
        job.collection,
        job.partial / "index",
        threads=job.threads,
        optimize=job.optimize,
        store_raw=job.store_raw,
    )
    records = sum(1 for _ in collection_lines(job.collection))
    with _workers(1) as pool:
        counts = pool.submit(postings.count_index, job.partial / "index").result()
    if counts.documents != records:
        raise CheckError(
            f"Pyserini's index has {counts.documents} documents, the collection {records} lines; "
            f"{missing_documents(job.collection, job.partial / 'index')}"
        )
    return counts


def _from_postings(job: IndexJob, identity: str, manifest: CollectionManifest | None) -> postings.IndexCounts:
    parts = plan_parts(collection_files(job.collection))
    _claim(job, {"collection": identity, "store_raw": job.store_raw, "parts": len(parts)})
    folders = [job.partial / f"part-{number:05d}" for number in range(len(parts))]
    done = [folder for folder in folders if folder.is_dir()]
    if done:
        print(f"{len(done)} of {len(parts)} parts are indexed already", file=sys.stderr)
    counter = multiprocessing.get_context("spawn").Value("q", 0)
    with _workers(min(job.threads, len(parts)), counter) as pool:
        made = {
            pool.submit(index_part, part, folder, job.store_raw, manifest is not None): folder
            for part, folder in zip(parts, folders, strict=True)
            if folder not in done
        }
        _follow(pool, list(made), counter, sum(counts_of(folder).documents for folder in done), manifest)
        read = PartCounts.total([counts_of(folder) for folder in folders])
        _refuse_repeated(job, folders)
        if read.empties:
            print(
                f"{read.empties} of {read.documents} records have an empty vector; no query finds them",
                file=sys.stderr,
            )
        print(f"merging {len(parts)} parts", file=sys.stderr)
        merge = functools.partial(
            postings.merge_indexes, folders, job.partial / "index", optimize=job.optimize
        )
        shutil.rmtree(job.partial / "index", ignore_errors=True)
        merged = pool.submit(merge).result()
    if manifest:
        read = dataclasses.replace(read, impacts=sum(shard.impacts for shard in manifest.shards))
    if (merged.documents, merged.postings, merged.impacts) != (read.documents, read.postings, read.impacts):
        raise CheckError(f"Lucene's index has {merged}, the records read have {read}")
    return merged


def _claim(job: IndexJob, plan: dict[str, Any]) -> None:
    """Keep the parts of a stopped build of the same collection, and nothing else."""
    file = job.partial / "plan.json"
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")) == plan:
        return
    _clear(job)
    with whole_file(file) as lines:
        json.dump(plan, lines)


def _workers(number: int, counter: "Synchronized[int] | None" = None) -> ProcessPoolExecutor:
    """Processes with a JVM each: never forked, since a JVM does not outlive that."""
    return ProcessPoolExecutor(
        number, multiprocessing.get_context("spawn"), initializer=start_worker, initargs=(counter,)
    )


def _follow(
    pool: ProcessPoolExecutor,
    futures: list["Future[None]"],
    counter: "Synchronized[int]",
    done: int,
    manifest: CollectionManifest | None,
) -> None:
    """Show the workers' progress until all have ended; the first error ends them all."""
    with tqdm(
        total=manifest.documents if manifest else None, initial=done, desc="indexing", unit="doc"
    ) as bar:
        left = set(futures)
        while left:
            ended, left = wait(left, timeout=0.5)
            bar.update(done + counter.value - bar.n)
            try:
                for future in ended:
                    future.result()
            except BrokenProcessPool as error:
                raise CheckError(
                    "a worker process died, perhaps for lack of memory: run again to go on, with fewer --threads"
                ) from error
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _refuse_repeated(job: IndexJob, folders: list[Path]) -> None:
    """Raise InputError where a docid stands twice: Lucene would keep both, and a run could not tell them apart."""

    def docids() -> Iterator[tuple[str, Place | str]]:
        for place, line in collection_lines(job.collection):
            yield read_record(line, place)[0], place

    refuse_repeated(np.concatenate([np.load(beside(folder, "docids.npy")) for folder in folders]), docids)


def _check_counts(job: IndexJob, built: IndexManifest, manifest: CollectionManifest | None) -> None:
    wanted = (manifest.documents, manifest.terms) if manifest else None
    if wanted and (built.documents, built.postings) != wanted:
        raise CheckError(
            f"the index has {built.documents} documents and {built.postings} postings, the collection "
            f"{wanted[0]} and {wanted[1]}; {missing_documents(job.collection, job.partial / 'index')}"
        )


def _already_built(job: IndexJob, identity: str) -> IndexManifest:
    if job.index.is_dir() and manifest_path(job.index).is_file():
        built = read_index_manifest(job.index)
        if built.collection == identity:
            print(f"{job.index} is whole already: {built.documents} documents", file=sys.stderr)
            return built
    raise InputError(
        f"{job.index} exists and is not the index of {job.collection}: choose another --index, or remove it"
    )
