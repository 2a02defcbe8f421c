"""Small collections with a made-up vocabulary, so that no tokenizer is loaded."""

import random
from pathlib import Path

from csplade_pyserini.collections.vectors import record_line
from csplade_pyserini.engines.dimensions import Dimensions
from csplade_pyserini.engines.documents import Source, open_source
from csplade_pyserini.engines.searching import Run
from csplade_pyserini.impacts import Vector, dot

TERMS = [f"t{number}" for number in range(300)]
ENCODER = "csplade-tiny"
"""Encoder that the collections claim to be of."""


def dimensions() -> Dimensions:
    """Dimensions of the made-up vocabulary."""
    return Dimensions(TERMS, ENCODER)


def random_vector(chance: random.Random, terms: int, largest: int = 400) -> Vector:
    """Make a vector."""
    return {term: chance.randint(1, largest) for term in chance.sample(TERMS, terms)}


def write_collection(folder: Path, documents: dict[str, Vector], files: int = 1) -> Path:
    """Write vectors as another program would: without a manifest."""
    folder.mkdir(parents=True)
    rows = list(documents.items())
    for number in range(files):
        with (folder / f"part-{number}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(record_line(docid, "", vector) for docid, vector in rows[number::files])
    return folder


def random_collection(folder: Path, documents: int = 60, files: int = 2, largest: int = 400) -> Path:
    """Write random vectors."""
    chance = random.Random(documents)
    vectors = {f"d{number}": random_vector(chance, 20, largest) for number in range(documents)}
    return write_collection(folder, vectors, files)


def source_of(collection: Path, **options: object) -> Source:
    """Open a collection as csplade-tiny's."""
    return open_source(collection, encoder=ENCODER, **options)


def queries(number: int = 8) -> dict[str, Vector]:
    """Make query vectors; one weight is beyond what FeatureField's queries take."""
    chance = random.Random(1)
    vectors = {f"q{index}": random_vector(chance, 12, 90) for index in range(number)}
    vectors["q0"] |= {"t1": 900}
    return vectors


def exact_run(documents: dict[str, Vector], vectors: dict[str, Vector], hits: int) -> Run:
    """Score every document by the inner product."""
    run = {}
    for qid, query in vectors.items():
        scored = [(docid, float(dot(query, vector))) for docid, vector in documents.items()]
        found = [hit for hit in scored if hit[1] > 0]
        run[qid] = sorted(found, key=lambda hit: (-hit[1], hit[0]))[:hits]
    return run
