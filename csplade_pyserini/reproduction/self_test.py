"""Self-test: encode, index and search five documents, and compare the scores with inner products."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from csplade_pyserini.cards import Checkpoint
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.encoding import EncodingJob, encode_corpus
from csplade_pyserini.errors import CheckError
from csplade_pyserini.impacts import Vector, dot
from csplade_pyserini.interface import QuerySide
from csplade_pyserini.lucene.indexing import IndexJob, build_index
from csplade_pyserini.query_sides import QuerySource, build_queries

if TYPE_CHECKING:
    from csplade_pyserini.model import SparseEncoder

DOCUMENTS = {
    "1": "Chest pain, cold sweat and shortness of breath are signs of a heart attack.",
    "2": "Bananas are rich in potassium.",
    "3": "The Manhattan Project built the first atomic bombs during the second world war.",
    "4": "Solar panels turn the light of the sun into electricity.",
    "5": "An intense, sudden fear with a racing heart can be a panic attack.",
}
QUERIES = ("heart attack symptoms", "how do solar panels work")


def run_self_test(checkpoint: Checkpoint, source: QuerySource) -> str:
    """Encode, index and search DOCUMENTS in a temporary folder; return one sentence on the result.

    source: what makes the encoder's queries.

    Raises CheckError if Pyserini's scores are not the inner products of the impacts, and any error of a step.
    """
    from csplade_pyserini.model import build_encoder

    encoder = build_encoder(checkpoint)
    queries: QuerySide = encoder
    if source.kind != "model":
        queries = build_queries(source)
    with tempfile.TemporaryDirectory(prefix="csplade-self-test-") as name:
        folder = Path(name)
        encode_corpus(_make_job(checkpoint, encoder, folder))
        built = build_index(IndexJob(collection=folder / "vectors", index=folder / "index", threads=1))
        _compare_scores(encoder, queries, folder / "index")
    return (
        f"{built.documents} documents encoded by {checkpoint.card.name}, indexed and searched; "
        f"scores are the inner products"
    )


def _make_job(checkpoint: Checkpoint, encoder: "SparseEncoder", folder: Path) -> EncodingJob:
    """Write the corpus into the folder, and make the job that encodes it."""
    corpus = folder / "corpus.jsonl"
    records = [{"id": docid, "contents": text} for docid, text in DOCUMENTS.items()]
    corpus.write_text("".join(json.dumps(record) + "\n" for record in records))
    return EncodingJob(
        corpus=open_corpus(str(corpus)),
        output=folder / "vectors",
        identity=checkpoint.identity,
        card=checkpoint.card,
        load_encoder=lambda: encoder,
        arguments={},
    )


def _compare_scores(encoder: "SparseEncoder", queries: QuerySide, index: Path) -> None:
    """Search the index by Pyserini. Raises CheckError on a score that is not the inner product."""
    from pyserini.search.lucene import LuceneImpactSearcher

    searcher = LuceneImpactSearcher(str(index), queries)
    vectors = dict(zip(DOCUMENTS, encoder.encode_documents(list(DOCUMENTS.values())), strict=True))
    for query in QUERIES:
        wanted = _scores(queries.encode_queries([query])[0], vectors)
        found = {hit.docid: round(hit.score) for hit in searcher.search(query, len(DOCUMENTS))}
        if found != wanted:
            raise CheckError(f"Pyserini scores {query!r} as {found}, the inner products are {wanted}")
    searcher.close()


def _scores(query: Vector, vectors: dict[str, Vector]) -> dict[str, int]:
    """Inner products above 0, by docid: Lucene finds no other documents."""
    products = {docid: dot(query, vector) for docid, vector in vectors.items()}
    return {docid: product for docid, product in products.items() if product}
