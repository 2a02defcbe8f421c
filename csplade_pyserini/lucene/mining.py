"""Hard negatives by BM25: an ir_datasets data set with topics and qrels to training examples in Tevatron's format."""

import itertools
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from csplade_pyserini.collections.corpus import open_corpus, write_corpus
from csplade_pyserini.collections.topics import Qrels, Topics, read_qrels, read_topics
from csplade_pyserini.errors import CheckError
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.lucene.stock import bm25_index_command, run_stock

HITS = 100
NEGATIVES = 50
"""Kept of the hits, from the top; an epoch's are sampled from them."""
_TOPICS_AT_ONCE = 1000


def mine_examples(name: str, folder: Path, *, threads: int = 2) -> Path:
    """The file of examples of `ir_datasets:ID`, made on first use: positives by the qrels, negatives by BM25.

    Negatives are hits that the qrels do not call relevant. Topics without a relevant document in the corpus,
    or without another hit, are left out, and counted on stderr. Raises InputError where the data set lacks a
    part, CheckError where Pyserini fails.
    """
    examples = folder / f"{re.sub(r'[^\w.-]+', '_', name)}.jsonl"
    if examples.is_file():
        return examples
    prepare_java()
    topics, qrels = read_topics(name), read_qrels(name)
    index = _bm25_index(name, folder, threads)
    from pyserini.search.lucene import LuceneSearcher

    searcher = LuceneSearcher(str(index))
    judged = {qid: topics[qid] for qid in qrels if qid in topics}
    written = 0
    with whole_file(examples) as file:
        for qid, hits in tqdm(
            _hits(searcher, judged, threads), total=len(judged), desc="mining", unit="topic"
        ):
            example = _example(searcher, qid, judged[qid], qrels, hits)
            if example:
                written += 1
                file.write(json.dumps(example, ensure_ascii=False) + "\n")
        if not written:
            raise CheckError(
                f"{name}: no topic has a relevant document in the corpus, and a hit that is not relevant"
            )
    left_out = (
        f"; {len(judged) - written} have no relevant document in the corpus, or no other hit"
        if written < len(judged)
        else ""
    )
    print(f"{examples}: {written} examples of {len(judged)} judged topics{left_out}", file=sys.stderr)
    return examples


def _bm25_index(name: str, folder: Path, threads: int) -> Path:
    """A BM25 index of the data set's documents that keeps their text."""
    index, corpus = folder / "bm25", folder / "corpus"
    if not index.is_dir():
        write_corpus(open_corpus(name), corpus / "docs.jsonl")
        partial = folder / "bm25.partial"
        shutil.rmtree(partial, ignore_errors=True)
        run_stock(bm25_index_command(corpus, partial, threads=threads, store_raw=True))
        partial.rename(index)
        shutil.rmtree(corpus)
    return index


def _hits(searcher: Any, topics: Topics, threads: int) -> Iterator[tuple[str, list[str]]]:
    """(qid, docids, best first) of every topic."""
    for batch in itertools.batched(topics.items(), _TOPICS_AT_ONCE):
        qids, texts = [qid for qid, _ in batch], [text for _, text in batch]
        found = searcher.batch_search(texts, qids, k=HITS, threads=threads)
        yield from ((qid, [hit.docid for hit in found[qid]]) for qid in qids)


def _example(searcher: Any, qid: str, query: str, qrels: Qrels, hits: list[str]) -> dict[str, Any] | None:
    """A record, or None where no relevant document is in the index, or BM25 finds no other."""
    relevant = {docid for docid, grade in qrels[qid].items() if grade > 0}
    positives = [passage for docid in sorted(relevant) if (passage := _passage(searcher, docid))]
    negatives = [
        passage for docid in hits if docid not in relevant and (passage := _passage(searcher, docid))
    ]
    if not positives or not negatives:
        return None
    return {
        "query_id": qid,
        "query": query,
        "positive_passages": positives,
        "negative_passages": negatives[:NEGATIVES],
    }


def _passage(searcher: Any, docid: str) -> dict[str, str] | None:
    document = searcher.doc(docid)
    return (
        None
        if document is None
        else {"docid": docid, "title": "", "text": json.loads(document.raw())["contents"]}
    )
