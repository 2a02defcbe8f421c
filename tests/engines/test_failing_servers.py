"""Qdrant and Milvus over the wire, when they are busy, silent, or refuse."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from csplade_pyserini.engines import patience
from csplade_pyserini.engines.milvus import Milvus
from csplade_pyserini.engines.qdrant import QdrantServer
from csplade_pyserini.engines.target import Document, Place
from csplade_pyserini.errors import InputError

pytest.importorskip("pymilvus", reason="needs the Python package of pymilvus: the extra [milvus]")
pytest.importorskip("qdrant_client", reason="needs the Python package of qdrant_client: the extra [qdrant]")

from engines.failing_servers import NAME, SILENCE, FailingMilvus, FailingQdrant
from grpc import StatusCode

DOCUMENTS = [Document(f"d{line}", [1, 7], [3, 500], "part-0.jsonl", line) for line in range(1, 5)]
RATE_LIMIT, COLLECTION_NOT_FOUND, WRONG_PARAMETER = 8, 100, 1100
"""Milvus's codes."""


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of each wait; nothing waits."""
    seconds: list[float] = []
    monkeypatch.setattr(patience, "time", SimpleNamespace(sleep=seconds.append))
    return seconds


@pytest.fixture
def qdrant() -> Iterator[tuple[FailingQdrant, QdrantServer]]:
    server = FailingQdrant()
    target = QdrantServer(Place(url=server.url, name=NAME, timeout=1))
    yield server, target
    target.close()
    server.close()


def milvus(failures: list[Any]) -> tuple[FailingMilvus, Milvus]:
    """Start a server that fails so; return it and its target."""
    server = FailingMilvus(failures)
    return server, Milvus(Place(url=server.url, name=NAME, timeout=1))


@pytest.mark.parametrize("failures", [[429], [503, 429], [SILENCE]])
def test_a_busy_qdrant_is_asked_again(failures: list[int], qdrant: Any, slept: list[float]) -> None:
    server, target = qdrant
    server.failures = list(failures)
    assert patience.deliver(target, DOCUMENTS) == []
    assert len(server.requests) == 1 + len(failures)
    assert len({body for _, _, body in server.requests}) == 1
    assert slept == list(patience.DELAYS[: len(failures)])


def test_qdrant_says_how_long_to_wait(qdrant: Any, slept: list[float]) -> None:
    server, target = qdrant
    server.failures = [429]
    server.headers = {"Retry-After": "90"}
    assert patience.deliver(target, DOCUMENTS) == []
    assert slept == [90]


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_other_errors_of_qdrant_are_not_tried_again(status: int, qdrant: Any, slept: list[float]) -> None:
    server, target = qdrant
    server.failures = [status]
    with pytest.raises(InputError, match=str(status)):
        patience.deliver(target, DOCUMENTS)
    assert len(server.requests) == 1
    assert not slept


@pytest.mark.parametrize(
    "failures",
    [[RATE_LIMIT], [StatusCode.UNAVAILABLE], [StatusCode.RESOURCE_EXHAUSTED] * 2,
     [StatusCode.DEADLINE_EXCEEDED], [SILENCE]],
)  # fmt: skip
def test_a_busy_milvus_is_asked_again(failures: list[Any]) -> None:
    """By its client, after the first two; by us, after the others."""
    server, target = milvus(list(failures))
    assert patience.deliver(target, DOCUMENTS) == []
    assert server.upserts == 1 + len(failures)
    target.close()
    server.close()


@pytest.mark.parametrize(
    "failure", [COLLECTION_NOT_FOUND, StatusCode.PERMISSION_DENIED, StatusCode.UNAUTHENTICATED]
)
def test_other_errors_of_milvus_are_not_tried_again(failure: Any, slept: list[float]) -> None:
    server, target = milvus([failure])
    with pytest.raises(InputError, match="as told$"):
        patience.deliver(target, DOCUMENTS)
    assert server.upserts == 1
    assert not slept
    target.close()
    server.close()


def test_milvus_gets_the_halves_of_a_batch_that_it_refuses(slept: list[float]) -> None:
    server, target = milvus([WRONG_PARAMETER] * 3)  # all four, the first two, the first
    [failure] = patience.deliver(target, DOCUMENTS)
    assert failure.document is DOCUMENTS[0]
    assert "as told" in failure.reason
    assert server.upserts == 1 + 2 + 2
    assert not slept
    target.close()
    server.close()


@pytest.mark.parametrize("engine", ["qdrant", "milvus"])
def test_patience_ends_with_one_line(engine: str, qdrant: Any, slept: list[float]) -> None:
    tries = 1 + len(patience.DELAYS)
    if engine == "qdrant":
        server, target = qdrant
        server.failures = [503] * tries
    else:
        server, target = milvus([StatusCode.RESOURCE_EXHAUSTED] * tries)
    with pytest.raises(InputError, match=f"still busy after {tries} tries.*the same command resumes"):
        patience.deliver(target, DOCUMENTS)
    assert slept == list(patience.DELAYS)
    assert not server.failures
    target.close()
    server.close()
