"""Pyserini's REST and MCP servers on a local impact index of ours."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from programs import SAMPLE, run_python

pytest.importorskip("faiss", reason="Pyserini's servers need faiss-cpu")
pytestmark = pytest.mark.jvm
QUERY = "heart attack symptoms"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A server configuration: the impact index alone, and with the index of its texts beside it."""
    folder = tmp_path_factory.mktemp("server")
    corpus = folder / "corpus"
    corpus.mkdir()
    (corpus / "docs.jsonl").write_bytes((SAMPLE / "corpus.jsonl").read_bytes())
    commands = [
        ("csplade_pyserini.encode", "--encoder", "csplade-tiny", "--corpus", corpus, "--output", folder / "vectors"),
        ("csplade_pyserini.index", "--input", folder / "vectors", "--index", folder / "impacts"),
        (
            "pyserini.index.lucene", "--collection", "JsonCollection", "--input", corpus, "--index", folder / "texts",
            "--generator", "DefaultLuceneDocumentGenerator", "--threads", "1", "--storeRaw",
        ),
    ]  # fmt: skip
    for command in commands:
        result = run_python("-m", *command)
        assert result.returncode == 0, result.stderr
    file = folder / "server.yaml"
    file.write_text(
        f"indexes:\n"
        f"  alone: {{path: {folder}/impacts, index_type: impact, encoder: csplade-tiny}}\n"
        f"  with-texts: {{path: {folder}/impacts, index_type: impact, encoder: csplade-tiny, base_index: texts}}\n"
        f"  texts: {folder}/texts\n"
    )
    return file


@pytest.fixture(scope="module", params=[(), ("--no-prebuilt-indexes",)])
def rest(config, request):
    """The address of a running REST server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "pyserini.server.rest", "--host", "127.0.0.1", "--port", str(port), "--config", str(config)]
    log = config.with_name("server.log").open("w")
    server = subprocess.Popen([*command, *request.param], stdout=log, stderr=log, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/v1/nothing/search?query=x", timeout=5)
            except urllib.error.HTTPError:
                break
            except OSError:
                assert server.poll() is None, config.with_name("server.log").read_text()
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)
        log.close()


def candidates(address, index):
    with urllib.request.urlopen(f"{address}/v1/{index}/search?query={QUERY.replace(' ', '%20')}&hits=5", timeout=120) as answer:
        return json.loads(answer.read())["candidates"]


def test_rest_searches_a_local_impact_index(rest):
    alone, with_texts = candidates(rest, "alone"), candidates(rest, "with-texts")
    assert [c["docid"] for c in alone] == [c["docid"] for c in with_texts]
    assert len(alone) == 5
    assert [c["score"] for c in alone] == sorted((c["score"] for c in alone), reverse=True)
    assert alone[0]["doc"] is None  # the impact index stores no texts, and says so
    texts = {r["id"]: r["contents"] for r in map(json.loads, (SAMPLE / "corpus.jsonl").read_text().splitlines())}
    assert all(c["doc"] == texts[c["docid"]] for c in with_texts)


def ask_mcp(config, **arguments):
    """The text that the MCP server's search tool answers with."""
    from fastmcp import Client
    from fastmcp.client.transports import StdioTransport

    async def ask():
        words = ["-m", "pyserini.server.mcp", "--config", str(config)]
        async with Client(StdioTransport(sys.executable, words, env=os.environ | {"HF_HUB_OFFLINE": "1"})) as client:
            return await client.call_tool("search", {"query": {"query_txt": QUERY}, "hits": 3, **arguments}, raise_on_error=False)

    return asyncio.run(ask()).content[0].text


def test_mcp_searches_a_local_impact_index(config):
    text = ask_mcp(config, index="with-texts")
    assert len(set(re.findall(r"\bs\d{3}\b", text))) == 3, text


def test_a_client_names_a_card_but_no_folder_of_the_servers(config, checkpoint_folder):
    """REST has no field for an encoder, MCP has."""
    assert len(set(re.findall(r"\bs\d{3}\b", ask_mcp(config, index="with-texts", encoder="csplade-tiny")))) == 3
    refused = ask_mcp(config, index="with-texts", encoder=str(checkpoint_folder))
    assert f"encoder '{checkpoint_folder}' is not for clients" in refused, refused
