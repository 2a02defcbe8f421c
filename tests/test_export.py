"""Export, search and check as a user runs them: the sample in Qdrant and Milvus scores as in Lucene."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import ir_measures
import pytest
from engines.clients import EMBEDDED, RECORDED, skip_without
from engines.recording_server import RecordingServer
from programs import SAMPLE, new_python, run_python

from csplade_pyserini import retrieve
from csplade_pyserini.collections.manifests import encoder_of
from csplade_pyserini.errors import InputError

TOPICS = SAMPLE / "topics.tsv"
METRIC = ir_measures.nDCG @ 10


def ndcg(run: Path) -> float:
    """Mean nDCG@10 over the sample's topics."""
    qrels = list(ir_measures.read_trec_qrels(str(SAMPLE / "qrels.txt")))
    return float(ir_measures.calc_aggregate([METRIC], qrels, ir_measures.read_trec_run(str(run)))[METRIC])


def best_scores(run: Path) -> dict[str, list[int]]:
    """Scores of each qid, best first, without the millionths that Anserini takes off ties."""
    scores: dict[str, list[int]] = {}
    for line in run.read_text().splitlines():
        qid, _, _, _, score, _ = line.split()
        scores.setdefault(qid, []).append(round(float(score)))
    return scores


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("queries") / "queries.jsonl"
    words = ("--encoder", "csplade-tiny", "--topics", TOPICS, "--output", file)
    done = run_python("-m", "csplade_pyserini.encode_queries", *words)
    assert done.returncode == 0, done.stderr
    return file


@pytest.fixture(scope="module")
def lucene_run(sample_index: Path, queries: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("lucene") / "run.txt"
    words = ("--index", sample_index, "--topics", TOPICS, "--encoder", queries, "--output", run)
    done = run_python("-m", "pyserini.search.lucene", *words, "--impact", "--batch-size", "16")
    assert done.returncode == 0, done.stderr
    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--index", "index", "--timeout", "5"), "--index is a Lucene index; .*--timeout are of an --engine"),
        (("--index", "index", "--target", "folder"), "--index is a Lucene index"),
        (("--engine", "qdrant", "--threads", "2"), "--threads is of an --index"),
    ],
)
def test_retrieve_refuses_options_of_the_other_place(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        retrieve.parse_args([*words, "--topics", "topics.tsv", "--output", "run.txt"])


@pytest.mark.jvm
@pytest.mark.parametrize("engine", EMBEDDED)
def test_the_sample_scores_in_an_engine_as_in_lucene(
    engine: str, sample_vectors: Path, sample_index: Path, queries: Path, lucene_run: Path, tmp_path: Path
) -> None:
    skip_without(engine)
    target = tmp_path / "target"
    export = ("-m", "csplade_pyserini.export", "--input", sample_vectors, "--to", engine, "--output", target)
    shown = run_python(*export, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "259 documents can go" in shown.stderr
    assert json.loads(shown.stdout)
    assert not target.exists()

    done = new_python(*export)
    assert done.returncode == 0, done.stderr
    assert "doc/s" in done.stderr
    assert encoder_of(target) == encoder_of(sample_vectors)
    again = run_python(*export)
    assert "is whole already: 259 documents" in again.stderr

    run = tmp_path / "run.txt"
    words = ("--engine", engine, "--target", target, "--topics", TOPICS, "--output", run)
    searched = run_python("-m", "csplade_pyserini.retrieve", *words)  # with the encoder that the target names
    assert searched.returncode == 0, searched.stderr
    assert abs(ndcg(run) - ndcg(lucene_run)) <= 1e-4

    check = ("--check", "--index", sample_index, "--topics", TOPICS, "--query-encoder", queries)
    checked = run_python(*export, *check)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert re.search(r"^overlap@1000 +1\.000000$", checked.stdout, re.M)
    assert re.search(r"^largest relative score difference 0$", checked.stdout, re.M)
    lookup = ("--topics", TOPICS, "--hits", "100", "--encoder", "csplade-tiny-lookup")
    runs = {}
    for name, place in (("engine", words[:4]), ("lucene", ("--index", sample_index))):
        done = run_python("-m", "csplade_pyserini.retrieve", *place, *lookup, "--output", tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert "loading the table" in done.stderr
        runs[name] = best_scores(tmp_path / name)
    assert runs["engine"] == runs["lucene"] != {qid: scores[:100] for qid, scores in best_scores(run).items()}
    checked = run_python(*export, *check[:-1], "csplade-tiny-lookup")
    assert checked.returncode == 0, checked.stdout + checked.stderr

    lossy = tmp_path / "lossy"
    scaled = (*export[:-1], lossy, "--scale", "0.05")
    assert run_python(*scaled).returncode == 0
    failed = run_python(*scaled, *check)
    assert failed.returncode == 1
    assert "check failed: " in failed.stderr


@pytest.fixture
def milvus_server(tmp_path: Path) -> Iterator[str]:
    """Milvus-lite as a server on 127.0.0.1."""
    skip_without("milvus")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "milvus_lite", "server", "--host", "127.0.0.1", "--port", str(port),
        "--data-dir", str(tmp_path / "served"),
    ]  # fmt: skip
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    for _ in range(600):
        assert process.poll() is None, (tmp_path / "server.log").read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(30)


@pytest.fixture(params=[*RECORDED, "milvus"])
def place(request: pytest.FixtureRequest) -> Iterator[tuple[str, tuple[str, ...]]]:
    """An engine with the options of a collection on a server of it."""
    engine = request.param
    skip_without(engine)
    if engine == "milvus":
        yield engine, ("--url", request.getfixturevalue("milvus_server"), "--name", "sample")
        return
    with closing(RecordingServer()) as server:
        yield engine, ("--url", server.url, "--name", "sample")


@pytest.mark.jvm
def test_the_sample_scores_over_the_wire_as_in_lucene(
    place: tuple[str, tuple[str, ...]], sample_vectors: Path, queries: Path, lucene_run: Path, tmp_path: Path
) -> None:
    engine, words = place
    done = run_python(
        *("-m", "csplade_pyserini.export", "--input", sample_vectors, "--to", engine, *words), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run.txt"
    options = ("--topics", TOPICS, "--encoder", queries, "--output", run)
    done = run_python("-m", "csplade_pyserini.retrieve", "--engine", engine, *words, *options)
    assert done.returncode == 0, done.stderr
    assert len(run.read_text().splitlines()) == len(lucene_run.read_text().splitlines())
    assert abs(ndcg(run) - ndcg(lucene_run)) <= 1e-4


LOADER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from engines.small_collections import dimensions, source_of
from csplade_pyserini.engines import loading
from csplade_pyserini.engines.milvus import Milvus
from csplade_pyserini.engines.target import Place
loading._SECONDS_BETWEEN_NOTES = 0.0
target = Milvus(Place(url=sys.argv[3], name="docs", timeout=30))
source = source_of(Path(sys.argv[2]))
path = loading.local_path(target.place, "milvus", source)
loading.load(source, dimensions(), target, engine="milvus", path=path, batch_documents=10)
print(target.count())
"""


def test_a_load_over_the_wire_is_killed_and_goes_on(milvus_server: str, tmp_path: Path) -> None:
    from engines.small_collections import random_collection

    collection = random_collection(tmp_path / "vectors", 3000, 1)
    words = [sys.executable, "-c", LOADER, str(Path(__file__).parent), str(collection), milvus_server]
    progress = tmp_path / "milvus.docs.partial" / "progress.json"
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    lines = 0
    while lines < 50:
        assert process.poll() is None
        assert time.monotonic() < deadline
        if progress.is_file():
            lines = max([0, *json.loads(progress.read_text())["lines"].values()])
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    [acknowledged] = json.loads(progress.read_text())["lines"].values()
    assert 50 <= acknowledged < 3000
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3000"]
    assert f"{acknowledged}/3000" in done.stderr  # the bar begins there
