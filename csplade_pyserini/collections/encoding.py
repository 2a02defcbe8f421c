"""A corpus to a collection directory: shard after shard, resumable, whole files only.

Shard I of N is a piece of the corpus, a function of its size alone, cut into files of DOCUMENTS_PER_FILE documents. A
file is written in DIR.partial, hashed, and renamed into DIR; DIR.partial also keeps what each shard has finished. When
all N shards are whole, on this machine or brought together from several, DIR.manifest.json is written and DIR.partial goes.
"""

import dataclasses
import itertools
import json
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.collections.corpus import (
    Corpus,
    Digest,
    Document,
    Extent,
    measure_corpus,
    parse_record,
    read_lines,
    refuse_repeated,
)
from csplade_pyserini.collections.files import sole_writer, whole_file
from csplade_pyserini.collections.manifests import (
    CollectionManifest,
    ShardRecord,
    card_table,
    file_hash,
    manifest_path,
    read_collection_manifest,
    verify_shards,
    versions,
    write_manifest,
)
from csplade_pyserini.errors import CheckError, InputError

if TYPE_CHECKING:  # torch only once there is something to encode
    from csplade_pyserini.model import SparseEncoder, Vector
    from csplade_pyserini.model.batching import TokenBudget

DOCUMENTS_PER_FILE = 20_000
"""A file is what a crash can cost, and what one Lucene thread reads."""
WINDOW = 2_048
"""Documents tokenized and sorted by length together; vectors never depend on it."""
WINDOW_CHARACTERS = 1 << 25
"""A window of longer texts has fewer documents, so that memory is bounded whatever a corpus holds."""


@dataclass(frozen=True, kw_only=True)
class EncodingJob:
    """What one `encode` command has to do."""

    corpus: Corpus
    output: Path
    identity: str
    card: EncoderCard
    """The card with the command's own lengths and top terms."""
    load_encoder: Callable[[], "SparseEncoder"]
    arguments: dict[str, Any]
    """What the user said that changes the output; has to be the same when resumed."""
    shard_id: int = 0
    shard_num: int = 1
    batch_tokens: int | str | None = None
    """Padded tokens in a forward pass; None: the device's usual, `auto`: what it is fastest with."""
    with_contents: bool = False
    documents_per_file: int = DOCUMENTS_PER_FILE

    @property
    def partial(self) -> Path:
        return _partial(self.output)

    @property
    def progress_file(self) -> Path:
        return self.partial / f"{_shard_name(self.shard_id, self.shard_num)}.json"


def encode_corpus(job: EncodingJob) -> CollectionManifest | None:
    """Encode what is not done yet. The whole collection's manifest, or None while other shards are missing.

    Raises InputError on bad input, and where the output belongs to another encoder or other arguments.
    """
    fixed = {
        "corpus_size": job.corpus.size,
        "shard_num": job.shard_num,
        "documents_per_file": job.documents_per_file,
    }
    piece = job.corpus.piece(job.shard_id, job.shard_num)
    job = dataclasses.replace(job, corpus=piece, arguments=job.arguments | fixed)
    extent = measure_corpus(piece)
    if manifest_path(job.output).is_file():
        return _already_whole(job, extent)
    _refuse_foreign_output(job)
    with sole_writer(job.partial / f"{_shard_name(job.shard_id, job.shard_num)}.lock", str(job.output)):
        if manifest_path(job.output).is_file():  # by now
            return _already_whole(job, extent)
        _encode_missing(job, extent, _finished_files(job, extent))
        return _complete(job)


def merge_shards(output: Path) -> CollectionManifest:
    """The manifest of a collection whose shards are all there, encoded by whatever processes.

    Raises InputError where there is no work in progress or a docid stands in two shards, CheckError where
    shards are missing, doubled, changed or of different commands.
    """
    if manifest_path(output).is_file():
        manifest = read_collection_manifest(output)
        verify_shards(output, manifest)
        return manifest
    partial = _partial(output)
    files = sorted(partial.glob("shard-*.json"))
    if not files:
        raise InputError(
            f"{output} has no manifest, and {partial} no shard: wanted the output of encode with --shard-num, copied together"
        )
    tables = {file: json.loads(file.read_text(encoding="utf-8")) for file in files}
    first = tables[files[0]]
    for file, table in tables.items():
        for key, value in {"encoder": table["encoder"], **table["arguments"]}.items():
            wanted = first["encoder"] if key == "encoder" else first["arguments"].get(key)
            if value != wanted:
                raise CheckError(
                    f"{file} was made with {key} {value!r}, {files[0]} with {wanted!r}: they are not of one collection"
                )
    shard_num = first["arguments"]["shard_num"]
    names = [_shard_name(shard_id, shard_num) for shard_id in range(shard_num)]
    missing = [name for name in names if not _is_whole(tables.get(partial / f"{name}.json"))]
    if missing:
        raise CheckError(
            f"{len(missing)} of {shard_num} shards of {output} are missing or not whole: {', '.join(missing[:10])}"
        )
    ordered = [tables[partial / f"{name}.json"] for name in names]
    manifest = CollectionManifest(
        encoder=first["encoder"],
        card=first["card"],
        arguments=first["arguments"] | {"digests": [table["digest"] for table in ordered]},
        versions=versions(),
        shards=tuple(ShardRecord(**shard) for table in ordered for shard in table["shards"]),
    )
    if not manifest.documents:
        raise InputError(f"the corpus {first['arguments'].get('corpus')} is empty")
    verify_shards(output, manifest)
    if shard_num > 1:
        hashes = np.concatenate([np.load(partial / f"{name}.docids.npy") for name in names])
        refuse_repeated(hashes, lambda: _docids(output, manifest))
    write_manifest(manifest, output)
    shutil.rmtree(partial, ignore_errors=True)
    return manifest


def to_record(docid: str, contents: str, vector: "Vector") -> str:
    """One line of a JsonVectorCollection file."""
    record = {"id": docid, "contents": contents, "vector": vector}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"


def _partial(output: Path) -> Path:
    return output.with_name(f"{output.name}.partial")


def _shard_name(shard_id: int, shard_num: int) -> str:
    return f"shard-{shard_id:04d}-of-{shard_num:04d}"


def _already_whole(job: EncodingJob, extent: Extent) -> CollectionManifest:
    manifest = read_collection_manifest(job.output)
    _refuse_changes(job, manifest.encoder, manifest.arguments, manifest_path(job.output))
    digests = manifest.arguments.get("digests")  # one for each shard
    _refuse_change(
        "corpus digest", digests[job.shard_id] if digests else None, extent.digest, manifest_path(job.output)
    )
    verify_shards(job.output, manifest)
    shutil.rmtree(job.partial, ignore_errors=True)  # a stop right after the manifest leaves it
    print(f"{job.output} is whole already: {manifest.documents} documents", file=sys.stderr)
    return manifest


def _refuse_changes(job: EncodingJob, encoder: str, arguments: dict[str, Any], place: Path) -> None:
    """Raise InputError, naming both values, where `place` was made by another encoder or other arguments."""
    before, now = {"encoder": encoder, **arguments}, {"encoder": job.identity, **job.arguments}
    for key in now:
        _refuse_change(key, before.get(key), now[key], place)


def _refuse_change(key: str, before: object, now: object, place: Path) -> None:
    if before != now:
        raise InputError(
            f"{place} was made with {key} {before!r}, this command has {now!r}: repeat the first command, or choose another --output"
        )


def _refuse_foreign_output(job: EncodingJob) -> None:
    """Raise InputError where the output is not this command's."""
    if job.output.exists() and not job.output.is_dir():
        raise InputError(f"cannot write {job.output}: it is a file")
    if job.output.is_dir() and any(job.output.iterdir()) and not job.partial.is_dir():
        raise InputError(
            f"{job.output} is not empty and has no manifest: choose another --output, or remove it"
        )
    foreign = (
        [file.name for file in job.output.iterdir() if not file.name.startswith("shard-")]
        if job.output.is_dir()
        else []
    )
    if foreign:
        raise InputError(
            f"{job.output} holds {foreign[0]}, which is not ours: Anserini would index it; move it away"
        )


def _finished_files(job: EncodingJob, extent: Extent) -> dict[str, ShardRecord]:
    """Files of this shard that are whole and unchanged, by name."""
    for file in sorted(job.partial.glob("shard-*.json")):
        table = json.loads(file.read_text(encoding="utf-8"))
        _refuse_changes(job, table["encoder"], table["arguments"], file)
    if not job.progress_file.is_file():
        return {}
    table = json.loads(job.progress_file.read_text(encoding="utf-8"))
    _refuse_change("documents", table["documents"], extent.documents, job.progress_file)
    _refuse_change("corpus digest", table["digest"], extent.digest, job.progress_file)
    records = [ShardRecord(**shard) for shard in table["shards"]]
    whole = {
        r.file: r
        for r in records
        if (job.output / r.file).is_file() and file_hash(job.output / r.file) == r.sha256
    }
    for record in records:
        if record.file not in whole:
            print(f"{job.output / record.file} is missing or has changed: encoding it again", file=sys.stderr)
    return whole


def _encode_missing(job: EncodingJob, extent: Extent, done: dict[str, ShardRecord]) -> None:
    starts = range(0, extent.documents, job.documents_per_file)
    names = {
        start: f"{_shard_name(job.shard_id, job.shard_num)}-{part:05d}.jsonl"
        for part, start in enumerate(starts)
    }
    encoder = job.load_encoder() if any(name not in done for name in names.values()) else None
    finished = sum(record.documents for record in done.values())
    budget = encoder.token_budget(job.batch_tokens, side="document") if encoder is not None else None
    digest = Digest()
    stream = _digested(
        job.corpus.documents(), digest
    )  # the corpus is read once, finished files are passed over
    with tqdm(total=extent.documents, initial=finished, desc="encoding", unit="doc", smoothing=0.05) as bar:
        for start, name in names.items():
            documents = itertools.islice(stream, job.documents_per_file)
            if name in done:
                deque(documents, maxlen=0)
            elif encoder is not None and budget is not None:
                done[name] = _encode_file(job, encoder, budget, documents, start, name, bar)
                _write_progress(job, extent, [done[name] for name in names.values() if name in done])
    deque(stream, maxlen=0)
    if str(digest) != extent.digest:
        raise CheckError(
            f"the corpus {job.corpus.name} changed while it was read: remove {job.output} and {job.partial}, and encode again"
        )
    if job.shard_num > 1:
        job.partial.mkdir(exist_ok=True)
        np.save(job.partial / f"{_shard_name(job.shard_id, job.shard_num)}.docids.npy", extent.docid_hashes)
    _write_progress(job, extent, [done[name] for name in names.values()])


def _digested(documents: Iterator[Document], digest: Digest) -> Iterator[Document]:
    for document in documents:
        digest.add(document)
        yield document


def _tokenized_windows(
    documents: Iterator[Document], encoder: "SparseEncoder"
) -> Iterator[tuple[Sequence[Document], list[list[int]]]]:
    """Windows of documents with their token ids; the next one is read and tokenized while the caller works on one."""

    def next_window() -> tuple[Sequence[Document], list[list[int]]]:
        window: list[Document] = []
        characters = 0
        while len(window) < WINDOW and characters < WINDOW_CHARACTERS and (document := next(documents, None)):
            window.append(document)
            characters += len(document.text)
        return window, encoder.tokenize([document.text for document in window], side="document")

    with ThreadPoolExecutor(1, thread_name_prefix="tokenize") as ahead:
        coming = ahead.submit(next_window)
        while (ready := coming.result())[0]:
            coming = ahead.submit(next_window)
            yield ready


def _encode_file(
    job: EncodingJob,
    encoder: "SparseEncoder",
    budget: "TokenBudget",
    documents: Iterator[Document],
    first: int,
    name: str,
    bar: "tqdm[Any]",
) -> ShardRecord:
    """Encode one file's documents and put it into the output, whole."""
    count = empties = terms = impacts = 0
    with whole_file(job.partial / name) as file:
        for window, rows in _tokenized_windows(documents, encoder):
            vectors = encoder.encode_tokenized(
                rows, side="document", batch_tokens=budget, progress=bar.update
            )
            for document, vector in zip(window, vectors, strict=True):
                empties += not vector
                vector = vector or {encoder.empty_term: 1}
                file.write(to_record(document.docid, document.text if job.with_contents else "", vector))
                count, terms, impacts = count + 1, terms + len(vector), impacts + sum(vector.values())
    record = ShardRecord(
        file=name, first=first, documents=count, empties=empties, terms=terms, impacts=impacts,
        sha256=file_hash(job.partial / name),
    )  # fmt: skip
    job.output.mkdir(exist_ok=True)
    (job.partial / name).replace(job.output / name)
    return record


def _write_progress(job: EncodingJob, extent: Extent, records: list[ShardRecord]) -> None:
    with whole_file(job.progress_file) as file:
        table = {
            "encoder": job.identity,
            "card": card_table(job.card),
            "arguments": job.arguments,
            "documents": extent.documents,
            "digest": extent.digest,
            "shards": [dataclasses.asdict(record) for record in records],
        }
        json.dump(table, file, indent=1)


def _is_whole(table: dict[str, Any] | None) -> bool:
    """Whether a shard's progress says that all its documents are encoded."""
    return table is not None and sum(shard["documents"] for shard in table["shards"]) == table["documents"]


def _complete(job: EncodingJob) -> CollectionManifest | None:
    """Write the collection's manifest if every shard is whole, and another job has not just done so."""
    if manifest_path(job.output).is_file():
        return read_collection_manifest(job.output)
    files = [job.partial / f"{_shard_name(i, job.shard_num)}.json" for i in range(job.shard_num)]
    whole = [
        file for file in files if file.is_file() and _is_whole(json.loads(file.read_text(encoding="utf-8")))
    ]
    if len(whole) < job.shard_num:
        print(
            f"shard {job.shard_id} is whole; {job.shard_num - len(whole)} of {job.shard_num} are still missing",
            file=sys.stderr,
        )
        return None
    try:
        return merge_shards(job.output)
    except FileNotFoundError:
        if not manifest_path(job.output).is_file():
            raise
        return read_collection_manifest(job.output)  # the other last shard was faster


def _docids(output: Path, manifest: CollectionManifest) -> Iterator[tuple[str, object]]:
    for shard in manifest.shards:
        for number, line in enumerate(read_lines(output / shard.file), start=1):
            place = f"{output / shard.file}:{number}"
            yield str(parse_record(line, place)["id"]), place
