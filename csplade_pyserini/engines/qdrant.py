"""Qdrant: a server by qdrant-client, or the same engine embedded, by qdrant-edge-py.

Ids are numbers or UUIDs, so a document has the uuid5 of its docid, and the docid in its payload. A point
without a vector holds the identity.
"""

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from csplade_pyserini.engines.target import (
    DOCID_FIELD,
    FIELD,
    FLOAT_BITS,
    META_KEY,
    Document,
    EngineBusyError,
    Failure,
    Hit,
    Identity,
    Limits,
    Place,
    Query,
    Target,
    import_client,
    refusal,
)
from csplade_pyserini.errors import InputError

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, META_KEY)
_META_ID = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{META_KEY}/identity"))
_ENGINE = "qdrant"
_BUSY_STATUSES = (429, 503)


def point_id(docid: str) -> str:
    """UUID of a document."""
    return str(uuid.uuid5(_NAMESPACE, docid))


class _Qdrant(Target):
    limits = Limits(engine=_ENGINE, significant_bits=FLOAT_BITS, docid_bytes=2**16, most_hits=2**20)

    @staticmethod
    def schema(identity: Identity) -> str:
        collection = {"vectors": {}, "sparse_vectors": {FIELD: {"index": {"datatype": "float32"}}}}
        point = {"id": _META_ID, "vector": {}, "payload": {META_KEY: identity.to_json()}}
        return json.dumps({"collection": collection, "metadata point": point}, indent=1)

    def _parsed(self, points: Sequence[Any]) -> Identity:
        if not points or META_KEY not in (points[0].payload or {}):
            raise InputError(f"{self.place} exists and was not made by export: choose another --name")
        return Identity.parse(points[0].payload[META_KEY], str(self.place))


class QdrantServer(_Qdrant):
    """A collection of a Qdrant server."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._client = self._connect()

    def _connect(self) -> Any:
        client = import_client("qdrant_client", _ENGINE)
        return client.QdrantClient(
            url=self.place.url,
            api_key=self.place.key or None,
            timeout=max(1, round(self.place.timeout)),
            check_compatibility=False,
        )

    def identity(self) -> Identity | None:
        with self._errors():
            if not self._client.collection_exists(self.place.name):
                return None
            return self._parsed(self._client.retrieve(self.place.name, ids=[_META_ID], with_payload=True))

    def create(self, identity: Identity) -> None:
        models = self._models()
        index = models.SparseIndexParams(datatype=models.Datatype.FLOAT32)
        payload = {META_KEY: identity.to_json()}
        with self._errors():
            self._client.create_collection(
                self.place.name,
                vectors_config={},
                sparse_vectors_config={FIELD: models.SparseVectorParams(index=index)},
            )
            point = models.PointStruct(id=_META_ID, vector={}, payload=payload)
            self._client.upsert(self.place.name, [point], wait=True)

    def write(self, documents: Sequence[Document]) -> list[Failure]:
        models = self._models()
        points = []
        for document in documents:
            vector = models.SparseVector(
                indices=document.dimensions, values=list(map(float, document.impacts))
            )
            payload = {DOCID_FIELD: document.docid}
            points.append(
                models.PointStruct(id=point_id(document.docid), vector={FIELD: vector}, payload=payload)
            )
        with self._errors():
            self._client.upsert(self.place.name, points, wait=True)
        return []

    def count(self) -> int:
        with self._errors():
            points = int(self._client.count(self.place.name, exact=True).count)
            return points - len(self._client.retrieve(self.place.name, ids=[_META_ID]))

    def search(self, queries: Sequence[Query], hits: int) -> list[list[Hit]]:
        models = self._models()
        requests = [
            models.QueryRequest(
                query=models.SparseVector(indices=query.dimensions, values=query.weights),
                using=FIELD,
                limit=hits,
                with_payload=[DOCID_FIELD],
            )
            for query in queries
        ]
        with self._errors():
            answers = self._client.query_batch_points(self.place.name, requests)
        return [_hits(answer.points) for answer in answers]

    def close(self) -> None:
        self._client.close()

    def _models(self) -> Any:
        return import_client("qdrant_client.models", _ENGINE)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Sort the client's errors into busy, refused and unreachable."""
        import httpx
        from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
        from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

        try:
            yield
        except ResourceExhaustedResponse as error:
            raise EngineBusyError(error, float(error.retry_after_s)) from error
        except UnexpectedResponse as error:
            status = error.status_code or 0
            reason = f"{status} {error.reason_phrase}: {error.content.decode(errors='replace')}"
            if status in _BUSY_STATUSES:
                raise EngineBusyError(reason) from error
            raise refusal(status, f"{self.place}: {reason}") from error
        except ResponseHandlingException as error:
            if isinstance(error.source, httpx.TimeoutException):
                raise EngineBusyError(f"time-out: {error}") from error
            raise InputError(f"{self.place} cannot be reached: {error}") from error


class QdrantEdge(_Qdrant):
    """Qdrant's engine in this process, in a folder."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._edge = import_client("qdrant_edge", _ENGINE)
        self._shard: Any = None

    @property
    def _folder(self) -> Path:
        return self.place.directory

    def _open(self) -> Any:
        if self._shard is None:
            self._shard = self._edge.EdgeShard.load(str(self._folder))
        return self._shard

    def identity(self) -> Identity | None:
        if not self._folder.is_dir() or not any(self._folder.iterdir()):
            return None
        if not (self._folder / "edge_config.json").is_file():
            raise InputError(f"{self._folder} exists and holds no Qdrant shard: choose another --output")
        return self._parsed(self._open().retrieve([_META_ID], with_payload=True, with_vector=False))

    def create(self, identity: Identity) -> None:
        edge = self._edge
        self._folder.mkdir(parents=True, exist_ok=True)
        config = edge.EdgeConfig(sparse_vectors={FIELD: edge.EdgeSparseVectorParams()})
        self._shard = edge.EdgeShard.create(str(self._folder), config)
        point = edge.Point(id=_META_ID, vector={}, payload={META_KEY: identity.to_json()})
        self._shard.update(edge.UpdateOperation.upsert_points([point]))
        self._shard.flush()

    def write(self, documents: Sequence[Document]) -> list[Failure]:
        edge = self._edge
        points = []
        for document in documents:
            vector = edge.SparseVector(document.dimensions, list(map(float, document.impacts)))
            payload = {DOCID_FIELD: document.docid}
            points.append(edge.Point(id=point_id(document.docid), vector={FIELD: vector}, payload=payload))
        self._open().update(edge.UpdateOperation.upsert_points(points))
        return []

    def count(self) -> int:
        points = int(self._open().count(self._edge.CountRequest(exact=True)))
        return points - len(self._open().retrieve([_META_ID], with_payload=False, with_vector=False))

    def search(self, queries: Sequence[Query], hits: int) -> list[list[Hit]]:
        edge = self._edge
        requests = []
        for query in queries:
            vector = edge.SparseVector(query.dimensions, query.weights)
            nearest = edge.Query.Nearest(vector, using=FIELD)
            requests.append(edge.QueryRequest(limit=hits, query=nearest, with_payload=[DOCID_FIELD]))
        return [_hits(found) for found in self._open().query_batch(edge.QueryBatchRequest(requests))]

    def flush(self) -> None:
        self._open().flush()

    def finish(self) -> None:
        self._open().optimize()
        self._open().flush()

    def close(self) -> None:
        if self._shard is not None:
            self._shard.close()
            self._shard = None


def _hits(points: Sequence[Any]) -> list[Hit]:
    return [(point.payload[DOCID_FIELD], float(point.score)) for point in points]
