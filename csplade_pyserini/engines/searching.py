"""Topics to a run out of an engine, with the encoder that the engine's metadata names."""

import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from csplade_pyserini.cards import find_maker, same_encoder
from csplade_pyserini.collections.manifests import encoder_of, manifest_path
from csplade_pyserini.collections.query_files import is_query_file, vectors_of_file
from csplade_pyserini.collections.topics import Topics
from csplade_pyserini.engines.dimensions import Dimensions, dimensions_of
from csplade_pyserini.engines.patience import patiently
from csplade_pyserini.engines.preflight import fit_queries, refuse_hits
from csplade_pyserini.engines.target import Hit, Identity, Query, Target
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.impacts import Vector
from csplade_pyserini.query_sides import QuerySource, build_queries, find_queries
from csplade_pyserini.query_sides.table import read_table

Run = dict[str, list[Hit]]
"""Hits of each qid, best first."""
TAG = "csplade"


def read_identity(target: Target) -> Identity:
    """Read what a target holds. Raises InputError if it does not exist."""
    identity = patiently(target.identity)
    if identity is None:
        raise InputError(f"{target.place} does not exist; csplade_pyserini.export makes it")
    return identity


def query_vectors(
    encoder: str | None, topics: Topics, identity: Identity, origin: object
) -> tuple[dict[str, Vector], Dimensions]:
    """Vectors of topics by qid, and their dimensions.

    encoder: a name, of a lookup too, or a query file; None: the encoder that made the documents. Raises
    InputError if another encoder did.
    """
    if encoder is not None and is_query_file(encoder):
        return _read_vectors(Path(encoder), topics, identity, origin)
    source = find_queries(encoder or find_maker(identity.encoder, origin)[0])
    refuse_mismatched_queries(identity, source.identity, origin)
    vectors = build_queries(source).encode_queries(list(topics.values()))
    return dict(zip(topics, vectors, strict=True)), _dimensions(source)


def refuse_mismatched_queries(identity: Identity, encoder: str, origin: object) -> None:
    """Raise InputError if another encoder made the documents than the queries."""
    if os.environ.get("CSPLADE_ALLOW_MISMATCH") == "1" or same_encoder(identity.encoder, encoder):
        return
    raise InputError(
        f"{origin} was encoded by {identity.encoder}, the queries by {encoder}: their scores would mean "
        f"nothing (CSPLADE_ALLOW_MISMATCH=1 to mean it)"
    )


def search(
    target: Target,
    vectors: Mapping[str, Vector],
    dimensions: Dimensions,
    *,
    hits: int,
    batch_size: int,
    scale: float = 1.0,
) -> Run:
    """Search for each vector; scores are inner products of impacts as `encode` made them.

    scale: factor that the target's impacts were multiplied by. Equal scores are ordered by docid. Raises
    InputError on what the engine cannot do.
    """
    refuse_hits(target.limits, hits)
    run: Run = {qid: [] for qid in vectors}
    asked = [qid for qid, vector in vectors.items() if vector]
    queries = [_query(vectors[qid], dimensions, f"query {qid!r}") for qid in asked]
    queries, factor = fit_queries(target.limits, queries, asked)
    with tqdm(total=len(asked), desc="searching", unit="query", delay=2) as bar:
        for batch in itertools.batched(zip(asked, queries, strict=True), batch_size):
            found = patiently(_call(target, [query for _, query in batch], hits))
            for (qid, _), best in zip(batch, found, strict=True):
                scored = [(docid, score * factor / scale) for docid, score in best if score > 0]
                run[qid] = sorted(scored, key=lambda hit: (-hit[1], hit[0]))
            bar.update(len(batch))
    return run


def write_run(run: Run, path: Path) -> None:
    """Write a run in TREC's format."""
    with whole_file(path) as file:
        for qid, hits in run.items():
            for rank, (docid, score) in enumerate(hits, start=1):
                file.write(f"{qid} Q0 {docid} {rank} {score:.6f} {TAG}\n")


def compare_runs(wanted: Run, found: Run, depths: Sequence[int]) -> tuple[dict[int, float], float]:
    """Mean overlap at each depth, and the largest relative difference of scores at any rank of any query.

    Documents that tie with the last of a depth may stand for each other. A rank that one run alone has
    counts as a difference of 1.
    """
    overlaps = {}
    for depth in depths:
        shares = [_overlap(wanted[qid], found.get(qid, []), depth) for qid in wanted if wanted[qid]]
        overlaps[depth] = math.fsum(shares) / len(shares) if shares else 1.0
    largest = 0.0
    for qid in wanted:
        pairs = itertools.zip_longest(wanted[qid], found.get(qid, []))
        for one, other in pairs:
            if one is None or other is None:
                return overlaps, 1.0
            largest = max(largest, abs(one[1] - other[1]) / abs(one[1]))
    return overlaps, largest


def _overlap(wanted: Sequence[Hit], found: Sequence[Hit], depth: int) -> float:
    best = wanted[:depth]
    docids = {docid for docid, _ in best}
    last = best[-1][1]
    tied = {docid for docid, score in wanted[depth:] if score == last}
    beyond = {docid for docid, _ in wanted}
    is_cut = wanted[-1][1] == last  # documents behind the list may tie as well
    common = 0
    for docid, score in found[:depth]:
        stands_for_another = docid not in beyond and is_cut and math.isclose(score, last, rel_tol=1e-6)
        common += docid in docids or docid in tied or stands_for_another
    return min(common, len(best)) / len(best)


def _query(vector: Vector, dimensions: Dimensions, place: str) -> Query:
    pairs = dimensions.of(vector, place)
    return Query([dimension for dimension, _ in pairs], [float(weight) for _, weight in pairs])


def _call(target: Target, queries: list[Query], hits: int) -> Callable[[], list[list[Hit]]]:
    return lambda: target.search(queries, hits)


def _read_vectors(
    file: Path, topics: Topics, identity: Identity, origin: object
) -> tuple[dict[str, Vector], Dimensions]:
    _, checkpoint = find_maker(identity.encoder, origin)
    used = encoder_of(file) if manifest_path(file).is_file() else None
    refuse_mismatched_queries(identity, used or checkpoint.identity, origin)
    return vectors_of_file(file, topics), dimensions_of(checkpoint)


def _dimensions(source: QuerySource) -> Dimensions:
    """Read the vocabulary of the encoder that queries are for.

    The terms in the table of a lookup do without that encoder. Folds have numbers of their own, which are not
    in the table. Raises InputError without both.
    """
    if source.table is not None and source.card.fold == "none":
        terms = [term or None for term in read_table(source.table).terms]
        return Dimensions(terms, source.name)
    if source.checkpoint is not None:
        return dimensions_of(source.checkpoint)
    raise InputError(
        f"the dimensions of {source.name} are its vocabulary's: wanted the encoder of the documents here, "
        f"its tokenizer at least"
    )
