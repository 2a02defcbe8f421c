"""A first look at a run: top hits of a few topics, and the terms that matched."""

import itertools
from collections.abc import Callable, Container, Mapping
from pathlib import Path

from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.collections.vectors import read_records
from csplade_pyserini.files.lines import read_lines
from csplade_pyserini.impacts import Vector, dot
from csplade_pyserini.query_sides import QuerySource, build_queries

HITS = 3
"""Hits shown of a topic."""
TERMS = 6
"""Terms shown of a hit."""
TEXT_WIDTH = 90


def print_matches(
    source: QuerySource,
    *,
    topics: Path,
    corpus: Path,
    run: Path,
    vectors: Path,
    notes: Mapping[str, str],
) -> None:
    """Print the top hits of some topics, with their best terms.

    run: a TREC run over `vectors`, the collection of the corpus. notes: the topics by qid, each with a note.
    """
    texts_of_topics = read_topics(str(topics))
    chosen = {qid: texts_of_topics[qid] for qid in notes}
    hits = top_hits(run, chosen)
    docids = set(itertools.chain.from_iterable(hits.values()))
    texts = _texts_of(corpus, docids)
    documents = _vectors_of(vectors, docids)
    encoder = build_queries(source)
    queries = encoder.encode_queries(list(chosen.values()))
    for (qid, text), query in zip(chosen.items(), queries, strict=True):
        print(f"\ntopic {qid}: {text}{notes[qid]}")
        for docid in hits.get(qid, []):
            print(f"  {docid} {dot(query, documents[docid]):>7}  {texts[docid][:TEXT_WIDTH]}")
            print(f"      {', '.join(matching_terms(query, documents[docid], encoder.readable))}")


def top_hits(run: Path, qids: Container[str]) -> dict[str, list[str]]:
    """Read the first HITS docids of these topics from a TREC run."""
    hits: dict[str, list[str]] = {}
    for line in read_lines(run):
        qid, _, docid, _, _, _ = line.split()
        if qid in qids and len(hits.setdefault(qid, [])) < HITS:
            hits[qid].append(docid)
    return hits


def matching_terms(query: Vector, document: Vector, readable: Callable[[str], str]) -> list[str]:
    """Terms that give most of the score, as `heart 12x34`: impact of the query, then of the document."""
    products = {term: impact * document[term] for term, impact in query.items() if term in document}
    best = sorted(products, key=lambda term: -products[term])[:TERMS]
    return [f"{readable(term).strip()} {query[term]}x{document[term]}" for term in best]


def _texts_of(corpus: Path, docids: Container[str]) -> dict[str, str]:
    documents = open_corpus(str(corpus)).documents()
    return {document.docid: document.text for document in documents if document.docid in docids}


def _vectors_of(directory: Path, docids: Container[str]) -> dict[str, Vector]:
    """Read the vectors of some documents of a collection."""
    records = read_records(sorted(directory.iterdir()))
    return {record.docid: record.vector for record in records if record.docid in docids}
