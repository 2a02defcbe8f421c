"""A collection into a target: checked first, resumed where it stopped, counted at the end.

Beside the target's folder, or beside the collection if the target is a server's, lie
TARGET.partial/        progress: for each vector file, its SHA-256 and the last acknowledged line
TARGET.rejected.jsonl  documents that the engine did not take
TARGET.manifest.json   the whole target's manifest
"""

import itertools
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from csplade_pyserini.cards import same_encoder
from csplade_pyserini.collections.index_shards import shard_name
from csplade_pyserini.collections.manifests import (
    ExportManifest,
    manifest_path,
    read_export_manifest,
    versions,
    write_manifest,
)
from csplade_pyserini.engines.dimensions import Dimensions
from csplade_pyserini.engines.documents import (
    FileShare,
    Source,
    read_documents,
    refuse_repeated_docids,
)
from csplade_pyserini.engines.patience import deliver, patiently
from csplade_pyserini.engines.preflight import Preflight
from csplade_pyserini.engines.target import Document, Failure, Identity, Place, Target
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.files.tables import read_json
from csplade_pyserini.files.whole import remove, sole_writer, whole_file, work_folder

BATCH_DOCUMENTS = 500
BATCH_TERMS = 200_000
"""Terms in a request at most: about 3 MB of JSON."""
MOST_REJECTED = 10_000
"""Number of rejected documents that ends a load: something else is wrong then."""
_SECONDS_BETWEEN_NOTES = 2.0


@dataclass(kw_only=True)
class LoadProgress:
    """Lines that an engine has acknowledged."""

    identity: str
    lines: dict[str, int] = field(default_factory=dict)
    """Last acknowledged line by the SHA-256 of the vector file."""
    rejected: dict[str, int] = field(default_factory=dict)
    """First rejected line by the SHA-256 of the vector file."""
    has_ended: bool = False
    """Whether the load went through, although documents were rejected."""
    is_checked: bool = False
    """Whether preflight is done."""


def local_path(place: Place, engine: str, source: Source) -> Path:
    """Path whose neighbours are the target's manifest and work in progress."""
    name = f"{engine}.{place.name}"
    path = place.folder or source.collection.parent / name
    if source.shard_num > 1 and place.folder is None:
        return path.with_name(f"{path.name}.{shard_name(source.shard_id, source.shard_num)}")
    return path


def rejected_path(path: Path) -> Path:
    """Path of the file of rejected documents."""
    return path.with_name(f"{path.name}.rejected.jsonl")


def preflight(source: Source, dimensions: Dimensions, target: type[Target]) -> None:
    """Raise InputError if the engine would damage a document of this shard."""
    refuse_repeated_docids(source)
    check = Preflight(target.limits)
    with tqdm(total=source.documents, desc="checking", unit="doc", delay=2) as bar:
        for share in source.shares:
            for _ in check.check(read_documents(share, 0, dimensions, source.identity.scale)):
                bar.update()
    check.refuse()


def load(
    source: Source,
    dimensions: Dimensions,
    target: Target,
    *,
    engine: str,
    path: Path,
    batch_documents: int = BATCH_DOCUMENTS,
) -> ExportManifest:
    """Fill a target, and hold its own count against the collection's.

    Raises InputError if the target is another encoder's or preflight refuses; CheckError if documents were
    rejected or the count differs.
    """
    work = work_folder(path)
    with sole_writer(work / "lock", str(target.place)):
        found = patiently(target.identity)
        if found is not None:
            refuse_other(found, source.identity, target.place)
            whole = _whole_already(source, target, engine, path)
            if whole is not None:
                return whole
        start = time.monotonic()
        progress = LoadProgress(identity=source.identity.to_json())
        if found is not None and target.resumes != "never":
            progress = _read_progress(work / "progress.json", source.identity)
        if not progress.is_checked:
            preflight(source, dimensions, type(target))
            progress.is_checked = True
        if found is None or target.resumes != "line":
            patiently(lambda: target.create(source.identity))
        _write_progress(work / "progress.json", progress)
        loader = _Loader(source, dimensions, target, progress, work / "progress.json", rejected_path(path))
        loader.run(batch_documents)
        patiently(target.finish)
        count = patiently(target.count)
        if not loader.rejected and count < source.documents:
            remove(work / "progress.json")  # acknowledged documents are gone: send all of them again
        _check(source, target, loader.rejected, count, rejected_path(path))
        manifest = ExportManifest(
            encoder=source.identity.encoder,
            card_hash=source.identity.card,
            collection=source.identity.collection,
            engine=engine,
            url=target.place.shown_url,
            name=target.place.name,
            documents=source.documents,
            shard_id=source.shard_id,
            shard_num=source.shard_num,
            scale=source.identity.scale,
            seconds=round(time.monotonic() - start, 1),
            versions=versions(),
        )
        write_manifest(manifest, path)
        remove(work / "progress.json")
        return manifest


def refuse_other(found: Identity, wanted: Identity, place: Place) -> None:
    """Raise InputError if a target holds vectors of another encoder or of another scale."""
    if not same_encoder(found.encoder, wanted.encoder):
        raise InputError(
            f"{place} holds vectors of {found.encoder}, these are of {wanted.encoder}: "
            f"choose another --name or --output"
        )
    if found.scale != wanted.scale:
        raise InputError(
            f"{place} holds impacts times {found.scale}, these are times {wanted.scale}: "
            f"choose another --name or --output"
        )


def _whole_already(source: Source, target: Target, engine: str, path: Path) -> ExportManifest | None:
    """Manifest of a target that was loaded before, if it still holds as much."""
    if not manifest_path(path).is_file():
        return None
    manifest = read_export_manifest(path)
    is_same = (manifest.engine, manifest.collection, manifest.documents) == (
        engine,
        source.identity.collection,
        source.documents,
    )
    count = patiently(target.count)
    if not is_same or count < source.documents or (source.shard_num == 1 and count != source.documents):
        return None
    print(f"{target.place} is whole already: {source.documents} documents", file=sys.stderr)
    return manifest


def _check(source: Source, target: Target, rejected: int, count: int, file: Path) -> None:
    if rejected:
        raise CheckError(
            f"{target.place}: {rejected} of {source.documents} documents were rejected, they are in {file}; "
            f"the same command tries them again"
        )
    if count == source.documents or (source.shard_num > 1 and source.documents < count <= source.total):
        return
    wanted = str(source.documents)
    if source.shard_num > 1:
        wanted += f" of this shard, or up to {source.total} of all"
    raise CheckError(
        f"{target.place} counts {count} documents; wanted {wanted} (the same command sends them again)"
    )


def _read_progress(file: Path, identity: Identity) -> LoadProgress:
    """Read what a stopped load of the same vectors has done."""
    new = LoadProgress(identity=identity.to_json())
    if not file.is_file():
        return new
    try:
        progress = LoadProgress(**read_json(file))
    except (InputError, TypeError):
        return new  # every operation can be repeated
    if progress.identity != new.identity:
        return new
    if progress.has_ended:  # rejected documents are tried again
        progress.has_ended = False
        for sha256, line in progress.rejected.items():
            progress.lines[sha256] = min(progress.lines.get(sha256, 0), line - 1)
        progress.rejected = {}
    return progress


def _write_progress(file: Path, progress: LoadProgress) -> None:
    with whole_file(file) as out:
        json.dump(vars(progress), out, indent=1)


class _Loader:
    """The work of one load."""

    def __init__(
        self,
        source: Source,
        dimensions: Dimensions,
        target: Target,
        progress: LoadProgress,
        progress_file: Path,
        rejected_file: Path,
    ) -> None:
        self._source = source
        self._dimensions = dimensions
        self._target = target
        self._progress = progress
        self._progress_file = progress_file
        self._rejected_file = rejected_file
        self._noted = time.monotonic()
        self.rejected = self._keep_rejected()
        """Number of documents in the file of rejected ones."""

    def run(self, batch_documents: int) -> None:
        """Send every document that is not acknowledged."""
        starts = [self._acknowledged(share) for share in self._source.shares]
        shares = list(zip(self._source.shares, starts, strict=True))
        whole = sum(min(done, share.last) - share.first + 1 for share, done in shares)
        with tqdm(total=self._source.documents, initial=whole, desc="loading", unit="doc") as bar:
            for share, done in shares:
                if done < share.last:
                    self._load(share, done, batch_documents, bar)
        self._progress.has_ended = True
        self._note()

    def _acknowledged(self, share: FileShare) -> int:
        """Number of a share's last line that need not be sent again."""
        done = max(self._progress.lines.get(share.sha256, 0), share.first - 1)
        if done < share.last and self._target.resumes != "line":
            return share.first - 1  # back to the file's start
        return done

    def _load(self, share: FileShare, done: int, batch_documents: int, bar: "tqdm[object]") -> None:
        self._target.begin_file(share.name)
        documents = read_documents(share, done, self._dimensions, self._source.identity.scale)
        for batch in batches(documents, batch_documents):
            self._reject(share, deliver(self._target, batch))
            bar.update(len(batch))
            if self._target.resumes == "line":
                self._progress.lines[share.sha256] = batch[-1].line
                if time.monotonic() - self._noted > _SECONDS_BETWEEN_NOTES:
                    self._note()
        self._target.end_file()
        self._progress.lines[share.sha256] = share.last
        self._note()

    def _note(self) -> None:
        """Write down what is acknowledged, once it is safe."""
        self._target.flush()
        _write_progress(self._progress_file, self._progress)
        self._noted = time.monotonic()

    def _reject(self, share: FileShare, failures: list[Failure]) -> None:
        if not failures:
            return
        with self._rejected_file.open("a", encoding="utf-8") as file:
            for failure in failures:
                document = failure.document
                record = {
                    "docid": document.docid,
                    "file": document.file,
                    "line": document.line,
                    "sha256": share.sha256,
                    "status": failure.status,
                    "reason": failure.reason,
                }
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        first = min(failure.document.line for failure in failures)
        self._progress.rejected.setdefault(share.sha256, first)
        self.rejected += len(failures)
        if self.rejected > MOST_REJECTED:
            raise CheckError(f"more than {MOST_REJECTED} documents were rejected: see {self._rejected_file}")

    def _keep_rejected(self) -> int:
        """Keep the rejected documents that count as acknowledged; return their number."""
        if not self._rejected_file.is_file():
            return 0
        kept = []
        for line in self._rejected_file.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # of a writer that was killed
            if record["line"] <= self._progress.lines.get(record["sha256"], 0):
                kept.append(line)
        if kept:
            with whole_file(self._rejected_file) as file:
                file.writelines(f"{line}\n" for line in kept)
        else:
            remove(self._rejected_file)
        return len(kept)


def batches(documents: Iterable[Document], most: int) -> Iterator[list[Document]]:
    """Documents in lists of at most `most`, and of at most BATCH_TERMS terms unless one alone has more."""
    for part in itertools.batched(documents, most):
        batch: list[Document] = []
        terms = 0
        for document in part:
            terms += len(document.impacts)
            if batch and terms > BATCH_TERMS:
                yield batch
                batch = []
                terms = len(document.impacts)
            batch.append(document)
        yield batch
