"""Contrastive examples: JSONL in Tevatron's format.

    {"query_id": ..., "query": ..., "positive_passages": [{"docid": ..., "title": ..., "text": ...}, ...],
     "negative_passages": [...]}

`query_id`, `docid` and `title` may be missing; a passage may have a teacher's `score`.
`Tevatron/msmarco-passage-aug` is such a file. Lines are read by their number, so a file may be larger than
memory.
"""

import gzip
import hashlib
import math
import random
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset
from tqdm import tqdm

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import check_unicode, decode_line, parse_record, say_blank
from csplade_pyserini.files.whole import whole_file

_SHOWN = 60
"""Characters of a bad value that an error shows."""
_CHUNK_BYTES = 2**20


class Passage(NamedTuple):
    """A passage of an example."""

    docid: str
    text: str
    score: float | None
    """A teacher's score, if distillation needs one."""


class Example(NamedTuple):
    """A query with the passages of one step: a positive, then hard negatives."""

    query_id: str
    query: str
    passages: list[Passage]


class ExampleDataset(Dataset[Example]):
    """Examples of one or more JSONL files.

    The positive and the negatives of an example depend on seed, epoch and line alone.
    """

    def __init__(self, files: Sequence[Path], *, negatives: int, scored: bool, seed: int) -> None:
        """Read every line once. Raises InputError on the first bad one.

        negatives: hard negatives of an example. scored: every passage has to have a teacher's score.
        """
        self.files = tuple(files)
        self.negatives = negatives
        self.scored = scored
        self.seed = seed
        self.epoch = 0
        offsets = [self._offsets(file) for file in files]
        self._offset_of = np.concatenate(offsets)
        self._file_of = np.repeat(np.arange(len(offsets)), [len(part) for part in offsets])
        if not len(self._offset_of):
            raise InputError(f"no example in {', '.join(map(str, files))}")

    def __len__(self) -> int:
        return len(self._offset_of)

    def __getitem__(self, index: int) -> Example:
        """Return the example of a line, with this epoch's passages."""
        record = self._record(index)
        chooser = random.Random(f"{self.seed} {self.epoch} {index}")
        positive = chooser.choice(record["positive_passages"])
        hard = record.get("negative_passages") or []
        if len(hard) < self.negatives:
            negatives = chooser.choices(hard, k=self.negatives)  # too few are repeated, as in Tevatron
        else:
            negatives = chooser.sample(hard, k=self.negatives)
        passages = [self._passage(passage) for passage in (positive, *negatives)]
        return Example(_identity(record, "query_id", record["query"]), record["query"], passages)

    def set_epoch(self, epoch: int) -> None:
        """Choose other passages from here on."""
        self.epoch = epoch

    def _record(self, index: int) -> dict[str, Any]:
        file = self.files[self._file_of[index]]
        offset = self._offset_of[index]
        with file.open("rb") as lines:
            lines.seek(offset)
            return parse_record(decode_line(lines.readline()), f"{file}, byte {offset}")

    def _offsets(self, file: Path) -> np.ndarray:
        """Byte offsets of a file's lines that are not blank. Every line is checked."""
        if not file.is_file():
            raise InputError(f"the examples {file} do not exist")
        offsets = []
        offset = 0
        blank = 0
        bar = tqdm(total=file.stat().st_size, desc=f"checking {file.name}", unit="B", unit_scale=True)
        with file.open("rb") as lines, bar:
            for number, line in enumerate(lines, start=1):
                place = f"{file}:{number}"
                try:
                    text = decode_line(line)
                except UnicodeDecodeError as error:
                    raise InputError(f"{place}: not UTF-8: {error}") from error
                if text.strip():
                    self._check(parse_record(text, place), place)
                    offsets.append(offset)
                else:
                    blank += 1
                offset += len(line)
                bar.update(len(line))
        say_blank(file, blank)
        return np.array(offsets, dtype=np.int64)

    def _check(self, record: dict[str, Any], place: str) -> None:
        query = record.get("query")
        if not isinstance(query, str) or not query.strip():
            raise InputError(f"{place}: query is {query!r}; wanted a text")
        check_unicode(f"{query}{record.get('query_id', '')}", place)
        self._check_passages(record, "positive_passages", place, least=1)
        least = min(1, self.negatives)
        self._check_passages(record, "negative_passages", place, least=least, hint=" (or negatives = 0)")

    def _check_passages(
        self, record: dict[str, Any], name: str, place: str, *, least: int, hint: str = ""
    ) -> None:
        """Raise InputError unless a record's list `name` has at least `least` passages, all good."""
        passages = record.get(name)
        if passages is None and not least:
            return
        if not isinstance(passages, list) or len(passages) < least:
            wanted = "a list"
            if least:
                wanted = f"a list of at least {least}"
            raise InputError(f"{place}: {name} is {str(passages)[:_SHOWN]}; wanted {wanted}{hint}")
        for passage in passages:
            self._check_passage(passage, name, place)

    def _check_passage(self, passage: Any, name: str, place: str) -> None:
        if not isinstance(passage, dict) or not isinstance(passage.get("text"), str):
            raise InputError(
                f"{place}: a passage of {name} is {str(passage)[:_SHOWN]}; wanted an object with 'text'"
            )
        check_unicode(f"{passage.get('title', '')}{passage['text']}{passage.get('docid', '')}", place)
        score: Any = passage.get("score")
        if self.scored and (type(score) not in (int, float) or not math.isfinite(score)):
            raise InputError(
                f"{place}: a passage of {name} has the score {score!r}; distillation wants a number"
            )

    def _passage(self, record: dict[str, Any]) -> Passage:
        text = f"{record.get('title') or ''} {record['text']}".strip()
        score = None
        if self.scored:
            score = record["score"]
        return Passage(_identity(record, "docid", text), text, score)


def plain_file(file: Path, folder: Path) -> Path:
    """Return the file itself, or for a .gz its content, expanded once into `folder`.

    Lines of a .gz cannot be read by their offset. Raises InputError on a broken one.
    """
    if file.suffix != ".gz":
        return file
    # The key tells files of the same name in two folders apart.
    target = folder / f"{key(str(file.resolve())):016x}-{file.stem}"
    if not target.is_file():
        with whole_file(target, "wb") as sink:
            for chunk in _expanded(file, folder):
                sink.write(chunk)
    return target


def _expanded(file: Path, folder: Path) -> Iterator[bytes]:
    """Content of a .gz file in chunks; `folder` is what errors name."""
    try:
        with gzip.open(file) as source:
            while chunk := source.read(_CHUNK_BYTES):
                yield chunk
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file} cannot be expanded into {folder}: {error}") from error


def key(text: str) -> int:
    """63-bit hash of a text, to find equal queries and passages in the batches of all processes."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def _identity(record: dict[str, Any], name: str, text: str) -> str:
    """Return the record's id, or its text if it has none."""
    if record.get(name) is None:
        return text
    return str(record[name])
