"""Ask every kind of searcher that Pyserini has by many threads at once, and print the wrong answers as JSON.

Run by test_load.py in a fork: `searchers_in_threads.py INDEX TEXTS VECTORS FOLDER ROUNDS [shared]`. With
`shared`, threads share Java's methods as pyjnius has them.
"""

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from programs import SAMPLE

INDEX, TEXTS, VECTORS, FOLDER, ROUNDS = sys.argv[1:6]
THREADS = 8
BATCH = 4
DIMENSIONS = 16
SLOW_SECONDS = 0.1
chance = random.Random(0)
docids = [json.loads(line)["id"] for line in (SAMPLE / "corpus.jsonl").read_text().splitlines()]
Answer = Callable[[], Any]


def main() -> None:
    if "shared" in sys.argv:
        from csplade_pyserini.registration import patches

        patches._AFTER_LOADING["pyserini.pyclass"].clear()
    answers = calls()
    alone = [answer() for _, answer in answers]
    empty = Counter(name for (name, _), found in zip(answers, alone, strict=True) if not found)
    assert sum(empty.values()) < len(alone) / 10, empty  # a query of stop words alone has no hits
    sys.setswitchinterval(1e-4)
    wrong: Counter[str] = Counter()
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(int(ROUNDS)):
            order = chance.sample(range(len(answers)), len(answers))
            asked = {number: pool.submit(answers[number][1]) for number in order}
            for number, future in asked.items():
                wrong[answers[number][0]] += is_wrong(future, alone[number])
    print(json.dumps({"wrong": +wrong, "asked": int(ROUNDS) * len(answers), "slow": slow_queries_a_second()}))


def is_wrong(future: Any, right: Any) -> bool:
    try:
        return bool(future.result() != right)
    except Exception as error:  # Java complains of an object that is not its own
        print(repr(error)[:200], file=sys.stderr)
        return True


def calls() -> list[tuple[str, Answer]]:
    """Calls of every kind, each with its name."""
    from pyserini.fusion import FusionMethod
    from pyserini.index.lucene import LuceneIndexReader
    from pyserini.search.lucene import (
        LuceneFlatDenseSearcher,
        LuceneFusionSearcher,
        LuceneHnswDenseSearcher,
        LuceneImpactSearcher,
        LuceneSearcher,
    )

    words = [text for line in (SAMPLE / "topics.tsv").read_text().splitlines() for text in line.split()[1:]]
    queries = [f"{' '.join(chance.choices(words, k=4))} {number}" for number in range(40)]
    points = [json.dumps(point()) for _ in range(40)]
    texts = LuceneSearcher(TEXTS)
    reader = LuceneIndexReader(TEXTS)
    searchers = {
        "BM25": (texts, queries),
        "impact, cached": (LuceneImpactSearcher(INDEX, query_file(queries)), queries),
        "impact, ours": (LuceneImpactSearcher(INDEX, "csplade-tiny"), queries),
        "HNSW": (opened(LuceneHnswDenseSearcher, dense_index("Hnsw", "-M", "16", "-efC", "100")), points),
        "flat": (opened(LuceneFlatDenseSearcher, dense_index("Flat")), points),
    }
    searchers = {name: found for name, found in searchers.items() if found[0] is not None}
    fused = LuceneFusionSearcher([TEXTS, TEXTS], FusionMethod.RRF)
    found: list[tuple[str, Answer]] = []
    for name, (searcher, asked) in searchers.items():
        found += [(name, lambda s=searcher, q=query: hits(s.search(q))) for query in asked]
        for start in range(0, len(asked), BATCH):
            batch = asked[start : start + BATCH]
            found.append((f"{name}, batch", lambda s=searcher, b=batch: batch_hits(s, b)))
    found += [("fusion", lambda q=query: hits(fused.search(q))) for query in queries[:10]]
    found += [("texts of hits", lambda q=query: texts_of_hits(texts, q)) for query in queries[:10]]
    found += [("document", lambda d=docid: texts.doc(d).raw()) for docid in docids[:40]]
    found += [("reader", lambda d=docid: reader.doc_raw(d)) for docid in docids[:40]]
    return found


def opened(searcher: Any, index: str) -> Any:
    """Open a dense index; None where Anserini wants a network for that, as it does since 2.4.0."""
    try:
        return searcher(index)
    except Exception as error:
        if "PrebuiltIndex" not in f"{error} {getattr(error, 'stacktrace', '')}":
            raise
        print(f"left out, {searcher.__name__} wants a network", file=sys.stderr)
        return None


def hits(found: Any) -> list[tuple[str, float]]:
    return [(hit.docid, hit.score) for hit in found]


def batch_hits(searcher: Any, queries: list[str]) -> list[list[tuple[str, float]]]:
    qids = [str(number) for number in range(len(queries))]
    found = searcher.batch_search(queries, qids, k=5, threads=2)
    return [hits(found[qid]) for qid in qids]


def texts_of_hits(searcher: Any, query: str) -> list[str]:
    return [hit.lucene_document.get("raw") for hit in searcher.search(query)]


def point() -> list[float]:
    return [round(chance.uniform(-1, 1), 4) for _ in range(DIMENSIONS)]


def query_file(queries: list[str]) -> str:
    """Write random query vectors of the index's terms."""
    first, *_ = (json.loads(line) for line in Path(VECTORS).read_text(encoding="utf-8").splitlines())
    terms = sorted(first["vector"])
    file = Path(FOLDER, "queries.jsonl")
    vectors = [{term: chance.randint(1, 99) for term in chance.sample(terms, 8)} for _ in queries]
    records = [{"contents": query, "vector": vector} for query, vector in zip(queries, vectors, strict=True)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(file)


def dense_index(kind: str, *words: str) -> str:
    """Index a random point for each document."""
    from pyserini.pyclass import autoclass

    points = Path(FOLDER, f"{kind}-points")
    points.mkdir()
    records = [{"docid": docid, "vector": point()} for docid in docids]
    (points / "points.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    index = f"{FOLDER}/{kind}"
    autoclass(f"io.anserini.index.Index{kind}DenseVectors").main(
        [
            "-collection", "JsonDenseVectorCollection", "-input", str(points), "-index", index,
            "-generator", "DenseVectorDocumentGenerator", "-threads", "1", *words,
        ]
    )  # fmt: skip
    return index


def slow_queries_a_second() -> float:
    """Queries a second of four threads whose encoder, none of ours, takes a tenth of a second."""
    from pyserini.search.lucene import LuceneImpactSearcher

    class Slow:
        def encode(self, query: str) -> dict[str, int]:
            time.sleep(SLOW_SECONDS)
            return {"heart": 1}

    searcher = LuceneImpactSearcher(INDEX, Slow())
    start = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(searcher.search, map(str, range(40))))
    return 40 / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
