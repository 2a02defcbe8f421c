"""OpenSearch and Elasticsearch: one document API, one search API, two clients and two kinds of vector field.

Both keep impacts as Lucene's FeatureField does, with nine significant bits.
"""

import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from csplade_pyserini.engines.target import (
    FIELD,
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
)
from csplade_pyserini.errors import InputError

FEATURE_BITS = 9
"""FeatureField stores the upper 16 bits of a float behind its sign: nine significant ones."""
_BUSY_STATUSES = (429, 503)


def feature_limits(engine: str) -> Limits:
    """Limits of an engine over FeatureField, with the engine's default settings."""
    return Limits(
        engine=engine,
        significant_bits=FEATURE_BITS,
        docid_bytes=512,
        most_hits=10_000,
        query_terms=1_024,
        query_weight=64.0,
    )


class BulkTarget(Target):
    """An index of OpenSearch or Elasticsearch."""

    field_type: str
    """Type of the vector's field."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._client = self._connect()

    @abstractmethod
    def _connect(self) -> Any:
        """Make a client that does not retry by itself."""

    @abstractmethod
    def _query(self, vector: dict[str, float]) -> dict[str, Any]:
        """Make the engine's query."""

    @abstractmethod
    def _call(self, name: str, body: Any = None) -> Any:
        """Call the client: exists, mapping, create, bulk, refresh, count or search.

        Raises EngineBusyError, BatchRefusedError or InputError.
        """

    @classmethod
    def schema(cls, identity: Identity) -> str:
        return json.dumps(cls._body(identity), indent=1)

    @classmethod
    def _body(cls, identity: Identity) -> dict[str, Any]:
        return {
            "settings": {"index": {"number_of_shards": 1}},
            "mappings": {
                "dynamic": "strict",
                "_meta": {META_KEY: identity.to_json()},
                "properties": {FIELD: {"type": cls.field_type}},
            },
        }

    def identity(self) -> Identity | None:
        if not self._call("exists"):
            return None
        [found] = self._call("mapping").values()
        text = found["mappings"].get("_meta", {}).get(META_KEY)
        if not text:
            raise InputError(f"{self.place} exists and was not made by export: choose another --name")
        return Identity.parse(text, str(self.place))

    def create(self, identity: Identity) -> None:
        self._call("create", self._body(identity))

    def write(self, documents: Sequence[Document]) -> list[Failure]:
        answer = self._call("bulk", bulk_lines(self.place.name, documents))
        items = [item["index"] for item in answer["items"]]
        if len(items) != len(documents):
            raise InputError(f"{self.place} answered for {len(items)} of {len(documents)} documents")
        failures = []
        for document, item in zip(documents, items, strict=True):
            status = int(item["status"])
            if status >= 300:
                reason = json.dumps(item.get("error", ""), ensure_ascii=False)
                failures.append(Failure(document, str(status), reason, status in _BUSY_STATUSES))
        return failures

    def count(self) -> int:
        self._call("refresh")
        return int(self._call("count")["count"])

    def search(self, queries: Sequence[Query], hits: int) -> list[list[Hit]]:
        body: list[dict[str, Any]] = []
        for query in queries:
            vector = {str(key): value for key, value in zip(query.dimensions, query.weights, strict=True)}
            body.append({"index": self.place.name})
            body.append(
                {"query": self._query(vector), "size": hits, "_source": False, "track_total_hits": False}
            )
        found = []
        for answer in self._call("search", body)["responses"]:
            if "error" in answer:
                reason = json.dumps(answer["error"], ensure_ascii=False)
                if answer.get("status") in _BUSY_STATUSES:
                    raise EngineBusyError(reason)
                raise InputError(f"{self.place}: {reason}")
            if answer.get("timed_out") or answer["_shards"].get("failed"):
                raise EngineBusyError("shards did not answer in time")
            found.append([(hit["_id"], float(hit["_score"])) for hit in answer["hits"]["hits"]])
        return found

    def finish(self) -> None:
        self._call("refresh")

    def close(self) -> None:
        self._client.close()


def bulk_lines(index: str, documents: Sequence[Document]) -> list[dict[str, Any]]:
    """Make the body of a bulk request: it replaces documents with the same docids."""
    lines: list[dict[str, Any]] = []
    for document in documents:
        vector = {str(key): impact for key, impact in zip(document.dimensions, document.impacts, strict=True)}
        lines.append({"index": {"_index": index, "_id": document.docid}})
        lines.append({FIELD: vector})
    return lines
