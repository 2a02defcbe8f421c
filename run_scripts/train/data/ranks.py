"""The command `ranks`: queries, each with passages and a teacher's scores of them.

A score mixes the inner product of the vectors that `vectors` wrote with the cosine of a dense encoder.
"""

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import batched
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from outputs import Record, absent, read_contents, write_lines
from scipy.sparse import csr_matrix
from tqdm import tqdm
from vectors import IMPACT

from csplade_pyserini.collections.vectors import read_record
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import numbered_lines

Scores = NDArray[np.float32]

PASSAGES = 10
"""Passages of a query: the best, and others from the first DEPTH, most of them near the top."""
DEPTH = 200
LEAST_SCORE = 25.0
"""Queries whose best passage has a lower score are left out: no passage is about them."""
DENSE_WEIGHT = 1.0
"""Weight of the cosine, brought to the spread of the inner product, which weighs 1."""
DENSE_TOKENS = 128
"""Tokens of a text that the dense encoder reads."""
BATCH_QUERIES = 256


@dataclass(frozen=True)
class Group:
    """Queries that are ranked over the same passages."""

    queries: tuple[str, ...]
    """Sources of the queries."""
    passages: tuple[str, ...]
    """Sources of the passages."""
    most: int
    """Most queries of a source."""


GROUPS = (
    Group(
        queries=("triviaqa", "squad-dev", "miracl-en-train", "webquestions", "clapnq", "curatedtrec",
                 "mrtydi-en-train"),
        passages=("msmarco",), most=8_000,
    ),
    Group(
        queries=("medquad", "clapnq", "xquad", "10k", "squad-dev", "webquestions"),
        passages=("medquad", "wikipedia", "clapnq", "xquad", "10k"), most=4_000,
    ),
    Group(queries=("crop",), passages=("msmarco", "medquad", "wikipedia", "clapnq"), most=12_000),
)  # fmt: skip


@dataclass(frozen=True)
class Texts:
    """Texts of one side, with their vectors in the same order."""

    ids: list[str]
    texts: list[str]
    vectors: csr_matrix
    """(N, V), float32 weights."""

    def only(self, rows: Sequence[int]) -> "Texts":
        """Return the texts of these rows, in this order."""
        return Texts([self.ids[row] for row in rows], [self.texts[row] for row in rows], self.vectors[rows])


def prepare_ranks(
    queries: Path, passages: Path, vectors: Path, dense_folder: Path, output: Path, seed: int
) -> None:
    """Write examples with scores. Raises InputError if a file or a vector is missing.

    vectors: folder with `queries` and `passages`, as `vectors` writes them. dense_folder: a model of
    sentence-transformers.
    """
    if not absent(output):
        return
    terms: dict[str, int] = {}
    all_queries = read_texts(queries, vectors / "queries", terms)
    all_passages = read_texts(passages, vectors / "passages", terms)
    write_lines(output, ranked(all_queries, all_passages, dense_folder, len(terms), seed))


def read_texts(file: Path, folder: Path, terms: dict[str, int]) -> Texts:
    """Read texts and their vectors; a text without a vector is left out. New terms get the next numbers."""
    contents = dict(read_contents(file))
    ids = []
    starts = [0]
    columns: list[int] = []
    impacts: list[int] = []
    for part in sorted(folder.glob("part-*.jsonl")):
        for place, line in numbered_lines(part):
            record = read_record(line, place)
            if record.docid not in contents:
                raise InputError(f"{place}: {record.docid} is not in {file}; make the vectors again")
            ids.append(record.docid)
            columns += [terms.setdefault(term, len(terms)) for term in record.vector]
            impacts += record.vector.values()
            starts.append(len(columns))
    if not ids:
        raise InputError(f"no vectors in {folder}; make them with the command vectors")
    weights = np.array(impacts, dtype=np.float32) / IMPACT
    matrix = csr_matrix((weights, np.array(columns), starts))
    return Texts(ids, [contents[name] for name in ids], matrix)


def ranked(
    queries: Texts, passages: Texts, dense_folder: Path, vocabulary: int, seed: int
) -> Iterator[Record]:
    """Yield the examples of all groups."""
    for texts in (queries, passages):
        texts.vectors.resize(len(texts.ids), vocabulary)
    rng = random.Random(f"{seed}:ranks")
    for number, group in enumerate(GROUPS):
        chosen = queries.only(chosen_rows(queries.ids, group.queries, group.most, rng))
        pool = passages.only(chosen_rows(passages.ids, group.passages, len(passages.ids), rng))
        if not chosen.ids or not pool.ids:
            print(f"group {number}: no queries or no passages, left out", file=sys.stderr)
            continue
        dense = embeddings(dense_folder, chosen.texts), embeddings(dense_folder, pool.texts)
        yield from group_examples(chosen, pool, dense, rng)


def chosen_rows(ids: Sequence[str], sources: tuple[str, ...], most: int, rng: random.Random) -> list[int]:
    """Return rows of the sources in random order, at most `most` of each."""
    rows = []
    for source in sources:
        own = [row for row, name in enumerate(ids) if name.partition(":")[0] == source]
        rows += rng.sample(own, min(most, len(own)))
    return rows


def embeddings(folder: Path, texts: list[str]) -> Scores:
    """Return unit vectors (N, H) of a dense encoder. Raises InputError if `folder` holds none."""
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(str(folder))
    except (OSError, ValueError) as error:
        raise InputError(f"no model of sentence-transformers in {folder}: {error}") from error
    model.max_seq_length = DENSE_TOKENS
    found: Scores = model.encode(texts, normalize_embeddings=True, show_progress_bar=True)
    return found


def group_examples(
    queries: Texts, passages: Texts, dense: tuple[Scores, Scores], rng: random.Random
) -> Iterator[Record]:
    """Yield an example for each query that a passage is about.

    dense: unit vectors of the queries (Q, H) and of the passages (P, H).
    """
    transposed = passages.vectors.T.tocsr()
    rows = range(len(queries.ids))
    for batch in batched(tqdm(rows, desc="rank", unit="query", mininterval=5), BATCH_QUERIES):
        products = (queries.vectors[list(batch)] @ transposed).toarray()  # (B, P)
        cosines = dense[0][list(batch)] @ dense[1].T  # (B, P)
        for row, own, similarity in zip(batch, products, cosines, strict=True):
            candidates = np.union1d(highest(own), highest(similarity))
            scores = mixed(own[candidates], similarity[candidates])
            order = np.argsort(-scores, kind="stable")
            if scores[order[0]] < LEAST_SCORE:
                continue
            places = [order[rank] for rank in sampled_ranks(len(order), rng)]
            scored = [(candidates[place], scores[place]) for place in places]
            yield example(queries, row, passages, scored)


def highest(scores: Scores) -> NDArray[np.intp]:
    """Return the columns of the DEPTH highest scores, in no order."""
    if len(scores) <= DEPTH:
        return np.arange(len(scores))
    return np.argpartition(-scores, DEPTH)[:DEPTH]


def mixed(products: Scores, cosines: Scores) -> Scores:
    """Return weighted sums, brought back to mean and spread of the products."""
    deviations = (cosines - cosines.mean()) / max(1e-6, float(cosines.std()))
    total = (products - products.mean()) / max(1e-6, float(products.std())) + DENSE_WEIGHT * deviations
    spread = float(products.std()) / max(1e-6, float(total.std()))
    scores: Scores = (products.mean() + spread * (total - total.mean())).astype(np.float32)
    return scores


def sampled_ranks(count: int, rng: random.Random) -> list[int]:
    """Return 0 and other ranks below `count` in order, evenly drawn on a logarithmic scale."""
    ranks = {0}
    while len(ranks) < min(PASSAGES, count):
        ranks.add(min(count - 1, round((count - 1) ** rng.random())))
    return sorted(ranks)


def example(queries: Texts, row: int, passages: Texts, scored: list[tuple[int, float]]) -> Record:
    """Return a query's passages with their scores, best first, as a training example."""
    listed = [
        {"docid": passages.ids[at], "title": "", "text": passages.texts[at], "score": round(float(score), 2)}
        for at, score in scored
    ]
    return {
        "query_id": queries.ids[row],
        "query": queries.texts[row],
        "positive_passages": listed[:1],
        "negative_passages": listed[1:],
    }
