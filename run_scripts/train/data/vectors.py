"""Sparse weights of many texts: records, rankings and inner products."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from outputs import Record
from tqdm import tqdm

from csplade_pyserini.errors import InputError

try:
    from scipy.sparse import csr_matrix, vstack
except ImportError as error:
    raise InputError("scipy is not installed: pip install 'csplade_pyserini[train]'") from error

__all__ = ["Vectors", "csr_matrix", "pair_scores", "rankings", "vector_records", "vstack"]

IMPACT = 100
"""Factor from the teacher's weights to whole impacts."""
RANKED_QUERIES = 256
"""Number of queries ranked at once."""
SCORED_PAIRS = 8192
"""Number of pairs scored at once."""


@dataclass(frozen=True)
class Vectors:
    """The teacher's weights (N, V) for N texts that go by ids."""

    ids: list[str]
    weights: csr_matrix

    def rows(self, ids: Iterable[str]) -> csr_matrix:
        """Return the weights (n, V) of some texts."""
        at = {name: row for row, name in enumerate(self.ids)}
        return self.weights[[at[name] for name in ids]]


def vector_records(vectors: Vectors, terms: Sequence[str], most: int) -> Iterator[Record]:
    """Yield records of a JsonVectorCollection with the `most` heaviest terms of each text."""
    weights = vectors.weights
    for name, start, stop in zip(vectors.ids, weights.indptr, weights.indptr[1:], strict=False):
        impacts = np.rint(IMPACT * weights.data[start:stop]).astype(int)
        heaviest = np.argsort(-weights.data[start:stop], kind="stable")[:most]
        columns = weights.indices[start:stop]
        vector = {terms[columns[at]]: int(impacts[at]) for at in heaviest if impacts[at] > 0}
        yield {"id": name, "contents": "", "vector": vector}


def rankings(queries: csr_matrix, passages: csr_matrix, depth: int, what: str) -> Iterator[NDArray[np.int64]]:
    """Yield the row numbers of each query's best passages, best first.

    There are at most `depth`, and only passages that score above 0. The progress bar shows `what`.
    """
    inverted = passages.T.tocsr()
    starts = range(0, queries.shape[0], RANKED_QUERIES)
    for start in tqdm(starts, desc=f"rank {what}", unit="batch", mininterval=5):
        scores = (queries[start : start + RANKED_QUERIES] @ inverted).toarray()  # (B, N)
        deep = min(depth, scores.shape[1])
        for row, best in zip(scores, np.argpartition(-scores, deep - 1, axis=1)[:, :deep], strict=True):
            best = best[np.lexsort((best, -row[best]))]  # equal scores in the order of the passages
            yield best[row[best] > 0]


def pair_scores(queries: Vectors, passages: Vectors, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
    """Return the inner product of each (query, passage) pair: float32 (N)."""
    scores = np.empty(len(pairs), dtype=np.float32)
    for start in tqdm(range(0, len(pairs), SCORED_PAIRS), desc="score", unit="batch", mininterval=5):
        names, others = zip(*pairs[start : start + SCORED_PAIRS], strict=True)
        products = queries.rows(names).multiply(passages.rows(others))
        scores[start : start + SCORED_PAIRS] = np.asarray(products.sum(axis=1)).ravel()
    return scores
