"""The command `pairs`: texts, training examples and the teacher's vectors."""

import random
import sys
from collections import Counter
from pathlib import Path

from drafts import Material, read_material
from examples import Scored, write_examples
from outputs import absent, write_lines
from teacher import Teacher
from texts import read_texts
from tqdm import tqdm
from vectors import Vectors, vector_records

DOCUMENT_TERMS = 200
"""Terms kept in the teacher's vector of a passage."""
QUERY_TERMS = 64
"""Terms kept in the teacher's vector of a query."""


def prepare_pairs(data: Path, output: Path, teacher_folder: Path | None, seed: int) -> None:
    """Write texts.jsonl, examples.jsonl and, with a teacher, teacher/{queries,documents}/vectors.jsonl.

    Some passages stand in no example: 10-K passages without a question, TREC QA sentences that were not
    drawn. They have teacher's vectors too.
    """
    write_texts(output / "texts.jsonl", data, seed)
    files = [output / "examples.jsonl"]
    if teacher_folder:
        files += [output / "teacher" / kind / "vectors.jsonl" for kind in ("queries", "documents")]
    missing = [file for file in files if absent(file)]
    if not missing:
        return
    material = read_material(data, seed)
    scored = None
    if teacher_folder:
        scored = encode_material(material, Teacher(teacher_folder), output / "teacher")
    if files[0] in missing:
        write_examples(files[0], material, scored, random.Random(f"{seed}:negatives"))


def write_texts(path: Path, data: Path, seed: int) -> None:
    """Write the texts for language modelling in random order."""
    if not absent(path):
        return
    texts = [{"id": name, "contents": text} for name, text in read_texts(data)]
    random.Random(f"{seed}:texts").shuffle(texts)
    write_lines(path, texts)
    print(f"texts: {dict(Counter(text['id'].partition(':')[0] for text in texts))}", file=sys.stderr)


def encode_material(material: Material, teacher: Teacher, folder: Path) -> Scored:
    """Encode all queries and passages, and write their vectors if they are not there."""
    return Scored(
        encode_side(material.queries, "queries", QUERY_TERMS, teacher, folder),
        encode_side(material.passages, "documents", DOCUMENT_TERMS, teacher, folder),
    )


def encode_side(texts: dict[str, str], kind: str, most: int, teacher: Teacher, folder: Path) -> Vectors:
    """Encode the texts of one side, and write their vectors if they are not there."""
    side = Vectors(list(texts), teacher.encode(list(texts.values()), kind))
    print(f"{kind}: {len(texts)}, {side.weights.nnz / len(texts):.1f} terms each", file=sys.stderr)
    path = folder / kind / "vectors.jsonl"
    if not path.exists():
        records = vector_records(side, teacher.terms(), most)
        write_lines(path, tqdm(records, desc=f"write {kind}", total=len(texts), mininterval=5))
    return side
