"""Measure what a dtype of 16 bits changes: impacts, terms and effectiveness against float32.

    python experiments/dtypes.py --encoder csplade-tiny csplade-bi-smol --collection beir/nfcorpus/test

Documents and queries are encoded once in each dtype, and compared with float32. `changed` is the share of
document impacts that differ, over the terms of either. `by` is the mean difference of all impacts. `terms` is
the share of float32's terms that are missing. Scores are inner products of impacts, so no index is built.
"""

import argparse
import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import ir_measures
import numpy as np

from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.manifests import versions
from csplade_pyserini.collections.topics import Qrels, read_qrels, read_topics
from csplade_pyserini.command_line import positive, run
from csplade_pyserini.files.pages import markdown_table
from csplade_pyserini.impacts import Vector
from csplade_pyserini.model import load_encoder
from csplade_pyserini.reproduction.catalogue import TestCollection, find_collections
from csplade_pyserini.reproduction.records import described, hardware

DTYPES = ("float32", "float16", "bfloat16")
DEPTH = 10
METRIC = ir_measures.nDCG @ DEPTH


class Encoded(NamedTuple):
    """Vectors of one dtype, by docid and qid."""

    documents: dict[str, Vector]
    queries: dict[str, Vector]


class Change(NamedTuple):
    """Differences between a dtype's vectors and float32's."""

    changed: float
    by: float
    missing: float


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    [collection] = find_collections(args.collection)
    topics = collection.topics[0]
    qrels = read_qrels(topics.qrels or topics.topics)
    rows = []
    for name in args.encoder:
        encoded = {dtype: encode(name, dtype, args, collection) for dtype in DTYPES}
        for dtype, vectors in encoded.items():
            change = compare(encoded[DTYPES[0]].documents, vectors.documents)
            ndcg = mean_ndcg(vectors, qrels)
            cells = (f"{change.changed:.2%}", f"{change.by:.4f}", f"{change.missing:.2%}", f"{ndcg:.4f}")
            rows.append([name, dtype, *cells])
    print(f"{collection.name}, {args.device}; {described(versions())}; {described(hardware())}\n")
    print(markdown_table(["encoder", "dtype", "changed", "by", "terms", str(METRIC)], rows))
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", nargs="+", default=["csplade-tiny"], metavar="NAME")
    parser.add_argument(
        "--collection", default="sample", metavar="NAME", help="test collection (default: sample)"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--documents", type=positive, metavar="N", help="encode only the first N documents")
    return parser.parse_args(argv)


def encode(name: str, dtype: str, args: argparse.Namespace, collection: TestCollection) -> Encoded:
    """Encode a test collection in one dtype."""
    encoder = load_encoder(name, dtype=dtype, device=args.device)
    documents = list(open_corpus(collection.corpus).documents())[: args.documents]
    topics = read_topics(collection.topics[0].topics)
    vectors = encoder.encode_documents([document.text for document in documents])
    queries = encoder.encode_queries(list(topics.values()))
    return Encoded(
        {document.docid: vector for document, vector in zip(documents, vectors, strict=True)},
        dict(zip(topics, queries, strict=True)),
    )


def compare(before: dict[str, Vector], now: dict[str, Vector]) -> Change:
    """Compare vectors with those of float32."""
    differences: list[int] = []
    missing = 0
    for docid, vector in before.items():
        other = now[docid]
        terms = vector.keys() | other.keys()
        differences += [abs(vector.get(term, 0) - other.get(term, 0)) for term in terms]
        missing += len(vector.keys() - other.keys())
    total = sum(map(len, before.values()))
    return Change(
        np.count_nonzero(differences) / len(differences), statistics.mean(differences), missing / total
    )


def mean_ndcg(vectors: Encoded, qrels: Qrels) -> float:
    """Mean nDCG@10 over the judged topics."""
    postings: dict[str, list[tuple[str, int]]] = {}
    for docid, vector in vectors.documents.items():
        for term, impact in vector.items():
            postings.setdefault(term, []).append((docid, impact))
    judged = {qid: grades for qid, grades in qrels.items() if qid in vectors.queries}
    run = {qid: dict(_hits(vectors.queries[qid], postings, qid)) for qid in judged}
    return float(ir_measures.calc_aggregate([METRIC], judged, run)[METRIC])


def _hits(query: Vector, postings: dict[str, list[tuple[str, int]]], qid: str) -> Iterator[tuple[str, int]]:
    """First docids with their scores, without the topic itself."""
    scores: dict[str, int] = {}
    for term, weight in query.items():
        for docid, impact in postings.get(term, ()):
            scores[docid] = scores.get(docid, 0) + weight * impact
    scores.pop(qid, None)
    ranked = sorted(scores, key=lambda docid: (-scores[docid], docid))
    yield from ((docid, scores[docid]) for docid in ranked[:DEPTH])


if __name__ == "__main__":
    run(main)
