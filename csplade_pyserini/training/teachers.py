"""A teacher's vectors, from a JsonVectorCollection in the terms of the student's vocabulary."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.collections.manifests import manifest_path, read_collection_manifest
from csplade_pyserini.collections.vectors import VectorRecord
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import is_jsonl, numbered_lines, parse_record
from csplade_pyserini.impacts import empty_term
from csplade_pyserini.model.vocabulary import Vocabulary

_PLAIN = EncoderCard(name="student")
_NUMBERS = frozenset((int, float))


class TeacherVectors:
    """Vectors by id, as arrays: about 8 bytes a term."""

    def __init__(
        self,
        folder: Path,
        tokenizer: PreTrainedTokenizerBase,
        vocabulary: int,
        impact_scale: float,
        *,
        card: EncoderCard = _PLAIN,
    ) -> None:
        """impact_scale: impact of a weight of 1, unless a manifest beside the folder says it.

        card: the student's. Raises InputError on a bad record, on a term that the student does not have, and
        if the terms of only one side are folded.
        """
        self.folder = folder
        if manifest_path(folder).is_file():
            teacher = read_collection_manifest(folder).card
            impact_scale = teacher["impact_scale"]
            fold = teacher.get("fold", _PLAIN.fold)
            if fold != card.fold:
                raise InputError(
                    f"the teacher's vectors {folder} have fold = {fold!r}, the student's card has "
                    f"{card.fold!r}: their terms differ; encode them by a teacher that folds as the student"
                )
        terms = Vocabulary(card, tokenizer, vocabulary).terms
        term_ids = {term: number for number, term in enumerate(terms) if term is not None}
        empty = empty_term(terms)
        self._vectors: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for docid, vector, place in _records(folder):
            vector.pop(empty, None)
            _check_vector(vector, term_ids, place)
            token_ids = np.fromiter(map(term_ids.__getitem__, vector), np.int32, len(vector))
            impacts = np.fromiter(vector.values(), np.float32, len(vector))
            self._vectors[docid] = (token_ids, impacts / np.float32(impact_scale))

    def sparse(self, ids: Sequence[str]) -> dict[str, Tensor]:
        """Rows, terms and weights of the vectors of these ids. Raises InputError if one is missing."""
        for name in ids:
            if name not in self._vectors:
                raise InputError(f"the teacher has no vector of {name!r} in {self.folder}")
        terms = [self._vectors[name][0] for name in ids]
        weights = [self._vectors[name][1] for name in ids]
        counts = torch.tensor([len(row) for row in terms])
        return {
            "teacher_rows": torch.repeat_interleave(torch.arange(len(ids)), counts),
            "teacher_terms": torch.from_numpy(np.concatenate(terms).astype(np.int64)),
            "teacher_weights": torch.from_numpy(np.concatenate(weights)),
        }


def _records(folder: Path) -> Iterator[VectorRecord]:
    """Records of a teacher's collection.

    Their ids are not checked as docids: a query without an id is looked up by its text.
    """
    if not folder.is_dir():
        raise InputError(f"the teacher's vectors {folder} do not exist; wanted a folder that encode wrote")
    for file in sorted(file for file in folder.iterdir() if is_jsonl(file.name)):
        lines = tqdm(numbered_lines(file), desc=f"reading {file.name}", unit="vector")
        for place, line in lines:
            record = parse_record(line, place)
            if not isinstance(record.get("vector"), dict) or "id" not in record:
                raise InputError(f"{place}: wanted an object with 'id' and 'vector'")
            yield VectorRecord(str(record["id"]), record["vector"], place)


def _check_vector(vector: dict[str, Any], term_ids: Mapping[str, int], place: object) -> None:
    """Raise InputError on a term that the student does not have, and on an impact that is not above 0."""
    if not vector.keys() <= term_ids.keys():
        unknown = vector.keys() - term_ids.keys()
        raise InputError(f"{place}: the student's vocabulary has no term {min(unknown)!r}")
    # Checked as a whole first: a large collection has billions of impacts.
    impacts = vector.values()
    if not vector:
        return
    if _NUMBERS.issuperset(map(type, impacts)) and min(impacts) > 0 and sum(impacts) < math.inf:
        return
    for term, impact in vector.items():
        if type(impact) not in _NUMBERS or not 0 < impact < math.inf:
            raise InputError(f"{place}: the impact of {term!r} is {impact!r}; wanted a number above 0")
