"""Contrastive examples: JSONL in Tevatron's format, read by line number so that a file may be larger than memory.

    {"query_id": ..., "query": ..., "positive_passages": [{"docid": ..., "title": ..., "text": ...}, ...],
     "negative_passages": [...]}

`query_id`, `docid` and `title` may be missing; a passage may have a teacher's `score`. `Tevatron/msmarco-passage-aug`
is such a file.
"""

import gzip
import hashlib
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset
from tqdm import tqdm

from csplade_pyserini.collections.corpus import parse_record
from csplade_pyserini.errors import InputError


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
        hard = record.get("negative_passages", [])
        # Too few of them stand twice, as in Tevatron.
        choose = chooser.sample if len(hard) >= self.negatives else chooser.choices
        negatives = choose(hard, k=self.negatives)
        query = record["query"]
        return Example(str(record.get("query_id", query)), query, [_passage(p) for p in (positive, *negatives)])

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
            tqdm(total=file.stat().st_size, desc=f"checking {file.name}", unit="B", unit_scale=True) as progress,
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
        for key, at_least in (("positive_passages", 1), ("negative_passages", min(1, self.negatives))):
            passages = record.get(key, [])
            if not isinstance(passages, list) or len(passages) < at_least:
                raise InputError(f"{place}: {key} is {str(passages)[:60]}; wanted a list of at least {at_least} (or negatives = 0)")
            for passage in passages:
                if not isinstance(passage, dict) or not isinstance(passage.get("text"), str):
                    raise InputError(f"{place}: a passage of {key} is {str(passage)[:60]}; wanted an object with 'text'")
                if self.scored and type(passage.get("score")) not in (int, float):
                    raise InputError(f"{place}: a passage of {key} has the score {passage.get('score')!r}; distillation wants a number")


def plain_file(file: Path, folder: Path) -> Path:
    """The file itself, or what a .gz holds, expanded once into `folder`: lines are looked up by their place."""
    if file.suffix != ".gz":
        return file
    target = folder / file.stem
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        try:
            with gzip.open(file) as source, partial.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        except OSError as error:
            raise InputError(f"{file} cannot be expanded into {folder}: {error}") from error
        partial.replace(target)
    return target


def key(text: str) -> int:
    """A text's 63-bit hash: tells equal queries and passages of a batch, over all processes."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def _passage(record: dict[str, Any]) -> Passage:
    text = f"{record.get('title') or ''} {record['text']}".strip()
    return Passage(str(record.get("docid", text)), text, record.get("score"))
