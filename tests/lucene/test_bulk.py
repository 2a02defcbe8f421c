"""Batches in one call: the hits of Pyserini's own way, whatever is done with them; idf without the walk."""

import copy
import json
import math
import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from csplade_pyserini.collections.vectors import record_line
from csplade_pyserini.impacts import dot
from csplade_pyserini.lucene import bulk
from csplade_pyserini.lucene.bulk import (
    BulkSearcher,
    Hits,
    ImpactSearcher,
    PlainHit,
    plain_hits,
    strings_of,
    with_ties_apart,
)
from csplade_pyserini.lucene.indexing import IndexJob, build_index

TERMS = [
    *(f"t{number}" for number in range(20)),
    *(
        "Ġé",
        "in:every",
        '"quoted"\\',
        "\U0001d11e",
        "AND",
        "OR",
        "NOT",
        "TO",
        "*",
        "a?",
        "^2",
        "~",
        "[x",
        "}",
    ),
    *("u0041", "\\u0041", "/re/", "+", "-a", "!", "&&", "||", "(", ")", "_", "x\u00a0y", "t1^3"),
]
EVERYWHERE = "in:every"


class Filled(Hits):
    """Hits whose Java objects are strings, and that count who asks."""

    asked = 0

    def fill(self) -> None:
        if self._top is not None:
            self._top = None
            self.asked += 1
            self.extend(["Java 1", "Java 2", "Java 3"])


def test_hits_are_a_list_like_any_other_and_plain_until_somebody_asks() -> None:
    stock = ["Java 1", "Java 2", "Java 3"]

    def made() -> Filled:
        return Filled("top", None, ["a", "b", "c"], [3.0, 2.0, 1.0])

    uses = [
        list,
        tuple,
        sorted,
        lambda hits: [*hits],
        lambda hits: hits[:],
        lambda hits: hits + [],
        lambda hits: [] + hits,
        lambda hits: hits.copy(),
        lambda hits: list(reversed(hits))[::-1],
        lambda hits: [hit for hit in hits if hit in hits],
        lambda hits: [hits[0], hits[1], hits[-1]],
        lambda hits: [hits.pop(0), *hits],
        lambda hits: (hits.sort(), list(hits))[1],
        lambda hits: pickle.loads(pickle.dumps(hits)),
        copy.copy,
        lambda hits: list(map(str, hits)),
        lambda hits: [first for first, _ in zip(hits, hits, strict=True)],
    ]
    for use in uses:
        hits = made()
        assert len(hits) == 3
        assert hits
        assert list(plain_hits(hits)) == [PlainHit("a", 3.0), PlainHit("b", 2.0), PlainHit("c", 1.0)]
        assert hits.asked == 0
        assert list(use(hits)) == stock
        assert hits.asked == 1
    hits = made()
    assert hits == stock
    assert repr(hits) == repr(stock)
    hits.append("more")
    assert list(plain_hits(hits)) == [*stock, "more"]
    assert not Hits(None, None, [], [])


def test_bytes_as_java_shows_them_are_the_strings() -> None:
    for strings in ([], ["a"], ["doc1", "dé", "\U0001d11e"], ["\x01", "\x02"], ["a\x02b", "c"], ["", "x"]):
        shown = ["[" + " ".join(f"{byte:x}" for byte in string.encode()) + "]" for string in strings]
        assert strings_of(shown) == strings


def test_ties_come_apart_as_one_by_one() -> None:
    chance = np.random.default_rng(0)
    for largest in (3, 40, 5_000, 2**24):
        scores = np.sort(chance.integers(1, largest, 1000).astype(np.float32))[::-1]
        assert with_ties_apart(scores).tolist() == bulk._one_by_one(scores).tolist()
    assert with_ties_apart(np.array([], dtype=np.float32)).tolist() == []


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, int]]]:
    """Vectors and their index, with ties, one term of all documents, and odd docids."""
    chance = random.Random(3)
    vectors = {}
    for number in range(120):
        terms = chance.sample(TERMS, 8)
        odd = "\x01" if number % 40 == 0 else ""
        vectors[f"dé{odd}{number % 60}-{number}"] = {term: chance.randint(1, 4) for term in terms} | {
            EVERYWHERE: 2
        }
    folder = tmp_path_factory.mktemp("bulk")
    (folder / "vectors").mkdir()
    (folder / "vectors" / "part.jsonl").write_text(
        "".join(record_line(docid, "", vector) for docid, vector in vectors.items()), encoding="utf-8"
    )
    build_index(IndexJob(collection=folder / "vectors", index=folder / "index", threads=1))
    return folder / "index", vectors


def queries() -> dict[str, dict[str, int]]:
    chance = random.Random(5)
    made = {f"q{i}": {t: chance.randint(1, 9) for t in chance.sample(TERMS, 4)} for i in range(20)}
    return made | {"none": {}, "unknown": {"nowhere": 3}, "every": {EVERYWHERE: 1}, "ünï": {"Ġé": 4}}


@pytest.mark.jvm
def test_a_batch_is_what_pyserini_finds(collection: tuple[Path, dict[str, dict[str, int]]]) -> None:
    from csplade_pyserini.registration import register

    index, vectors = collection
    register()
    from pyserini.search.lucene import LuceneImpactSearcher
    from pyserini.search.lucene._impact_searcher import LuceneIndexReader

    class Encoder:
        def encode(self, query: str, **_: object) -> dict[str, int]:
            return queries()[query]

    stock = LuceneImpactSearcher(str(index), Encoder(), min_idf=-1)
    qids = list(queries())
    bulk_searcher = BulkSearcher(stock.object.reader)
    for k, threads in ((3, 1), (120, 1), (500, 2)):
        wanted = stock.batch_search(qids, qids, k, 2)
        assert not isinstance(wanted["q1"], Hits)
        found = bulk_searcher.search(list(queries().values()), qids, k, threads)
        assert set(found) == set(wanted)
        for qid, hits in found.items():
            expected = [(hit.docid, hit.score, hit.lucene_docid) for hit in wanted[qid]]
            assert [(hit.docid, hit.score) for hit in hits.plain] == [row[:2] for row in expected]
            assert [(hit.docid, hit.score, hit.lucene_docid) for hit in hits] == expected
            assert all(type(hit) is type(wanted[qid][0]) for hit in hits)
    with ImpactSearcher(index) as searcher:
        run = searcher.run(queries(), 120)
    for qid, query in queries().items():
        scores = {docid: float(dot(query, vector)) for docid, vector in vectors.items()}
        assert {docid: round(score) for docid, score in run[qid]} == {
            docid: score for docid, score in scores.items() if score
        }

    walked = []
    walk = LuceneImpactSearcher._compute_idf.__wrapped__
    idf = LuceneImpactSearcher._compute_idf(str(index))
    idf._walk = lambda: walked.append(1) or walk(str(index))
    whole = walk(str(index))
    assert all(idf[term] == whole[term] for term in whole)
    assert idf[EVERYWHERE] == 0
    assert "nowhere" not in idf
    assert idf.get("nowhere", 7) == 7
    with pytest.raises(KeyError):
        idf["nowhere"]
    assert not walked
    assert idf == whole
    assert dict(idf) == dict(idf.items()) == whole
    assert len(idf) == len(list(idf)) == LuceneIndexReader(str(index)).stats()["unique_terms"]
    assert walked == [1]
    assert "nowhere" not in idf
    assert json.dumps(sorted(idf)) == json.dumps(sorted(whole))
    assert max(idf.values()) == max(whole.values()) < math.inf
