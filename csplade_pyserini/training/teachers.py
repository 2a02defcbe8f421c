"""A teacher's vectors, out of a JsonVectorCollection whose terms are those of the student's vocabulary."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from csplade_pyserini.collections.manifests import manifest_path, read_collection_manifest
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import JSONL_ENDINGS, parse_record, read_lines
from csplade_pyserini.impacts import empty_term
from csplade_pyserini.model.encoder import vocabulary_terms


class TeacherVectors:
    """Vectors by id, as arrays: about 8 bytes a term."""

    def __init__(
        self, folder: Path, tokenizer: PreTrainedTokenizerBase, vocabulary: int, impact_scale: float
    ) -> None:
        """impact_scale: what a weight of 1 is in impacts, where no manifest beside the folder says so.

        Raises InputError on a bad record and on a term that the student's vocabulary does not have.
        """
        self.folder = folder
        if manifest_path(folder).is_file():
            impact_scale = read_collection_manifest(folder).card["impact_scale"]
        terms = vocabulary_terms(tokenizer, vocabulary)
        term_ids = {term: token_id for token_id, term in enumerate(terms) if term is not None}
        empty = empty_term(terms)
        self._vectors: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        if not folder.is_dir():
            raise InputError(
                f"the teacher's vectors {folder} do not exist; wanted a folder that encode wrote"
            )
        for file in sorted(file for file in folder.iterdir() if file.name.endswith(JSONL_ENDINGS)):
            for number, line in enumerate(
                tqdm(read_lines(file), desc=f"reading {file.name}", unit="vector"), start=1
            ):
                record = parse_record(line, f"{file}:{number}")
                if not isinstance(record.get("vector"), dict) or "id" not in record:
                    raise InputError(f"{file}:{number}: wanted an object with 'id' and 'vector'")
                vector = {term: impact for term, impact in record["vector"].items() if term != empty}
                unknown = vector.keys() - term_ids.keys()
                if unknown:
                    raise InputError(
                        f"{file}:{number}: the student's vocabulary has no term {min(unknown)!r}"
                    )
                for term, impact in vector.items():
                    if type(impact) not in (int, float) or not 0 < impact < math.inf:
                        raise InputError(
                            f"{file}:{number}: the impact of {term!r} is {impact!r}; wanted a number above 0"
                        )
                token_ids = np.array([term_ids[term] for term in vector], dtype=np.int32)
                self._vectors[str(record["id"])] = (
                    token_ids,
                    np.array(list(vector.values()), dtype=np.float32) / np.float32(impact_scale),
                )

    def sparse(self, ids: Sequence[str]) -> dict[str, Tensor]:
        """Rows, terms and weights of the vectors of these ids. Raises InputError where one is missing."""
        for missing in (name for name in ids if name not in self._vectors):
            raise InputError(f"the teacher has no vector of {missing!r} in {self.folder}")
        vectors = [self._vectors[name] for name in ids]
        return {
            "teacher_rows": torch.repeat_interleave(
                torch.arange(len(ids)), torch.tensor([len(terms) for terms, _ in vectors])
            ),
            "teacher_terms": torch.from_numpy(
                np.concatenate([terms for terms, _ in vectors]).astype(np.int64)
            ),
            "teacher_weights": torch.from_numpy(np.concatenate([weights for _, weights in vectors])),
        }
