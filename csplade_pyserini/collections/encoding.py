"""A corpus to a collection directory: file after file, resumable, whole files only.

A shard of the corpus is cut into files of DOCUMENTS_PER_FILE documents. A file is written in DIR.partial,
hashed, and renamed into DIR; DIR.partial also keeps what each shard has finished. When all shards are whole,
on this machine or copied together from several, DIR.manifest.json is written and DIR.partial is removed.
"""

import dataclasses
import itertools
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tqdm import tqdm

from csplade_pyserini.cards import EncoderCard, card_table, same_encoder
from csplade_pyserini.collections.corpus import Corpus, Digest, Document, Extent, measure_corpus
from csplade_pyserini.collections.index_shards import shard_name
from csplade_pyserini.collections.manifests import (
    CollectionManifest,
    VectorFile,
    manifest_path,
    read_collection_manifest,
    verify_files,
)
from csplade_pyserini.collections.shards import (
    Progress,
    comparable,
    docids_file,
    lock_file,
    merge_shards,
    missing_shards,
    partial_folder,
    progress_file,
    progress_files,
    read_progress,
    write_progress,
)
from csplade_pyserini.collections.vectors import record_line
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.files.stamps import file_hash, refuse_changes
from csplade_pyserini.files.whole import WORK_NAME, check_moving, real_path, sole_writer, whole_file

if TYPE_CHECKING:  # torch only once there is something to encode
    from csplade_pyserini.model import SparseEncoder
    from csplade_pyserini.model.batching import TokenBudget

DOCUMENTS_PER_FILE = 20_000
"""A crash costs at most one file; one Lucene thread reads one file."""
WINDOW = 2_048
"""Documents tokenized and sorted by length together. It changes vectors by float noise alone."""
WINDOW_CHARACTERS = 1 << 25
"""A window of longer texts has fewer documents, so that memory is bounded whatever a corpus holds."""
CHANGED = (
    "{place} was made with {key} {before}, this command has {now}: "
    "repeat the first command, or choose another --output"
)


@dataclass(frozen=True, kw_only=True)
class EncodingJob:
    """Work of one `encode` command."""

    corpus: Corpus
    output: Path
    identity: str
    card: EncoderCard
    """The card with the command's own lengths and top terms."""
    load_encoder: Callable[[], "SparseEncoder"]
    arguments: dict[str, Any]
    """Arguments that change the output; they have to be the same when resumed, a corpus's path aside."""
    shard_id: int = 0
    shard_num: int = 1
    batch_tokens: int | str | None = None
    """Padded tokens in a forward pass; None: the device's default, `auto`: the fastest."""
    with_contents: bool = False
    documents_per_file: int = DOCUMENTS_PER_FILE

    @property
    def shard(self) -> tuple[int, int]:
        """Shard id and number of shards."""
        return self.shard_id, self.shard_num

    @property
    def made_with(self) -> dict[str, Any]:
        """Encoder and arguments, as a repeated command has to have them."""
        return {"encoder": self.identity, **self.arguments}

    def progress(self, extent: Extent, files: Sequence[VectorFile]) -> Progress:
        """The shard's progress once these files are finished."""
        return Progress(
            encoder=self.identity,
            card=card_table(self.card),
            arguments=self.arguments,
            documents=extent.documents,
            digest=extent.digest,
            files=tuple(files),
        )


def encode_corpus(job: EncodingJob) -> CollectionManifest | None:
    """Encode the documents that are not done yet.

    Returns the whole collection's manifest, or None while other shards are missing. Raises InputError on bad
    input, and if the output belongs to another encoder or other arguments.
    """
    fixed = {
        "corpus_size": job.corpus.size,
        "shard_num": job.shard_num,
        "documents_per_file": job.documents_per_file,
    }
    shard = job.corpus.shard(*job.shard)
    job = dataclasses.replace(job, corpus=shard, arguments=job.arguments | fixed)
    extent = measure_corpus(shard)
    if manifest_path(job.output).is_file():
        return _already_whole(job, extent)
    _refuse_foreign_output(job)
    with sole_writer(lock_file(job.output, *job.shard), str(job.output)):
        if manifest_path(job.output).is_file():  # another process has written it meanwhile
            return _already_whole(job, extent)
        check_moving(partial_folder(job.output), job.output)
        _encode_missing(job, extent, _finished_files(job, extent))
        return _complete(job)


def _already_whole(job: EncodingJob, extent: Extent) -> CollectionManifest:
    manifest = read_collection_manifest(job.output)
    place = manifest_path(job.output)
    digests = manifest.arguments.get("digests") or [None] * job.shard_num
    now = comparable(job.made_with, is_same_corpus=digests == [extent.digest])
    before = {"encoder": manifest.encoder, **manifest.arguments}
    refuse_changes(_as_known_now(before, job), now, place, CHANGED)
    refuse_changes({"corpus digest": digests[job.shard_id]}, {"corpus digest": extent.digest}, place, CHANGED)
    verify_files(job.output, manifest)
    rmtree(partial_folder(job.output), ignore_errors=True)  # a stop right after the manifest leaves it
    print(f"{job.output} is whole already: {manifest.documents} documents", file=sys.stderr)
    return manifest


def _as_known_now(before: dict[str, Any], job: EncodingJob) -> dict[str, Any]:
    """Return encoder and arguments of earlier work, with the encoder's identity as it is written now."""
    if same_encoder(before["encoder"], job.identity):
        return before | {"encoder": job.identity}
    return before


def _refuse_foreign_output(job: EncodingJob) -> None:
    """Raise InputError if the output is not this command's."""
    if not job.output.exists():
        return
    if not job.output.is_dir():
        raise InputError(f"cannot write {job.output}: it is a file")
    names = [file.name for file in job.output.iterdir() if file.name != WORK_NAME]
    if names and not partial_folder(job.output).is_dir():
        raise InputError(
            f"{job.output} is not empty and has no manifest: choose another --output, or remove it"
        )
    for name in names:
        if not name.startswith("shard-"):
            raise InputError(
                f"{job.output} holds {name}, which is not ours: Anserini would index it; move it away"
            )


def _finished_files(job: EncodingJob, extent: Extent) -> dict[str, VectorFile]:
    """Find the files of this shard that are whole and unchanged, by name."""
    for file in progress_files(job.output):
        other = read_progress(file)
        is_same = job.shard_num == 1 and other.digest == extent.digest
        now = comparable(job.made_with, is_same_corpus=is_same)
        refuse_changes(_as_known_now(other.made_with, job), now, file, CHANGED)
    own_file = progress_file(job.output, *job.shard)
    if not own_file.is_file():
        return {}
    progress = read_progress(own_file)
    before = {"documents": progress.documents, "corpus digest": progress.digest}
    now = {"documents": extent.documents, "corpus digest": extent.digest}
    refuse_changes(before, now, own_file, CHANGED)
    whole = {}
    for finished in progress.files:
        path = job.output / finished.file
        if path.is_file() and file_hash(path) == finished.sha256:
            whole[finished.file] = finished
        else:
            print(f"{path} is missing or has changed: encoding it again", file=sys.stderr)
    return whole


def _encode_missing(job: EncodingJob, extent: Extent, done: dict[str, VectorFile]) -> None:
    """Encode every file that is not in `done`. The corpus is read once; finished files are passed over."""
    names = _file_names(job, extent)
    noted = progress_file(job.output, *job.shard)
    work = None
    if any(name not in done for name in names.values()):
        work = _load(job)
    digest = Digest()
    stream = _digested(job.corpus.documents(), digest)
    finished = sum(file.documents for file in done.values())
    with tqdm(total=extent.documents, initial=finished, desc="encoding", unit="doc", smoothing=0.05) as bar:
        for first, name in names.items():
            documents = itertools.islice(stream, job.documents_per_file)
            if name in done or work is None:
                deque(documents, maxlen=0)
                continue
            written = _encode_file(job, work, documents, first, name, bar)
            if not noted.is_file():  # no file may be in the output without a word that it is not all
                write_progress(job.progress(extent, list(done.values())), noted)
            real_path(job.output).mkdir(exist_ok=True)  # a link may name a folder that is not there yet
            (partial_folder(job.output) / name).replace(job.output / name)
            done[name] = written
            write_progress(
                job.progress(extent, [done[name] for name in names.values() if name in done]), noted
            )
    deque(stream, maxlen=0)
    if str(digest) != extent.digest:
        raise CheckError(
            f"the corpus {job.corpus.name} changed while it was read: remove {job.output} and "
            f"{partial_folder(job.output)}, and encode again"
        )
    if job.shard_num > 1:
        partial_folder(job.output).mkdir(exist_ok=True)
        np.save(docids_file(job.output, *job.shard), extent.docid_hashes)
    write_progress(job.progress(extent, [done[name] for name in names.values()]), noted)


def _file_names(job: EncodingJob, extent: Extent) -> dict[int, str]:
    """Names of the shard's files, by the number of their first document."""
    firsts = range(0, extent.documents, job.documents_per_file)
    name = shard_name(*job.shard)
    return {first: f"{name}-{number:05d}.jsonl" for number, first in enumerate(firsts)}


class _Work(NamedTuple):
    """A loaded encoder and its token budget, which all files share."""

    encoder: "SparseEncoder"
    budget: "TokenBudget"


def _load(job: EncodingJob) -> _Work:
    encoder = job.load_encoder()
    return _Work(encoder, encoder.token_budget(job.batch_tokens, side="document"))


def _digested(documents: Iterator[Document], digest: Digest) -> Iterator[Document]:
    for document in documents:
        digest.add(document)
        yield document


def _encode_file(
    job: EncodingJob,
    work: _Work,
    documents: Iterator[Document],
    first: int,
    name: str,
    bar: "tqdm[Any]",
) -> VectorFile:
    """Encode one file's documents into the folder of work in progress."""
    encoder = work.encoder
    partial = partial_folder(job.output) / name
    count = empties = terms = impacts = 0
    with whole_file(partial) as file:
        for window, rows in _tokenized_windows(documents, encoder):
            vectors = encoder.encode_tokenized(
                rows, side="document", batch_tokens=work.budget, progress=bar.update
            )
            for document, vector in zip(window, vectors, strict=True):
                empties += not vector
                vector = vector or {encoder.empty_term: 1}
                contents = document.text if job.with_contents else ""
                file.write(record_line(document.docid, contents, vector))
                count += 1
                terms += len(vector)
                impacts += sum(vector.values())
    return VectorFile(
        file=name,
        first=first,
        documents=count,
        empties=empties,
        terms=terms,
        impacts=impacts,
        sha256=file_hash(partial),
    )


def _tokenized_windows(
    documents: Iterator[Document], encoder: "SparseEncoder"
) -> Iterator[tuple[Sequence[Document], list[list[int]]]]:
    """Windows of documents with their token ids.

    The next window is read and tokenized while the caller works on one.
    """

    def next_window() -> tuple[Sequence[Document], list[list[int]]]:
        window: list[Document] = []
        characters = 0
        while len(window) < WINDOW and characters < WINDOW_CHARACTERS:
            document = next(documents, None)
            if document is None:
                break
            window.append(document)
            characters += len(document.text)
        return window, encoder.tokenize([document.text for document in window], side="document")

    with ThreadPoolExecutor(1, thread_name_prefix="tokenize") as ahead:
        coming = ahead.submit(next_window)
        while (ready := coming.result())[0]:
            coming = ahead.submit(next_window)
            yield ready


def _complete(job: EncodingJob) -> CollectionManifest | None:
    """Write the collection's manifest if every shard is whole, and another job has not just done so."""
    if manifest_path(job.output).is_file():
        return read_collection_manifest(job.output)
    try:
        missing = missing_shards(job.output, job.shard_num)
        if not missing:
            return merge_shards(job.output)
    except (FileNotFoundError, InputError):
        if not manifest_path(job.output).is_file():
            raise
        return read_collection_manifest(job.output)  # another shard was last, too, and faster
    print(
        f"shard {job.shard_id} is whole; {len(missing)} of {job.shard_num} are still missing",
        file=sys.stderr,
    )
    return None
