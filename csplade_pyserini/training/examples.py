"""Contrastive examples: JSONL in Tevatron's format, read by line number so that a file may be larger than memory.

    {"query_id": ..., "query": ..., "positive_passages": [{"docid": ..., "title": ..., "text": ...}, ...],
     "negative_passages": [...]}

`query_id`, `docid` and `title` may be missing; a passage may have a teacher's `score`. `Tevatron/msmarco-passage-aug`
is such a file.
"""

import gzip
import hashlib
import math
import random
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset
from tqdm import tqdm

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import check_unicode, parse_record


class Passage(NamedTuple):
    """A passage of an example; `score` is a teacher's, None where there is none."""

    docid: str
    text: str
    score: float | None


class Example(NamedTuple):
    """A query and the passages of one step: a positive first, then its hard negatives."""

    query_id: str
    query: str
    passages: list[Passage]


class ExampleDataset(Dataset[Example]):
    """Examples of one or more JSONL files; which positive and negatives an epoch takes depends on seed, epoch and line."""

    def __init__(self, files: Sequence[Path], *, negatives: int, scored: bool, seed: int) -> None:
        """Reads every line once. Raises InputError with file, line and what was wanted on the first bad one."""
        self.files, self.negatives, self.scored, self.seed = tuple(files), negatives, scored, seed
        self.epoch = 0
        offsets = [self._offsets(file) for file in files]
        self._offset_of = np.concatenate(offsets)
        self._file_of = np.repeat(np.arange(len(offsets)), [len(part) for part in offsets])
        if not len(self._offset_of):
            raise InputError(f"no example in {', '.join(map(str, files))}")

    def __len__(self) -> int:
        return len(self._offset_of)

    def __getitem__(self, index: int) -> Example:
        """The example of a line as this epoch has it."""
        file = self.files[self._file_of[index]]
        with file.open("rb") as lines:
            lines.seek(self._offset_of[index])
            record = parse_record(lines.readline().decode("utf-8"), f"{file}, byte {self._offset_of[index]}")
        chooser = random.Random(f"{self.seed} {self.epoch} {index}")
        positive = chooser.choice(record["positive_passages"])
        hard = record.get("negative_passages") or []
        # Too few of them stand twice, as in Tevatron.
        choose = chooser.sample if len(hard) >= self.negatives else chooser.choices
        negatives = choose(hard, k=self.negatives)
        passages = [self._passage(passage) for passage in (positive, *negatives)]
        return Example(_identity(record, "query_id", record["query"]), record["query"], passages)

    def set_epoch(self, epoch: int) -> None:
        """Choose anew from here on."""
        self.epoch = epoch

    def _offsets(self, file: Path) -> np.ndarray:
        """Byte offsets of the lines, each line checked."""
        if not file.is_file():
            raise InputError(f"the examples {file} do not exist")
        offsets, offset = [], 0
        with (
            file.open("rb") as lines,
            tqdm(
                total=file.stat().st_size, desc=f"checking {file.name}", unit="B", unit_scale=True
            ) as progress,
        ):
            for number, line in enumerate(lines, start=1):
                place = f"{file}:{number}"
                try:
                    text = line.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise InputError(f"{place}: not UTF-8: {error}") from error
                self._check(parse_record(text, place), place)
                offsets.append(offset)
                offset += len(line)
                progress.update(len(line))
        return np.array(offsets, dtype=np.int64)

    def _check(self, record: dict[str, Any], place: str) -> None:
        if not isinstance(record.get("query"), str) or not record["query"].strip():
            raise InputError(f"{place}: query is {record.get('query')!r}; wanted a text")
        check_unicode(f"{record['query']}{record.get('query_id', '')}", place)
        for key, least, hint in (
            ("positive_passages", 1, ""),
            ("negative_passages", min(1, self.negatives), " (or negatives = 0)"),
        ):
            passages = record.get(key)
            if passages is None and not least:
                continue
            if not isinstance(passages, list) or len(passages) < least:
                raise InputError(
                    f"{place}: {key} is {str(passages)[:60]}; wanted a list{f' of at least {least}' if least else ''}{hint}"
                )
            for passage in passages:
                if not isinstance(passage, dict) or not isinstance(passage.get("text"), str):
                    raise InputError(
                        f"{place}: a passage of {key} is {str(passage)[:60]}; wanted an object with 'text'"
                    )
                check_unicode(f"{passage.get('title', '')}{passage['text']}{passage.get('docid', '')}", place)
                score: Any = passage.get("score")
                if self.scored and (type(score) not in (int, float) or not math.isfinite(score)):
                    raise InputError(
                        f"{place}: a passage of {key} has the score {score!r}; distillation wants a number"
                    )

    def _passage(self, record: dict[str, Any]) -> Passage:
        text = f"{record.get('title') or ''} {record['text']}".strip()
        return Passage(_identity(record, "docid", text), text, record["score"] if self.scored else None)


def plain_file(file: Path, folder: Path) -> Path:
    """The file itself, or what a .gz holds, expanded once into `folder`: lines are looked up by their place."""
    if file.suffix != ".gz":
        return file
    # Two files of one name in two folders are two files.
    target = folder / f"{key(str(file.resolve())):016x}-{file.stem}"
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        try:
            with gzip.open(file) as source, partial.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{file} cannot be expanded into {folder}: {error}") from error
        partial.replace(target)
    return target


def key(text: str) -> int:
    """A text's 63-bit hash: tells equal queries and passages of a batch, over all processes."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def _identity(record: dict[str, Any], name: str, text: str) -> str:
    """The record's id, or its text where it has none."""
    return text if record.get(name) is None else str(record[name])
