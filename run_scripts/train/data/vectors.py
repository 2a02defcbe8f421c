"""The command `vectors`: the vectors that an encoder learns, in parts of a JsonVectorCollection.

A vector is the teacher's, in the encoder's terms, with lexical weights on top. Light terms are left out.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import batched
from pathlib import Path

import numpy as np
from lexical import Lexical
from mapping import SharedTerms, SharedWords
from outputs import Record, absent, read_contents, write_lines
from scipy.sparse import csr_matrix
from teacher import Teacher
from transformers import PreTrainedTokenizerBase

from csplade_pyserini.cards import Checkpoint, EncoderCard, Side, parse_card
from csplade_pyserini.files.tables import read_toml
from csplade_pyserini.model.backbone import load_tokenizer

IMPACT = 50
"""Factor from the teacher's weights to impacts.

The encoder's impact scale is 100, so it learns half of each weight: w = log1p(logit) wants logits of e^w.
"""
PART_TEXTS = 8_000
"""Texts of one part. A part that is there is kept: run again to resume."""


@dataclass(frozen=True)
class Mixture:
    """How the vectors of one side are made."""

    length: int
    """Tokens of a text that the teacher reads."""
    counted: int
    """Tokens of a text that have lexical weights."""
    lexical: float
    """Factor of the lexical weights. More gains little on NFCorpus dev, and loses on the sample."""
    least: float
    """Lighter terms are left out."""


MIXTURES: dict[Side, Mixture] = {
    "document": Mixture(length=320, counted=256, lexical=0.5, least=0.5),
    "query": Mixture(length=144, counted=32, lexical=0.3, least=0.3),
}


def prepare_vectors(
    side: Side, texts: Path, passages: Path, teacher_folder: Path, tokenizer_source: Path, output: Path
) -> None:
    """Write the vectors of the texts in a JSON Lines file. Raises InputError if a part is missing."""
    parts = list(batched(read_contents(texts), PART_TEXTS))
    files = [output / f"part-{number:02}.jsonl" for number in range(len(parts))]
    missing = [file for file in files if absent(file)]
    if not missing:
        return
    tokenizer = read_tokenizer(tokenizer_source)
    vocabulary = tokenizer.get_vocab()
    teacher = Teacher(teacher_folder)
    mapping: SharedTerms | SharedWords = SharedWords(teacher.terms, teacher.tokenizer, tokenizer)
    if set(vocabulary) <= set(teacher.terms):
        teacher = Teacher(teacher_folder, list(vocabulary))
        mapping = SharedTerms(teacher.terms, tokenizer)
    lexical = Lexical((contents for _, contents in read_contents(passages)), tokenizer)
    mixture = MIXTURES[side]
    for file, part in zip(files, parts, strict=True):
        if file not in missing:
            continue
        contents = [text for _, text in part]
        own = lexical.documents if side == "document" else lexical.queries
        weights = mapping.mapped(teacher.encode(contents, mixture.length, file.name), contents)
        weights = (weights + mixture.lexical * own(contents, mixture.counted)).tocsr()
        weights.data[weights.data < mixture.least] = 0
        weights.eliminate_zeros()
        write_lines(file, vector_records([name for name, _ in part], weights, tokenizer))
        print(f"{file}: {weights.nnz / len(part):.1f} terms each", file=sys.stderr)


def read_tokenizer(source: Path) -> PreTrainedTokenizerBase:
    """Load a folder's tokenizer, or the base's that a training configuration names. Raises InputError."""
    if source.suffix == ".toml":
        card = parse_card(read_toml(source, "configuration")["card"], str(source))
        return load_tokenizer(Checkpoint(card, None))
    return load_tokenizer(Checkpoint(EncoderCard(name="tokenizer"), source))


def vector_records(
    ids: Sequence[str], weights: csr_matrix, tokenizer: PreTrainedTokenizerBase
) -> Iterator[Record]:
    """Yield the records of a JsonVectorCollection."""
    terms = tokenizer.convert_ids_to_tokens(list(range(weights.shape[1])))
    for name, start, stop in zip(ids, weights.indptr, weights.indptr[1:], strict=False):
        impacts = np.rint(IMPACT * weights.data[start:stop]).astype(int).tolist()
        columns = weights.indices[start:stop].tolist()
        vector = {terms[column]: impact for column, impact in zip(columns, impacts, strict=True)}
        yield {"id": name, "contents": "", "vector": vector}
