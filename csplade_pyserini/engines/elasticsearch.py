"""Elasticsearch by its client: a `sparse_vector` field, searched by `query_vector` (8.15 or newer)."""

from typing import Any

from csplade_pyserini.engines.bulk import BulkTarget, feature_limits
from csplade_pyserini.engines.target import FIELD, EngineBusyError, import_client, refusal
from csplade_pyserini.errors import InputError

_ENGINE = "elasticsearch"


class Elasticsearch(BulkTarget):
    """An index of Elasticsearch."""

    limits = feature_limits(_ENGINE)
    field_type = "sparse_vector"

    def _connect(self) -> Any:
        client = import_client("elasticsearch", _ENGINE)
        return client.Elasticsearch(
            self.place.url,
            api_key=self.place.key or None,
            request_timeout=self.place.timeout,
            max_retries=0,
            retry_on_timeout=False,
        )

    def _query(self, vector: dict[str, float]) -> dict[str, Any]:
        return {"sparse_vector": {"field": FIELD, "query_vector": vector, "prune": False}}

    def _call(self, name: str, body: Any = None) -> Any:
        client = self._client
        index = self.place.name
        exceptions = import_client("elasticsearch", _ENGINE)
        calls = {
            "exists": lambda: client.indices.exists(index=index),
            "mapping": lambda: client.indices.get_mapping(index=index),
            "create": lambda: client.indices.create(index=index, **body),
            "bulk": lambda: client.bulk(operations=body),
            "refresh": lambda: client.indices.refresh(index=index),
            "count": lambda: client.count(index=index),
            "search": lambda: client.msearch(searches=body),
        }
        try:
            return calls[name]()
        except exceptions.ConnectionTimeout as error:
            raise EngineBusyError(f"time-out: {error}") from error
        except exceptions.ApiError as error:
            if error.meta.status in (429, 503):
                raise EngineBusyError(error) from error
            raise refusal(error.meta.status, f"{self.place}: {error}") from error
        except exceptions.TransportError as error:
            raise InputError(f"{self.place} cannot be reached: {error}") from error
