"""A corpus to a collection directory: shard after shard, resumable, whole files only.

Shard I of N is a contiguous slice of the corpus, cut into files of DOCUMENTS_PER_FILE documents. A file
is written in DIR.partial, hashed, and renamed into DIR; DIR.partial also keeps what each shard has
finished. When all N shards are whole, DIR.manifest.json is written and DIR.partial goes.
"""

import dataclasses
import itertools
import json
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.collections.corpus import Corpus, Document, documents_between, measure_corpus
from csplade_pyserini.collections.files import whole_file
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
from csplade_pyserini.errors import InputError

if TYPE_CHECKING:  # torch only once there is something to encode
    from csplade_pyserini.model import SparseEncoder, Vector

DOCUMENTS_PER_FILE = 20_000
"""A file is what a crash can cost, and what one Lucene thread reads."""
WINDOW = 2_048
"""Documents tokenized and sorted by length together; vectors never depend on it."""


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
    batch_tokens: int = 4096
    with_contents: bool = False
    documents_per_file: int = DOCUMENTS_PER_FILE

    @property
    def partial(self) -> Path:
        return self.output.with_name(f"{self.output.name}.partial")

    @property
    def progress_file(self) -> Path:
        return self.partial / f"{_shard_name(self.shard_id, self.shard_num)}.json"


def encode_corpus(job: EncodingJob) -> CollectionManifest | None:
    """Encode what is not done yet. The whole collection's manifest, or None while other shards are missing.

    Raises InputError on bad input, and where the output belongs to another encoder or other arguments.
    """
    extent = measure_corpus(job.corpus)
    fixed = {"shard_num": job.shard_num, "documents_per_file": job.documents_per_file}
    job = dataclasses.replace(job, arguments=job.arguments | extent._asdict() | fixed)
    if manifest_path(job.output).is_file():
        return _already_whole(job)
    _claim_output(job)
    try:
        _encode_missing(job, extent.documents, _finished_files(job))
        return _complete(job)
    finally:
        if job.partial.is_dir() and not any(job.partial.iterdir()):
            job.partial.rmdir()  # nothing was begun: an encoder that did not load leaves nothing behind


def shard_range(total: int, shard_id: int, shard_num: int) -> tuple[int, int]:
    """Numbers of the first document of a shard and of the one after its last."""
    return total * shard_id // shard_num, total * (shard_id + 1) // shard_num


def to_record(docid: str, contents: str, vector: "Vector") -> str:
    """One line of a JsonVectorCollection file."""
    record = {"id": docid, "contents": contents, "vector": vector}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"


def _shard_name(shard_id: int, shard_num: int) -> str:
    return f"shard-{shard_id:04d}-of-{shard_num:04d}"


def _already_whole(job: EncodingJob) -> CollectionManifest:
    manifest = read_collection_manifest(job.output)
    _refuse_changes(job, manifest.encoder, manifest.arguments, manifest_path(job.output))
    verify_shards(job.output, manifest)
    shutil.rmtree(job.partial, ignore_errors=True)  # a stop right after the manifest leaves it
    print(f"{job.output} is whole already: {manifest.documents} documents", file=sys.stderr)
    return manifest


def _refuse_changes(job: EncodingJob, encoder: str, arguments: dict[str, Any], place: Path) -> None:
    """Raise InputError, naming both values, where `place` was made by another encoder or other arguments."""
    before, now = {"encoder": encoder, **arguments}, {"encoder": job.identity, **job.arguments}
    for key in now:
        if before.get(key) != now[key]:
            raise InputError(
                f"{place} was made with {key} {before.get(key)!r}, this command has {now[key]!r}: "
                f"repeat the first command, or choose another --output"
            )


def _claim_output(job: EncodingJob) -> None:
    """Make the folder of work in progress. Raises InputError where the output is not this command's, or not writable."""
    if job.output.exists() and not job.output.is_dir():
        raise InputError(f"cannot write {job.output}: it is a file")
    if job.output.is_dir() and any(job.output.iterdir()) and not job.partial.is_dir():
        raise InputError(f"{job.output} is not empty and has no manifest: choose another --output, or remove it")
    foreign = [file.name for file in job.output.iterdir() if not file.name.startswith("shard-")] if job.output.is_dir() else []
    if foreign:
        raise InputError(f"{job.output} holds {foreign[0]}, which is not ours: Anserini would index it; move it away")
    try:
        job.partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {job.output}: {error.strerror}") from error


def _finished_files(job: EncodingJob) -> dict[str, ShardRecord]:
    """Files of this shard that are whole and unchanged, by name."""
    for file in sorted(job.partial.glob("shard-*.json")):
        table = json.loads(file.read_text(encoding="utf-8"))
        _refuse_changes(job, table["encoder"], table["arguments"], file)
    if not job.progress_file.is_file():
        return {}
    records = [ShardRecord(**shard) for shard in json.loads(job.progress_file.read_text(encoding="utf-8"))["shards"]]
    whole = {r.file: r for r in records if (job.output / r.file).is_file() and file_hash(job.output / r.file) == r.sha256}
    for record in records:
        if record.file not in whole:
            print(f"{job.output / record.file} is missing or has changed: encoding it again", file=sys.stderr)
    return whole


def _encode_missing(job: EncodingJob, total: int, done: dict[str, ShardRecord]) -> None:
    first, last = shard_range(total, job.shard_id, job.shard_num)
    starts = range(first, last, job.documents_per_file)
    names = {start: f"{_shard_name(job.shard_id, job.shard_num)}-{part:05d}.jsonl" for part, start in enumerate(starts)}
    encoder = job.load_encoder() if any(name not in done for name in names.values()) else None
    finished = sum(record.documents for record in done.values())
    stream = documents_between(job.corpus, first, last)  # the corpus is read once, finished files are passed over
    with tqdm(total=last - first, initial=finished, desc="encoding", unit="doc", smoothing=0.05) as bar:
        for start, name in names.items():
            documents = itertools.islice(stream, job.documents_per_file)
            if name in done:
                deque(documents, maxlen=0)
            elif encoder is not None:
                done[name] = _encode_file(job, encoder, documents, start, name, bar)
                _write_progress(job, [done[name] for name in names.values() if name in done])
    _write_progress(job, [done[name] for name in names.values()])


def _encode_file(
    job: EncodingJob, encoder: "SparseEncoder", documents: Iterator[Document], first: int, name: str, bar: "tqdm[Any]"
) -> ShardRecord:
    """Encode one file's documents and put it into the output, whole."""
    count = empties = terms = impacts = 0
    with whole_file(job.partial / name) as file:
        for window in itertools.batched(documents, WINDOW):
            rows = encoder.tokenize([document.text for document in window], side="document")
            vectors = encoder.encode_tokenized(rows, side="document", batch_tokens=job.batch_tokens, progress=bar.update)
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


def _write_progress(job: EncodingJob, records: list[ShardRecord]) -> None:
    with whole_file(job.progress_file) as file:
        shards = [dataclasses.asdict(record) for record in records]
        first, last = shard_range(job.arguments["documents"], job.shard_id, job.shard_num)
        table = {"encoder": job.identity, "arguments": job.arguments, "wanted": last - first, "shards": shards}
        json.dump(table, file, indent=1)


def _complete(job: EncodingJob) -> CollectionManifest | None:
    """Write the collection's manifest if every shard is whole, and another job has not just done so."""
    if manifest_path(job.output).is_file():
        return read_collection_manifest(job.output)
    files = [job.partial / f"{_shard_name(i, job.shard_num)}.json" for i in range(job.shard_num)]
    tables = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
    whole = [t for t in tables if sum(shard["documents"] for shard in t["shards"]) == t["wanted"]]
    if len(whole) < job.shard_num:
        print(f"shard {job.shard_id} is whole; {job.shard_num - len(whole)} of {job.shard_num} are still missing", file=sys.stderr)
        return None
    manifest = CollectionManifest(
        encoder=job.identity,
        card=card_table(job.card),
        arguments=job.arguments,
        versions=versions(),
        shards=tuple(ShardRecord(**shard) for table in whole for shard in table["shards"]),
    )
    verify_shards(job.output, manifest)
    write_manifest(manifest, job.output)
    shutil.rmtree(job.partial)
    return manifest
