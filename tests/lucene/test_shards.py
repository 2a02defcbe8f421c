"""An index of shards is searched as one index would be; shards that are missing or foreign are named."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from programs import run_python

from csplade_pyserini.collections.index_shards import index_folders, shard_name, shard_of
from csplade_pyserini.collections.manifests import manifest_path, read_index_manifest, refuse_mismatch
from csplade_pyserini.collections.vectors import record_line
from csplade_pyserini.errors import InputError
from csplade_pyserini.lucene.bulk import ImpactSearcher
from csplade_pyserini.lucene.classes import open_reader
from csplade_pyserini.lucene.indexing import IndexJob, build_index
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.lucene.matching import ImpactIndex

DOCUMENTS = 300
NUMBERS = (1, 2, 4)
EVERYWHERE = "everywhere"
IN_ONE_SHARD = "in-one-shard"
"""Term of all documents of the first of two shards, and of no other."""


def test_a_docid_has_one_shard_and_shards_are_of_one_size() -> None:
    docids = [f"doc{number}" for number in range(4000)]
    assert shard_of("é", 1) == 0
    for shards in (2, 3, 8):
        found = [shard_of(docid, shards) for docid in docids]
        assert found == [shard_of(docid, shards) for docid in docids]
        sizes = [found.count(shard) for shard in range(shards)]
        assert sum(sizes) == len(docids)
        assert min(sizes) > 0.8 * max(sizes)


def make_vectors() -> dict[str, dict[str, int]]:
    """Vectors with few impacts, so that many documents tie."""
    chance = random.Random(11)
    vectors = {}
    for number in range(DOCUMENTS):
        docid = f"d{chance.randint(0, 9)}-{number}"
        vector = {f"t{term}": chance.randint(1, 3) for term in chance.sample(range(40), 6)}
        vector[EVERYWHERE] = 2
        if shard_of(docid, 2) == 0:
            vector[IN_ONE_SHARD] = 5
        vectors[docid] = vector
    return vectors


VECTORS = make_vectors()


def make_queries() -> dict[str, dict[str, int]]:
    chance = random.Random(12)
    made = {f"q{i}": {f"t{t}": chance.randint(1, 4) for t in chance.sample(range(40), 5)} for i in range(12)}
    return made | {
        "every": {EVERYWHERE: 1},
        "shard": {IN_ONE_SHARD: 3, "t1": 1},
        "both": {IN_ONE_SHARD: 1, EVERYWHERE: 7, "t2": 2},
        "unknown": {"nowhere": 1},
        "none": {},
    }


QUERIES = make_queries()


class Encoder:
    """Encoder that looks queries up."""

    def encode(self, query: str, **_: object) -> dict[str, int]:
        return QUERIES[query]


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Indexes of one collection by number of shards."""
    folder = tmp_path_factory.mktemp("shards")
    (folder / "vectors").mkdir()
    lines = [record_line(docid, f"text of {docid}", vector) for docid, vector in VECTORS.items()]
    for number in range(2):
        (folder / "vectors" / f"part-{number}.jsonl").write_text("".join(lines[number::2]))
    for number in NUMBERS:
        build_index(
            IndexJob(collection=folder / "vectors", index=folder / str(number), shards=number, store_raw=True)
        )
    return {number: folder / str(number) for number in NUMBERS}


@pytest.fixture
def copied(indexes: dict[int, Path], tmp_path: Path) -> Callable[[int], Path]:
    """Copy an index with its manifest."""

    def copy(number: int) -> Path:
        target = Path(shutil.copytree(indexes[number], tmp_path / "index"))
        shutil.copy(manifest_path(indexes[number]), manifest_path(target))
        return target

    return copy


def plain(hits: Any) -> list[tuple[str, float]]:
    return [(hit.docid, hit.score) for hit in hits]


@pytest.mark.jvm
def test_the_manifest_counts_each_shard(indexes: dict[int, Path]) -> None:
    whole = read_index_manifest(indexes[1])
    assert whole.shards == ()
    assert index_folders(indexes[1]) == [indexes[1]]
    for number in NUMBERS[1:]:
        manifest = read_index_manifest(indexes[number])
        assert [shard.folder for shard in manifest.shards] == [shard_name(i, number) for i in range(number)]
        assert [folder.name for folder in index_folders(indexes[number])] == [
            shard.folder for shard in manifest.shards
        ]
        for i, shard in enumerate(manifest.shards):
            docids = [docid for docid in VECTORS if shard_of(docid, number) == i]
            assert shard.documents == len(docids)
            assert shard.postings == sum(len(VECTORS[docid]) for docid in docids)
            assert shard.impacts == sum(sum(VECTORS[docid].values()) for docid in docids)
        for total in ("documents", "postings", "impacts"):
            assert sum(getattr(shard, total) for shard in manifest.shards) == getattr(whole, total)
            assert getattr(manifest, total) == getattr(whole, total)


@pytest.mark.jvm
def test_shards_are_searched_as_one_index(indexes: dict[int, Path]) -> None:
    from csplade_pyserini.registration import register

    register()
    from pyserini.index.lucene import LuceneIndexReader
    from pyserini.search.lucene import LuceneImpactSearcher, LuceneSearcher

    qids = list(QUERIES)
    for min_idf in (-1, 0, 0.9, 2):
        one, *others = [LuceneImpactSearcher(str(indexes[n]), Encoder(), min_idf=min_idf) for n in NUMBERS]
        for k in (10, 1000):
            wanted = one.batch_search(qids, qids, k, 2)
            assert any(hits for hits in wanted.values())
            for searcher in others:
                found = searcher.batch_search(qids, qids, k, 2)
                for qid in qids:
                    assert plain(found[qid]) == plain(wanted[qid])
                    assert plain(searcher.search(qid, k)) == plain(wanted[qid])
    for searcher in others:
        assert searcher.num_docs == one.num_docs == DOCUMENTS
        assert searcher.index_dir in {str(indexes[2]), str(indexes[4])}
        assert dict(searcher.idf) == dict(one.idf)
        docid = next(iter(VECTORS))
        assert searcher.doc(docid).raw() == one.doc(docid).raw()
        assert searcher.doc("nowhere") is None
        assert LuceneSearcher(searcher.index_dir).doc(docid).raw() == one.doc(docid).raw()
        wanted_reader = LuceneIndexReader(one.index_dir)
        reader = LuceneIndexReader(searcher.index_dir)
        assert [(t.term, t.df, t.cf) for t in reader.terms()] == [
            (t.term, t.df, t.cf) for t in wanted_reader.terms()
        ]
        searcher.close()


@pytest.mark.jvm
def test_our_own_searches_and_explanations_take_shards(indexes: dict[int, Path]) -> None:
    for hits in (10, 1000):
        runs = []
        for number in NUMBERS:
            with ImpactSearcher(indexes[number]) as searcher:
                runs.append(searcher.run(QUERIES, hits))
        assert runs[0] == runs[1] == runs[2]
        assert len(runs[0]["every"]) == min(hits, DOCUMENTS)
    opened = [ImpactIndex(indexes[number]) for number in NUMBERS]
    for vector in QUERIES.values():
        assert opened[0].search(vector, 20) == opened[1].search(vector, 20) == opened[2].search(vector, 20)
    docid = next(docid for docid in VECTORS if shard_of(docid, 4) == 3)
    assert len({str(index.find(QUERIES["both"], docid)) for index in opened}) == 1


@pytest.mark.jvm
def test_more_shards_than_documents_and_a_second_call(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "a.jsonl").write_text(record_line("a", "", {"x": 2}) + record_line("b", "", {"x": 1}))
    job = IndexJob(collection=tmp_path / "v", index=tmp_path / "i", shards=5, threads=1, optimize=False)
    assert build_index(job).documents == 2
    with ImpactSearcher(tmp_path / "i") as searcher:
        assert searcher.run({"q": {"x": 3}}, 10) == {"q": [("a", 6.0), ("b", 3.0)]}
    assert build_index(job).documents == 2
    with pytest.raises(InputError, match="exists and has 5 shards, --shards is 4"):
        build_index(IndexJob(collection=tmp_path / "v", index=tmp_path / "i", shards=4))
    shutil.rmtree(tmp_path / "i" / shard_name(2, 5))
    with pytest.raises(InputError, match="lacks shard-0002-of-0005"):
        build_index(job)
    with pytest.raises(InputError, match="--stock builds one index"):
        build_index(IndexJob(collection=tmp_path / "v", index=tmp_path / "j", shards=4, stock=True))
    with pytest.raises(InputError, match="--shards is 257; wanted 1 to 256"):
        build_index(IndexJob(collection=tmp_path / "v", index=tmp_path / "j", shards=257))


def opens(index: Path) -> None:
    prepare_java()
    refuse_mismatch(index, None)
    open_reader(index).close()


@pytest.mark.jvm
@pytest.mark.parametrize("has_manifest", [True, False])
def test_shards_that_are_missing_or_foreign_are_named(
    copied: Callable[[int], Path],
    indexes: dict[int, Path],
    has_manifest: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index = copied(4)
    if not has_manifest:
        manifest_path(index).unlink()
    opens(index)
    third = index / shard_name(2, 4)

    shutil.move(third, index.with_name("away"))
    with pytest.raises(InputError, match=f"{index} lacks {third.name} of its 4 shards"):
        opens(index)

    shutil.copytree(index / shard_name(1, 4), third)  # the second shard twice
    with pytest.raises(InputError, match=f"{third} is no"):
        opens(index)
    if has_manifest:
        with pytest.raises(InputError, match=f"{third} is not the index that"):
            opens(index)
    monkeypatch.setenv("CSPLADE_ALLOW_MISMATCH", "1")
    opens(index)
    monkeypatch.delenv("CSPLADE_ALLOW_MISMATCH")

    shutil.rmtree(third)
    shutil.copytree(indexes[1], third)  # an index that is no shard
    with pytest.raises(InputError, match=f"{third} is no"):
        opens(index)

    shutil.rmtree(third)
    shutil.move(index.with_name("away"), third)
    opens(index)
    shutil.copytree(indexes[2] / shard_name(0, 2), index / shard_name(0, 2))
    with pytest.raises(InputError, match=f"holds shards of 2 and of 4.*{shard_name(0, 2)}"):
        opens(index)


@pytest.mark.jvm
def test_a_shard_of_another_collection_is_named(copied: Callable[[int], Path], tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "a.jsonl").write_text(record_line("a", "", {"x": 2}))
    build_index(IndexJob(collection=tmp_path / "v", index=tmp_path / "other", shards=2, threads=1))
    index = copied(2)
    second = index / shard_name(1, 2)
    shutil.rmtree(second)
    shutil.copytree(tmp_path / "other" / second.name, second)
    with pytest.raises(InputError, match=f"{second} is not the index"):
        opens(index)
    manifest_path(index).unlink()
    with pytest.raises(InputError, match=f"{second} and .* are of two collections"):
        opens(index)


@pytest.mark.jvm
def test_pyserini_searches_shards_and_knows_their_encoder(
    sample_vectors: Path, sample_index: Path, tmp_path: Path
) -> None:
    built = run_python(
        "-m", "csplade_pyserini.index", "--input", sample_vectors, "--index", tmp_path / "index",
        "--shards", "4",
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (tmp_path / "topics.tsv").write_text("1\theart attack symptoms\n2\tthe moon\n3\thow do plants grow\n")
    runs = []
    for index in (sample_index, tmp_path / "index"):
        run = tmp_path / f"{len(runs)}.txt"
        result = run_python(
            "-m", "pyserini.search.lucene", "--index", index, "--topics", tmp_path / "topics.tsv",
            "--output", run, "--hits", "1000",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert "--impact --encoder csplade-tiny is implied" in result.stderr
        runs.append(run.read_text())
    assert runs[0] == runs[1]
    assert len(runs[0].splitlines()) > 30

    for options in ((), ("--threads", "2", "--encoder", "csplade-tiny")):
        run = tmp_path / "ours.txt"
        result = run_python(
            "-m", "csplade_pyserini.retrieve", "--index", tmp_path / "index", "--topics",
            tmp_path / "topics.tsv", "--output", run, *options,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert [line.split()[:5] for line in run.read_text().splitlines()] == [
            line.split()[:5] for line in runs[0].splitlines()
        ]

    shutil.rmtree(tmp_path / "index" / shard_name(1, 4))
    result = run_python(
        "-m", "pyserini.search.lucene", "--index", tmp_path / "index", "--topics", tmp_path / "topics.tsv",
        "--output", tmp_path / "none.txt",
    )  # fmt: skip
    assert result.returncode == 2
    assert f"lacks {shard_name(1, 4)} of its 4 shards" in result.stderr
    assert "Traceback" not in result.stderr
