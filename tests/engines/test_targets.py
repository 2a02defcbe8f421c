"""Every engine: what goes in comes out, a replay is harmless, another encoder is refused, the count holds."""

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engines.clients import EMBEDDED, RECORDED, skip_without
from engines.recording_server import RecordingServer
from engines.small_collections import (
    TERMS,
    dimensions,
    exact_run,
    queries,
    random_collection,
    source_of,
    write_collection,
)

from csplade_pyserini.collections.manifests import encoder_of, read_export_manifest
from csplade_pyserini.collections.vectors import read_records
from csplade_pyserini.engines import ciff, loading, patience
from csplade_pyserini.engines.catalogue import FOLDERS, SERVERS, target_class
from csplade_pyserini.engines.documents import read_documents
from csplade_pyserini.engines.loading import load, local_path, rejected_path
from csplade_pyserini.engines.milvus import Milvus
from csplade_pyserini.engines.qdrant import QdrantServer, point_id
from csplade_pyserini.engines.searching import (
    compare_runs,
    read_identity,
    refuse_mismatched_queries,
    search,
    write_run,
)
from csplade_pyserini.engines.target import EngineBusyError, Place, Target, import_client
from csplade_pyserini.errors import CheckError, InputError


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "DELAYS", (0.0, 0.0, 0.0))


@pytest.fixture
def server() -> Iterator[RecordingServer]:
    server = RecordingServer()
    yield server
    server.close()


@pytest.fixture(params=[*EMBEDDED, *RECORDED, "qdrant-client"])
def place_and_class(
    request: pytest.FixtureRequest, tmp_path: Path, server: RecordingServer
) -> tuple[Place, type[Target]]:
    """A place of each engine that can be searched, with its class."""
    engine = request.param.partition("-")[0]
    skip_without(engine)
    if request.param == "qdrant-client":
        return Place(url="http://unused", name="docs"), local_qdrant(tmp_path)
    if engine in RECORDED:
        return Place(url=server.url, name="docs", timeout=20), SERVERS[engine]
    return Place(folder=tmp_path / "target"), FOLDERS[engine]


def local_qdrant(folder: Path) -> type[Target]:
    """The server's class over qdrant-client's local mode: the same calls."""

    class LocalQdrant(QdrantServer):
        def _connect(self) -> Any:
            return import_client("qdrant_client", "qdrant").QdrantClient(path=str(folder / "local"))

    return LocalQdrant


def vectors_of(collection: Path) -> dict[str, dict[str, int]]:
    """Vectors of a collection by docid."""
    return {record.docid: record.vector for record in read_records(sorted(collection.iterdir()))}


def fill(source: Any, target: Target, path: Path, **options: Any) -> Any:
    """Load a source, as the command does."""
    return load(source, dimensions(), target, engine=target.limits.engine, path=path, **options)


def test_scores_are_the_inner_products(place_and_class: Any, tmp_path: Path) -> None:
    place, kind = place_and_class
    collection = random_collection(tmp_path / "vectors")
    target = kind(place)
    manifest = fill(source_of(collection), target, tmp_path / "target")
    assert manifest.documents == target.count() == 60
    assert encoder_of(tmp_path / "target") == read_identity(target).encoder
    vectors = queries() | {"empty": {}}
    for hits in (3, 60):
        wanted = exact_run(vectors_of(collection), vectors, hits)
        found = search(target, vectors, dimensions(), hits=hits, batch_size=3)
        overlaps, difference = compare_runs(wanted, found, (3, 10))
        assert list(overlaps.values()) == [1, 1]
        assert difference == 0
        assert found["empty"] == []
    target.close()


def test_a_replay_changes_nothing_and_a_whole_target_is_left_alone(
    place_and_class: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, kind = place_and_class
    source = source_of(random_collection(tmp_path / "vectors"))
    target = kind(place)
    fill(source, target, tmp_path / "target")
    for share in source.shares:
        patience.deliver(target, list(read_documents(share, 0, dimensions(), 1.0)))
    assert target.count() == 60
    written: list[int] = []
    monkeypatch.setattr(kind, "write", lambda self, documents: written.append(len(documents)))
    fill(source, target, tmp_path / "target")
    assert not written
    target.close()


def test_a_stopped_load_goes_on_behind_the_last_acknowledged_line(
    place_and_class: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, kind = place_and_class
    monkeypatch.setattr(loading, "_SECONDS_BETWEEN_NOTES", 0.0)
    collection = random_collection(tmp_path / "vectors")
    source = source_of(collection)
    target = kind(place)
    stock = kind.write
    calls: list[int] = []

    def stopping(self: Target, documents: Any) -> Any:
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(len(documents))
        return stock(self, documents)

    monkeypatch.setattr(kind, "write", stopping)
    with pytest.raises(KeyboardInterrupt):
        fill(source, target, tmp_path / "target", batch_documents=9)
    target.close()
    assert sum(calls) == 9 + 9 + 9 + 3  # the first file has 30 documents

    calls_before = len(calls)
    seen: list[str] = []

    def recording(self: Target, documents: Any) -> Any:
        seen.extend(document.docid for document in documents)
        return stock(self, documents)

    monkeypatch.setattr(kind, "write", recording)
    target = kind(place)
    fill(source, target, tmp_path / "target", batch_documents=9)
    assert calls_before == 4
    assert len(seen) == 30
    assert target.count() == 60
    wanted = exact_run(vectors_of(collection), queries(), 60)
    found = search(target, queries(), dimensions(), hits=60, batch_size=9)
    assert compare_runs(wanted, found, (10,))[1] == 0
    target.close()


def test_a_target_of_another_encoder_or_of_another_program_is_refused(
    place_and_class: Any, tmp_path: Path
) -> None:
    place, kind = place_and_class
    source = source_of(random_collection(tmp_path / "vectors"))
    target = kind(place)
    fill(source, target, tmp_path / "target")
    for change, words in (({"encoder": "other@1234"}, "other@1234"), ({"scale": 0.5}, "times 0.5")):
        other = dataclasses.replace(source, identity=dataclasses.replace(source.identity, **change))
        with pytest.raises(InputError, match=words):
            fill(other, target, tmp_path / "target")
    identity = read_identity(target)
    refuse_mismatched_queries(identity, source.identity.encoder, place)
    with pytest.raises(InputError, match=re.escape(f"{identity.encoder}, the queries by other@1")):
        refuse_mismatched_queries(identity, "other@1", place)
    target.close()


def test_scaled_impacts_give_scores_of_the_same_size(place_and_class: Any, tmp_path: Path) -> None:
    place, kind = place_and_class
    collection = random_collection(tmp_path / "vectors", largest=5000)
    if kind.limits.significant_bits < 13:
        with pytest.raises(InputError, match=r"--scale 0\.1\d* makes all fit"):
            fill(source_of(collection), kind(place), tmp_path / "target")
    target = kind(place)
    fill(source_of(collection, scale=0.1), target, tmp_path / "target")
    wanted = exact_run(vectors_of(collection), queries(), 60)
    found = search(target, queries(), dimensions(), hits=60, batch_size=9, scale=0.1)
    overlaps, difference = compare_runs(wanted, found, (60,))
    assert 0 < difference < 0.1
    assert overlaps[60] == 1
    target.close()


@pytest.mark.parametrize("engine", RECORDED)
def test_requests_are_as_documented(engine: str, server: RecordingServer, tmp_path: Path) -> None:
    skip_without(engine)
    collection = write_collection(tmp_path / "vectors", {"a/b c".replace(" ", "_"): {"t7": 3, "t2": 500}})
    target = SERVERS[engine](Place(url=server.url, name="docs", timeout=20))
    fill(source_of(collection), target, tmp_path / "target")
    search(target, {"q": {"t7": 640, "t2": 1}}, dimensions(), hits=5, batch_size=1)
    [created] = server.bodies("/docs")[1:2]
    mappings = json.loads(created)["mappings"]
    kind = {"opensearch": "rank_features", "elasticsearch": "sparse_vector"}[engine]
    assert mappings["properties"] == {"v": {"type": kind}}
    assert json.loads(mappings["_meta"]["csplade_pyserini"])["encoder"].startswith("csplade-tiny@")
    [bulk] = server.bodies("/_bulk")
    assert [json.loads(line) for line in bulk.splitlines()] == [
        {"index": {"_index": "docs", "_id": "a/b_c"}},
        {"v": {"2": 500, "7": 3}},
    ]
    [asked] = server.bodies("/_msearch")
    header, request = [json.loads(line) for line in asked.splitlines()]
    assert header == {"index": "docs"}
    vector = {"2": 0.0625, "7": 40.0}  # a sixteenth of the weights, the largest below 64
    assert (
        request["query"]
        == {
            "opensearch": {"neural_sparse": {"v": {"query_tokens": vector}}},
            "elasticsearch": {"sparse_vector": {"field": "v", "query_vector": vector, "prune": False}},
        }[engine]
    )
    assert (request["size"], request["_source"]) == (5, False)
    target.close()


def test_elasticsearch_publishes_our_field_and_query() -> None:
    """Its client's classes are generated from its published specification."""
    skip_without("elasticsearch")
    from elasticsearch.dsl import field, query

    target = SERVERS["elasticsearch"](Place(url="http://127.0.0.1:1", name="docs"))
    [(kind, options)] = target._query({"7": 40.0}).items()
    published = query.Query.get_dsl_class(kind)
    assert set(options) <= set(inspect.signature(published.__init__).parameters)
    assert published(**options).to_dict() == {kind: options}
    assert field.Field.get_dsl_class(target.field_type) is field.SparseVector
    target.close()


def test_opensearch_publishes_our_field() -> None:
    """Its client has the field's class; it has none of the neural-search plugin's queries."""
    skip_without("opensearch")
    from opensearchpy.helpers import field

    assert SERVERS["opensearch"].field_type == field.RankFeatures.name  # type: ignore[attr-defined]


@pytest.mark.parametrize("engine", RECORDED)
@pytest.mark.parametrize("failures", [[429], [503, 429], [0]])
def test_a_busy_engine_is_asked_again(
    engine: str, failures: list[int], server: RecordingServer, tmp_path: Path
) -> None:
    skip_without(engine)
    target = SERVERS[engine](Place(url=server.url, name="docs", timeout=1))
    server.failures = list(failures)
    fill(source_of(random_collection(tmp_path / "vectors")), target, tmp_path / "target")
    assert target.count() == 60
    assert len(server.bodies("/_bulk")) == 2 + len(failures)
    target.close()


@pytest.mark.parametrize("engine", RECORDED)
def test_patience_ends_and_the_same_command_resumes(
    engine: str, server: RecordingServer, tmp_path: Path
) -> None:
    skip_without(engine)
    target = SERVERS[engine](Place(url=server.url, name="docs", timeout=20))
    server.failures = [503] * 4
    source = source_of(random_collection(tmp_path / "vectors"))
    with pytest.raises(InputError, match="still busy after 4 tries.*the same command resumes"):
        fill(source, target, tmp_path / "target")
    fill(source, target, tmp_path / "target")
    assert target.count() == 60
    target.close()


@pytest.mark.parametrize("engine", RECORDED)
@pytest.mark.parametrize("status", [401, 403, 500, 413])
def test_other_errors_of_a_request_are_not_tried_again(
    engine: str, status: int, server: RecordingServer, tmp_path: Path
) -> None:
    skip_without(engine)
    target = SERVERS[engine](Place(url=server.url, name="docs", timeout=20))
    server.failures = [status]
    source = source_of(random_collection(tmp_path / "vectors"))
    if status == 413:  # too large: halves are sent
        fill(source, target, tmp_path / "target")
        assert len(server.bodies("/_bulk")) == 1 + 2 + 1
    else:
        with pytest.raises(InputError, match=str(status)):
            fill(source, target, tmp_path / "target")
        assert len(server.bodies("/_bulk")) == 1
    target.close()


@pytest.mark.parametrize("engine", RECORDED)
def test_single_documents_are_tried_again_if_busy_and_reported_if_rejected(
    engine: str, server: RecordingServer, tmp_path: Path
) -> None:
    skip_without(engine)
    busy = {"d3": 429, "d4": 503}
    server.item_status = lambda docid: 400 if docid in ("d7", "d8") else busy.pop(docid, 201)
    target = SERVERS[engine](Place(url=server.url, name="docs", timeout=20))
    source = source_of(random_collection(tmp_path / "vectors"))
    path = tmp_path / "target"
    with pytest.raises(CheckError, match=r"2 of 60 documents were rejected"):
        fill(source, target, path)
    lines = [json.loads(line) for line in rejected_path(path).read_text().splitlines()]
    assert {(line["docid"], line["file"], line["line"], line["status"]) for line in lines} == {
        ("d8", "part-0.jsonl", 5, "400"),
        ("d7", "part-1.jsonl", 4, "400"),
    }
    assert all("as_told" in line["reason"] for line in lines)
    assert target.count() == 58

    server.item_status = lambda docid: 201  # the engine is mended: the same command tries them again
    fill(source, target, path)
    assert target.count() == 60
    assert not rejected_path(path).exists()
    target.close()


def test_one_bad_document_does_not_take_its_batch_along(tmp_path: Path) -> None:
    skip_without("milvus")
    source = source_of(random_collection(tmp_path / "vectors", 20, 1))
    target = Milvus(Place(folder=tmp_path / "target"))
    target.create(source.identity)
    [share] = source.shares
    documents = list(read_documents(share, 0, dimensions(), 1.0))
    documents[7] = documents[7]._replace(docid="x" * 70_000)
    [failure] = patience.deliver(target, documents)
    assert failure.document is documents[7]
    assert "70000" in failure.reason
    target.finish()
    assert target.count() == 19
    target.close()


def test_a_count_that_differs_is_an_error_and_all_documents_are_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without("qdrant")
    source = source_of(random_collection(tmp_path / "vectors"))
    losing = FOLDERS["qdrant"](Place(folder=tmp_path / "losing"))
    with monkeypatch.context() as patch:
        patch.setattr(type(losing), "count", lambda _: 59)
        with pytest.raises(CheckError, match="counts 59 documents; wanted 60"):
            fill(source, losing, tmp_path / "losing")
    sent: list[int] = []
    stock = type(losing).write
    with monkeypatch.context() as patch:
        patch.setattr(
            type(losing),
            "write",
            lambda self, documents: sent.append(len(documents)) or stock(self, documents),
        )
        fill(source, losing, tmp_path / "losing")
    assert sum(sent) == 60
    losing.close()
    target = FOLDERS["qdrant"](Place(folder=tmp_path / "target"))
    fill(source, target, tmp_path / "target")
    edge = import_client("qdrant_edge", "qdrant")
    target._open().update(edge.UpdateOperation.delete_points([point_id("d5")]))
    less = dataclasses.replace(source, documents=61)
    with pytest.raises(CheckError, match="counts 59 documents; wanted 61"):
        loading._check(less, target, 0, target.count(), tmp_path)
    fill(source, target, tmp_path / "target")  # it is filled again
    assert target.count() == 60
    target.close()


@pytest.mark.parametrize("shard_num", [2, 7])
def test_shards_fill_one_target_side_by_side(shard_num: int, server: RecordingServer, tmp_path: Path) -> None:
    skip_without("opensearch")
    collection = random_collection(tmp_path / "vectors", 61, 3)
    place = Place(url=server.url, name="docs", timeout=20)
    seen = 0
    for shard_id in reversed(range(shard_num)):
        source = source_of(collection, shard_id=shard_id, shard_num=shard_num)
        target = SERVERS["opensearch"](place)
        path = local_path(place, "opensearch", source)
        assert path.name.startswith("opensearch.docs.shard-")
        manifest = fill(source, target, path)
        seen += manifest.documents
        assert target.count() == seen
        assert read_export_manifest(path).shard_id == shard_id
        target.close()
    assert seen == 61


def test_vespa_gets_an_application_and_one_put_a_document(tmp_path: Path) -> None:
    collection = random_collection(tmp_path / "vectors")
    source = source_of(collection)
    place = Place(folder=tmp_path / "target")
    target = FOLDERS["vespa"](place)
    fill(source, target, tmp_path / "target")
    puts = [
        json.loads(line)
        for file in sorted((tmp_path / "target" / "documents").iterdir())
        for line in file.read_text().splitlines()
    ]
    found = {
        put["fields"]["docid"]: {TERMS[int(key)]: impact for key, impact in put["fields"]["v"].items()}
        for put in puts
    }
    assert found == vectors_of(collection)
    assert {put["put"] for put in puts} == {f"id:csplade:document::{docid}" for docid in found}
    schema = (tmp_path / "target" / "application" / "schemas" / "document.sd").read_text()
    assert "weightedset<int>" in schema
    assert "rawScore(v)" in schema
    assert read_identity(target) == source.identity
    with pytest.raises(InputError, match="files alone"):
        search(target, {"q": {"t1": 1}}, dimensions(), hits=0, batch_size=1)


@pytest.mark.parametrize("run_postings", [50, 10**9])
def test_ciff_holds_the_same_postings_however_it_is_sorted(
    run_postings: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without("ciff")
    monkeypatch.setattr(ciff, "RUN_POSTINGS", run_postings)
    collection = random_collection(tmp_path / "vectors")
    source = source_of(collection)
    target = FOLDERS["ciff"](Place(folder=tmp_path / "target"))
    fill(source, target, tmp_path / "target", batch_documents=7)
    assert read_identity(target) == source.identity
    kinds = ciff.messages()
    found: dict[int, dict[str, int]] = {}
    with (tmp_path / "target" / "index.ciff").open("rb") as file:
        header = ciff.read_delimited(file, kinds["Header"])
        terms = []
        for _ in range(header.num_postings_lists):
            postings = ciff.read_delimited(file, kinds["PostingsList"])
            terms.append(postings.term)
            number = 0
            for posting in postings.postings:
                number += posting.docid
                found.setdefault(number, {})[TERMS[int(postings.term)]] = posting.tf
            assert postings.df == len(postings.postings)
            assert postings.cf == sum(posting.tf for posting in postings.postings)
        records = [ciff.read_delimited(file, kinds["DocRecord"]) for _ in range(header.num_docs)]
        assert not file.read()
    assert terms == sorted(terms)
    by_docid = {record.collection_docid: found[record.docid] for record in records}
    assert by_docid == vectors_of(collection)
    assert {record.collection_docid: record.doclength for record in records} == {
        docid: sum(vector.values()) for docid, vector in by_docid.items()
    }
    fill(source, target, tmp_path / "target")  # whole already


def test_a_missing_client_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"pip install 'csplade_pyserini\[qdrant\]'"):
        import_client("no_such_module_anywhere", "qdrant")


@pytest.mark.parametrize(
    ("engine", "place", "words"),
    [
        ("opensearch", Place(folder=Path("x")), "no embedded form"),
        ("ciff", Place(url="http://a", name="b"), "files alone"),
        ("qdrant", Place(url="http://a"), "--url without --name"),
        ("qdrant", Place(), "either --url and --name, or a folder"),
        ("qdrant", Place(url="http://a", name="b", folder=Path("x")), "either --url"),
    ],
)
def test_places_that_an_engine_does_not_have_are_refused(engine: str, place: Place, words: str) -> None:
    with pytest.raises(InputError, match=words):
        target_class(engine, place)


def test_passwords_are_neither_shown_nor_stored() -> None:
    place = Place(url="https://user:secret@host:9200", name="docs", key="token")
    assert str(place) == "https://host:9200 docs"
    assert "secret" not in place.shown_url
    assert "token" not in repr(place)


def test_collections_that_cannot_go_are_refused(tmp_path: Path) -> None:
    twice = write_collection(tmp_path / "twice", {"a": {"t1": 1}})
    (twice / "more.jsonl").write_text((twice / "part-0.jsonl").read_text())
    with pytest.raises(InputError, match="docid 'a' is also at"):
        loading.preflight(source_of(twice), dimensions(), FOLDERS["vespa"])
    strange = write_collection(tmp_path / "strange", {"a": {"t1": 1, "other": 2}})
    with pytest.raises(InputError, match="'other' is not in the vocabulary of csplade-tiny"):
        loading.preflight(source_of(strange), dimensions(), FOLDERS["vespa"])
    empty = write_collection(tmp_path / "empty", {"a": {}})
    with pytest.raises(InputError, match="vector is empty"):
        loading.preflight(source_of(empty), dimensions(), FOLDERS["vespa"])


def test_a_run_is_written_as_trec_has_it(tmp_path: Path) -> None:
    write_run({"q": [("a", 30.0), ("b", 2.5)], "none": []}, tmp_path / "run.txt")
    assert (tmp_path / "run.txt").read_text() == "q Q0 a 1 30.000000 csplade\nq Q0 b 2 2.500000 csplade\n"


def test_comparison_knows_ties_from_losses() -> None:
    wanted = {"q": [("a", 9.0), ("b", 5.0), ("c", 5.0)]}
    assert compare_runs(wanted, {"q": [("a", 9.0), ("c", 5.0), ("b", 5.0)]}, (2, 3)) == ({2: 1, 3: 1}, 0)
    tied_behind = {"q": [("a", 9.0), ("x", 5.0), ("y", 5.0)]}
    assert compare_runs(wanted, tied_behind, (3,)) == ({3: 1}, 0)
    assert compare_runs(wanted, {"q": [("a", 9.0), ("x", 4.0), ("b", 3.0)]}, (3,)) == ({3: 2 / 3}, 0.4)
    assert compare_runs(wanted, {"q": [("a", 9.0)]}, (3,)) == ({3: 1 / 3}, 1)
    assert compare_runs(wanted, {}, (1,)) == ({1: 0}, 1)


def test_engine_errors_carry_what_the_engine_asked_for() -> None:
    assert EngineBusyError("later", 7).seconds == 7
