"""The top hits of a few topics with the terms that matched: what a newcomer looks at first."""

import itertools
from collections.abc import Callable
from pathlib import Path

from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.files.lines import parse_record, read_lines
from csplade_pyserini.impacts import dot

HITS, TERMS, TEXT_WIDTH = 3, 6, 90


def print_matches(
    encoder_name: str, topics: Path, corpus: Path, run: Path, vectors: Path, count: int
) -> None:
    """Print, for the first `count` topics, the top hits of `run` and the terms that score most in each."""
    from csplade_pyserini.model import load_encoder

    chosen = dict(itertools.islice(read_topics(str(topics)).items(), count))
    hits = top_hits(run, set(chosen))
    docids = {docid for docs in hits.values() for docid in docs}
    texts = {d.docid: d.text for d in open_corpus(str(corpus)).documents() if d.docid in docids}
    documents = read_vectors(vectors, docids)
    encoder = load_encoder(encoder_name)
    for (qid, text), query in zip(chosen.items(), encoder.encode_queries(list(chosen.values())), strict=True):
        print(f"\ntopic {qid}: {text}")
        for docid in hits.get(qid, []):
            print(f"  {docid} {dot(query, documents[docid]):>7}  {texts[docid][:TEXT_WIDTH]}")
            print(f"      {', '.join(matching_terms(query, documents[docid], encoder.readable))}")


def top_hits(run: Path, qids: set[str]) -> dict[str, list[str]]:
    """The first HITS docids of each of the topics in a TREC run."""
    hits: dict[str, list[str]] = {}
    for line in read_lines(run):
        qid, _, docid, _, _, _ = line.split()
        if qid in qids and len(hits.setdefault(qid, [])) < HITS:
            hits[qid].append(docid)
    return hits


def read_vectors(directory: Path, docids: set[str]) -> dict[str, dict[str, int]]:
    """The vectors of some documents of a collection directory."""
    found: dict[str, dict[str, int]] = {}
    for file in sorted(directory.iterdir()):
        for number, line in enumerate(read_lines(file), start=1):
            record = parse_record(line, f"{file}:{number}")
            if record["id"] in docids:
                found[record["id"]] = record["vector"]
    return found


def matching_terms(
    query: dict[str, int], document: dict[str, int], readable: Callable[[str], str]
) -> list[str]:
    """The terms that give most of the score, as `word query x document`."""
    products = {term: impact * document[term] for term, impact in query.items() if term in document}
    best = sorted(products, key=lambda term: -products[term])[:TERMS]
    return [f"{readable(term).strip()} {query[term]}x{document[term]}" for term in best]
