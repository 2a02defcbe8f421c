"""Hard negatives by BM25: an ir_datasets data set with qrels to training examples in Tevatron's format."""

import importlib.metadata
import itertools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from csplade_pyserini.collections.corpus import open_corpus, write_corpus
from csplade_pyserini.collections.topics import Qrels, Topics, read_qrels, read_topics
from csplade_pyserini.errors import CheckError
from csplade_pyserini.files.json_text import parse_json
from csplade_pyserini.files.stamps import content_hash, json_hash, read_stamp, write_stamp
from csplade_pyserini.files.whole import remove, whole_file, whole_output
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.lucene.stock import bm25_index_command, run_stock

HITS = 100
NEGATIVES = 50
"""Number of hits kept, from the top; an epoch samples its negatives from them."""
_TOPICS_AT_ONCE = 1000


def mine_examples(name: str, folder: Path, *, threads: int = 2) -> Path:
    """Make the file of examples of `ir_datasets:ID`: positives by the qrels, negatives by BM25.

    Negatives are hits that the qrels do not call relevant. Topics without a relevant document in the corpus,
    or without another hit, are left out and counted on stderr. A file made from the same corpus, topics and
    qrels is kept. Raises InputError if the data set lacks a part, CheckError if Pyserini fails.
    """
    examples = folder / f"{re.sub(r'[^\w.-]+', '_', name)}.jsonl"
    topics = read_topics(name)
    qrels = read_qrels(name)
    made_of = _made_of(name, topics, qrels)
    stamp = examples.with_name(f".{examples.name}.stamp.json")
    if examples.is_file() and read_stamp(stamp, made_of).get("output") == content_hash(examples):
        return examples
    prepare_java()
    index = _bm25_index(name, folder, threads)
    judged = {qid: topics[qid] for qid in qrels if qid in topics}
    written = _write_examples(name, examples, index, judged, qrels, threads)
    write_stamp(stamp, made_of, output=content_hash(examples))
    sentence = f"{examples}: {written} examples of {len(judged)} judged topics"
    if written < len(judged):
        left_out = len(judged) - written
        sentence += f"; {left_out} have no relevant document in the corpus, or no other hit"
    print(sentence, file=sys.stderr)
    return examples


def _made_of(name: str, topics: Topics, qrels: Qrels) -> dict[str, Any]:
    """Inputs and settings that the examples depend on."""
    return {
        "corpus": [name, open_corpus(name).size],
        "topics": json_hash(topics),
        "qrels": json_hash(qrels),
        "hits": HITS,
        "negatives": NEGATIVES,
        "pyserini": importlib.metadata.version("pyserini"),
    }


def _bm25_index(name: str, folder: Path, threads: int) -> Path:
    """Build a BM25 index of the data set's documents that keeps their text."""
    index = folder / "bm25"
    corpus = folder / "corpus"
    stamp = folder / ".bm25.stamp.json"
    made_of = {"corpus": [name, open_corpus(name).size]}
    if index.is_dir() and read_stamp(stamp, made_of).get("output") == content_hash(index):
        return index
    write_corpus(open_corpus(name), corpus / "docs.jsonl")
    with whole_output(index) as partial:
        run_stock(bm25_index_command(corpus, partial, threads=threads, store_raw=True))
    write_stamp(stamp, made_of, output=content_hash(index))
    remove(corpus)
    return index


def _write_examples(
    name: str, examples: Path, index: Path, judged: Topics, qrels: Qrels, threads: int
) -> int:
    """Write an example for every topic that has one, and return their number.

    Raises CheckError if no topic has one.
    """
    from pyserini.search.lucene import LuceneSearcher

    searcher = LuceneSearcher(str(index))
    written = 0
    with whole_file(examples) as file:
        hits_of_topics = tqdm(
            _hits(searcher, judged, threads), total=len(judged), desc="mining", unit="topic"
        )
        for qid, hits in hits_of_topics:
            example = _example(searcher, qid, judged[qid], qrels[qid], hits)
            if example:
                written += 1
                file.write(json.dumps(example, ensure_ascii=False) + "\n")
        if not written:
            raise CheckError(
                f"{name}: no topic has a relevant document in the corpus, and a hit that is not relevant"
            )
    return written


def _hits(searcher: Any, topics: Topics, threads: int) -> Iterator[tuple[str, list[str]]]:
    """Docids of every topic's hits, best first, with the qid."""
    for batch in itertools.batched(topics.items(), _TOPICS_AT_ONCE):
        qids = [qid for qid, _ in batch]
        texts = [text for _, text in batch]
        found = searcher.batch_search(texts, qids, k=HITS, threads=threads)
        for qid in qids:
            yield qid, [hit.docid for hit in found[qid]]


def _example(
    searcher: Any, qid: str, query: str, grades: dict[str, int], hits: list[str]
) -> dict[str, Any] | None:
    """Make a record; None if the index has no relevant document, or BM25 finds no other."""
    relevant = {docid for docid, grade in grades.items() if grade > 0}
    positives = _passages(searcher, sorted(relevant))
    negatives = _passages(searcher, [docid for docid in hits if docid not in relevant])
    if not positives or not negatives:
        return None
    return {
        "query_id": qid,
        "query": query,
        "positive_passages": positives,
        "negative_passages": negatives[:NEGATIVES],
    }


def _passages(searcher: Any, docids: list[str]) -> list[dict[str, str]]:
    """Passages of the documents that the index has."""
    passages = []
    for docid in docids:
        document = searcher.doc(docid)
        if document is not None:
            text = parse_json(document.raw())["contents"]
            passages.append({"docid": docid, "title": "", "text": text})
    return passages
