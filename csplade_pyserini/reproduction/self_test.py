"""The whole way on a handful of documents: encode, index, search with Pyserini, and compare with the inner product."""

import json
import tempfile
from pathlib import Path

from csplade_pyserini.cards import Checkpoint
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.encoding import EncodingJob, encode_corpus
from csplade_pyserini.errors import CheckError
from csplade_pyserini.impacts import dot
from csplade_pyserini.lucene.indexing import IndexJob, build_index

DOCUMENTS = {
    "1": "Chest pain, cold sweat and shortness of breath are signs of a heart attack.",
    "2": "Bananas are rich in potassium.",
    "3": "The Manhattan Project built the first atomic bombs during the second world war.",
    "4": "Solar panels turn the light of the sun into electricity.",
    "5": "An intense, sudden fear with a racing heart can be a panic attack.",
}
QUERIES = ("heart attack symptoms", "how do solar panels work")


def run_self_test(checkpoint: Checkpoint) -> str:
    """Encode, index and search DOCUMENTS in a folder that is removed again; what was proved, in words.

    Raises CheckError where Pyserini's scores are not the inner products of the impacts, and what any of the steps raises.
    """
    from csplade_pyserini.model import build_encoder

    encoder = build_encoder(checkpoint)
    with tempfile.TemporaryDirectory(prefix="csplade-self-test-") as name:
        folder = Path(name)
        corpus = folder / "corpus.jsonl"
        corpus.write_text(
            "".join(json.dumps({"id": docid, "contents": text}) + "\n" for docid, text in DOCUMENTS.items())
        )
        encode_corpus(
            EncodingJob(
                corpus=open_corpus(str(corpus)),
                output=folder / "vectors",
                identity=encoder.identity,
                card=encoder.card,
                load_encoder=lambda: encoder,
                arguments={},
            )
        )
        built = build_index(IndexJob(collection=folder / "vectors", index=folder / "index", threads=1))

        from pyserini.search.lucene import LuceneImpactSearcher

        searcher = LuceneImpactSearcher(str(folder / "index"), encoder)
        vectors = dict(zip(DOCUMENTS, encoder.encode_documents(list(DOCUMENTS.values())), strict=True))
        for query in QUERIES:
            of_query = encoder.encode_queries([query])[0]
            wanted = {
                docid: dot(of_query, vector) for docid, vector in vectors.items() if dot(of_query, vector)
            }
            found = {hit.docid: round(hit.score) for hit in searcher.search(query, len(DOCUMENTS))}
            if found != wanted:
                raise CheckError(f"Pyserini scores {query!r} as {found}, the inner products are {wanted}")
        searcher.close()
    return f"{built.documents} documents encoded by {checkpoint.card.name}, indexed and searched; scores are the inner products"
