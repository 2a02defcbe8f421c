"""Milvus by pymilvus: a cluster's collection, or milvus-lite in a folder; the same calls for both."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from csplade_pyserini.engines.target import (
    DOCID_FIELD,
    FIELD,
    FLOAT_BITS,
    META_KEY,
    BatchRefusedError,
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
)
from csplade_pyserini.errors import InputError

_ENGINE = "milvus"
_DATABASE = "milvus.db"
_COLLECTION = "documents"
"""Collection of an embedded database."""
_DOCID_BYTES = 65_535
_RATE_LIMIT = 8
"""Milvus's code for too many requests."""
_UNREACHABLE = ("failed to connect", "Connection refused", "connecting to server", "closed channel")
_NOT_ABOUT_DOCUMENTS = (4, 100, 700, "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED")
"""Codes of a collection or an index that is gone, and of a client that may not write."""
_BUSY_GRPC = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")


class Milvus(Target):
    """A collection of Milvus."""

    limits = Limits(engine=_ENGINE, significant_bits=FLOAT_BITS, docid_bytes=_DOCID_BYTES, most_hits=16_384)

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._milvus = import_client("pymilvus", _ENGINE)
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it prints stack traces of errors told here
        self._name = place.name or _COLLECTION
        self._connected: Any = None

    @property
    def _client(self) -> Any:
        if self._connected is None:
            uri = self.place.url
            if self.place.folder is not None:
                import_client("milvus_lite", _ENGINE)
                self.place.folder.mkdir(parents=True, exist_ok=True)
                uri = str(self.place.folder / _DATABASE)
            with self._errors():
                self._connected = self._milvus.MilvusClient(
                    uri=uri, token=self.place.key, timeout=self.place.timeout
                )
        return self._connected

    @staticmethod
    def schema(identity: Identity) -> str:
        return json.dumps(
            {
                "description": identity.to_json(),
                "auto_id": False,
                "fields": [
                    {
                        "name": DOCID_FIELD,
                        "type": "VARCHAR",
                        "is_primary": True,
                        "max_length": _DOCID_BYTES,
                    },
                    {"name": FIELD, "type": "SPARSE_FLOAT_VECTOR"},
                ],
                "index": {"field": FIELD, "index_type": "SPARSE_INVERTED_INDEX", "metric_type": "IP"},
            },
            indent=1,
        )

    def identity(self) -> Identity | None:
        if self.place.folder is not None and not (self.place.folder / _DATABASE).exists():
            return None
        with self._errors():
            if not self._client.has_collection(self._name):
                return None
            described = self._client.describe_collection(self._name)
        # milvus-lite keeps properties, and no descriptions
        text = described["description"] or described.get("properties", {}).get(META_KEY)
        if not text:
            raise InputError(f"{self.place} exists and was not made by export: choose another --name")
        return Identity.parse(text, str(self.place))

    def create(self, identity: Identity) -> None:
        client = self._client
        kinds = self._milvus.DataType
        schema = client.create_schema(
            auto_id=False, enable_dynamic_field=False, description=identity.to_json()
        )
        schema.add_field(DOCID_FIELD, kinds.VARCHAR, is_primary=True, max_length=_DOCID_BYTES)
        schema.add_field(FIELD, kinds.SPARSE_FLOAT_VECTOR)
        index = client.prepare_index_params()
        index.add_index(FIELD, index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
        with self._errors():
            client.create_collection(self._name, schema=schema, index_params=index)
            if not client.describe_collection(self._name)["description"]:
                client.alter_collection_properties(self._name, {META_KEY: identity.to_json()})

    def write(self, documents: Sequence[Document]) -> list[Failure]:
        rows = [
            {
                DOCID_FIELD: document.docid,
                FIELD: dict(zip(document.dimensions, map(float, document.impacts), strict=True)),
            }
            for document in documents
        ]
        with self._errors():
            self._client.upsert(self._name, rows, timeout=self.place.timeout)
        return []

    def count(self) -> int:
        with self._errors():
            self._client.load_collection(self._name)
            rows = self._client.query(
                self._name, filter="", output_fields=["count(*)"], consistency_level="Strong"
            )
        return int(rows[0]["count(*)"])

    def search(self, queries: Sequence[Query], hits: int) -> list[list[Hit]]:
        vectors = [dict(zip(query.dimensions, query.weights, strict=True)) for query in queries]
        with self._errors():
            self._client.load_collection(self._name)
            answers = self._client.search(
                self._name,
                data=vectors,
                anns_field=FIELD,
                limit=hits,
                output_fields=[DOCID_FIELD],
                search_params={"metric_type": "IP", "params": {"drop_ratio_search": 0.0}},
                timeout=self.place.timeout,
                consistency_level="Strong",
            )
        return [[(hit[DOCID_FIELD], float(hit["distance"])) for hit in found] for found in answers]

    def flush(self) -> None:
        if self.place.folder is not None:  # a server acknowledges what it has written down
            self.finish()

    def finish(self) -> None:
        with self._errors():
            self._client.flush(self._name)

    def close(self) -> None:
        if self._connected is not None:
            self._connected.close()
            self._connected = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Sort the client's errors into busy, refused and unreachable."""
        import grpc

        exceptions = self._milvus.exceptions
        try:
            yield
        except exceptions.MilvusUnavailableException as error:
            raise EngineBusyError(error) from error
        except grpc.RpcError as error:
            status = error.code().name
            reason = f"{status}: {error.details()}"
            if status in _BUSY_GRPC:
                raise EngineBusyError(reason) from error
            raise InputError(f"{self.place}: {reason}") from error
        except exceptions.MilvusException as error:
            raise self._sorted(error) from error

    def _sorted(self, error: Any) -> Exception:
        message = str(error.message)
        if any(sign in message for sign in _UNREACHABLE):
            return InputError(f"{self.place} cannot be reached: {message}")
        code = getattr(error.code, "name", error.code)  # of gRPC, or Milvus's own
        if code == _RATE_LIMIT or code in _BUSY_GRPC:
            return EngineBusyError(message)
        if code in _NOT_ABOUT_DOCUMENTS:
            return InputError(f"{self.place}: {message}")
        return BatchRefusedError(message)
