"""Pyserini's REST and MCP servers on a local impact index of ours."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from programs import SAMPLE, run_python, start_python

from csplade_pyserini import load_encoder
from csplade_pyserini.collections.manifests import manifest_path
from csplade_pyserini.collections.vectors import read_records
from csplade_pyserini.lucene.indexing import IndexJob, build_index
from csplade_pyserini.lucene.stock import bm25_index_command

pytest.importorskip("faiss", reason="Pyserini's servers need faiss-cpu")
pytestmark = pytest.mark.jvm
QUERY = "heart attack symptoms"


@pytest.fixture(scope="module")
def config(sample_vectors, sample_index, tmp_path_factory):
    """A server configuration: the impact index alone, with its texts' index, and with an owner's mistakes."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "corpus").mkdir()
    shutil.copy(SAMPLE / "corpus.jsonl", folder / "corpus")
    built = run_python(
        *bm25_index_command(folder / "corpus", folder / "texts", threads=1, store_raw=True)[1:]
    )
    assert built.returncode == 0, built.stderr
    build_index(IndexJob(collection=sample_vectors, index=folder / "split", shards=2))
    shutil.copytree(sample_index, folder / "swapped")
    manifest = json.loads(manifest_path(sample_index).read_text())
    manifest_path(folder / "swapped").write_text(json.dumps(manifest | {"commit": "0" * 64}))
    file = folder / "server.yaml"
    file.write_text(
        f"indexes:\n"
        f"  swapped: {{path: {folder}/swapped, index_type: impact, encoder: csplade-tiny}}\n"
        f"  late: {{path: {sample_index}, index_type: impact, encoder: 'csplade-tiny:max_length=64'}}\n"
        f"  no-weights: {{path: {sample_index}, index_type: impact, encoder: csplade-8b, "
        f"base_index: texts}}\n"
        f"  later: {folder}/texts\n"
        f"  taken-for-texts: {sample_index}\n"
        f"  msmarco-shard: {folder}/texts\n"
        f"  split: {{path: {folder}/split, index_type: impact, encoder: csplade-tiny}}\n"
        f"  alone: {{path: {sample_index}, index_type: impact, encoder: csplade-tiny}}\n"
        f"  by-lookup: {{path: {sample_index}, index_type: impact, encoder: csplade-tiny-lookup}}\n"
        f"  with-texts: {{path: {sample_index}, index_type: impact, encoder: csplade-tiny, "
        f"base_index: texts}}\n"
        f"  texts: {folder}/texts\n"
    )
    return file


@pytest.fixture(scope="module", params=[(), ("--no-prebuilt-indexes",)])
def rest(config, request):
    """The address of a REST server: the command in a new interpreter, and with one more flag in a fork."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = ("--host", "127.0.0.1", "--port", str(port))
    command = ["-m", "pyserini.server.rest", *address, "--config", str(config), *request.param]
    log = config.with_name("server.log")
    if request.param:
        server = start_python(*command, log=log)
    else:
        with log.open("w") as output:
            server = subprocess.Popen(
                [sys.executable, *command],
                stdout=output,
                stderr=output,
                env=os.environ | {"HF_HUB_OFFLINE": "1"},
            )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/v1/nothing/search?query=x", timeout=5)
            except urllib.error.HTTPError:
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                time.sleep(0.5)
        yield address
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)


def candidates(address, index):
    with urllib.request.urlopen(
        f"{address}/v1/{index}/search?query={QUERY.replace(' ', '%20')}&hits=5", timeout=300
    ) as answer:
        return json.loads(answer.read())["candidates"]


def test_rest_searches_a_local_impact_index(rest):
    alone, with_texts = candidates(rest, "alone"), candidates(rest, "with-texts")
    assert [c["docid"] for c in alone] == [c["docid"] for c in with_texts]
    assert len(alone) == 5
    assert [c["score"] for c in alone] == sorted((c["score"] for c in alone), reverse=True)
    assert alone[0]["doc"] is None  # the impact index stores no texts, and says so
    assert candidates(rest, "split") == alone
    texts = {
        r["id"]: r["contents"] for r in map(json.loads, (SAMPLE / "corpus.jsonl").read_text().splitlines())
    }
    assert all(c["doc"] == texts[c["docid"]] for c in with_texts)


def best_by_lookup(sample_vectors: Path, hits: int) -> dict[str, float]:
    """Scores of the best documents, without Lucene."""
    query = load_encoder("csplade-tiny-lookup").encode(QUERY)
    scores = {
        record.docid: float(sum(impact * query.get(term, 0) for term, impact in record.vector.items()))
        for record in read_records(sorted(sample_vectors.glob("*.jsonl")))
    }
    best = sorted(scores, key=lambda docid: -scores[docid])[:hits]
    return {docid: scores[docid] for docid in best}


def test_rest_takes_queries_by_lookup(rest, sample_vectors):
    found = {hit["docid"]: hit["score"] for hit in candidates(rest, "by-lookup")}
    assert found == pytest.approx(best_by_lookup(sample_vectors, 5))


@pytest.mark.parametrize("index", ["alone", "with-texts", "swapped", "no-weights", "split"])
def test_rest_gives_documents_without_an_encoder(rest, index):
    with urllib.request.urlopen(f"{rest}/v1/{index}/doc/s001", timeout=120) as answer:
        assert json.loads(answer.read())["docid"] == "s001"


def test_an_index_that_was_replaced_is_answered_with_what_is_wrong_and_the_server_goes_on(rest):
    with pytest.raises(urllib.error.HTTPError) as refused:
        candidates(rest, "swapped")
    assert refused.value.code == 400
    assert "is not the index that" in refused.value.read().decode()
    assert len(candidates(rest, "alone")) == 5


def test_bm25_on_an_index_of_ours_is_refused_and_its_documents_are_given(rest):
    with pytest.raises(urllib.error.HTTPError) as refused:
        candidates(rest, "taken-for-texts")
    assert refused.value.code == 400
    assert "is an impact index by csplade-tiny@" in refused.value.read().decode()
    with urllib.request.urlopen(f"{rest}/v1/taken-for-texts/doc/s001", timeout=120) as answer:
        assert json.loads(answer.read())["docid"] == "s001"


def ask_mcp(config, *calls):
    """The texts that the MCP server's search tool answers calls with, one after the other."""
    from fastmcp import Client
    from fastmcp.client.transports import StdioTransport

    async def ask():
        words = ["-m", "pyserini.server.mcp", "--config", str(config)]
        async with Client(
            StdioTransport(sys.executable, words, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        ) as client:
            question = {"query": {"query_txt": QUERY}, "hits": 3, "index": "with-texts"}
            return [
                (await client.call_tool("search", question | call, raise_on_error=False)).content[0].text
                for call in calls
            ]

    return asyncio.run(ask())


def test_mcp_answers_a_client_that_names_an_encoder_and_goes_on_whatever_it_named(
    config, checkpoint_folder, sample_vectors
):
    """REST has no field for an encoder, MCP has."""
    encoders = (str(checkpoint_folder), "csplade-8b", "csplade-bi-smol", "csplade-tiny")
    asked, by_lookup, folder, without_weights, other, right = ask_mcp(
        config, {}, {"index": "by-lookup"}, *({"encoder": name} for name in encoders)
    )
    assert len(set(re.findall(r"\bs\d{3}\b", asked))) == 3, asked
    assert set(re.findall(r"\bs\d{3}\b", by_lookup)) == set(best_by_lookup(sample_vectors, 3)), by_lookup
    assert f"encoder '{checkpoint_folder}' is not for clients" in folder
    assert "encoder 'csplade-8b' has no weights here" in without_weights
    assert re.search(r"was encoded by csplade-tiny@\S+ the queries by csplade-bi-smol@", other)
    assert right == asked


@pytest.fixture(scope="module")
def backend(config):
    """Answers of the servers' common backend; it ends in time."""
    done = run_python(Path(__file__).with_name("servers_backend.py"), config, QUERY, seconds=180)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_nobody_waits_while_an_encoder_is_loaded_or_an_index_downloaded(backend):
    """Others search and fetch a document while one index waits for these; that one is answered in the end."""
    assert backend["load_encoder"] == backend["alone"]
    assert backend["create_searcher"] == backend["texts"]
    assert len(backend["alone"]) == 5


def test_an_encoder_that_a_client_names_is_the_indexs_own_or_refused_and_nobody_elses_search_ends(backend):
    named = backend["named"]
    assert not backend["reopened"]
    assert named.pop("CSPLADE-Tiny") == backend["alone"]
    for encoder, reason in {
        "naver/splade-v3": "was encoded by csplade-tiny@",
        "csplade-bi-smol": "was encoded by csplade-tiny@",
        "csplade-8b": "has no weights here",
        "csplade-tinny": "unknown encoder 'csplade-tinny'; did you mean csplade-tiny?",
        "csplade-tiny:max_length=64": (
            "alone is searched with csplade-tiny, not with csplade-tiny:max_length=64"
        ),
        "/etc": "is not for clients",
    }.items():
        assert reason in named.pop(encoder)
    assert not named


def test_sharded_search_does_not_wait_for_itself(backend):
    assert backend["sharded"] == backend["texts"]


def test_the_status_of_an_index_tells_what_its_owner_wrote(backend):
    assert set(backend["status"]) <= {
        "name",
        "path",
        "encoder",
        "index_type",
        "ef_search",
        "bm25_searchers",
        "no_prebuilt_indexes",
    }
