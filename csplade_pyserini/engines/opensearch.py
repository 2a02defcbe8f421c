"""OpenSearch by opensearch-py: a `rank_features` field, searched by raw tokens (2.14 or newer)."""

from typing import Any

from csplade_pyserini.engines.bulk import BulkTarget, feature_limits
from csplade_pyserini.engines.target import FIELD, EngineBusyError, import_client, refusal
from csplade_pyserini.errors import InputError

_ENGINE = "opensearch"


class OpenSearch(BulkTarget):
    """An index of OpenSearch."""

    limits = feature_limits(_ENGINE)
    field_type = "rank_features"

    def _connect(self) -> Any:
        client = import_client("opensearchpy", _ENGINE)
        options: dict[str, Any] = {}
        if self.place.key:
            options["headers"] = {"Authorization": f"Bearer {self.place.key}"}
        return client.OpenSearch(
            self.place.url, timeout=self.place.timeout, max_retries=0, retry_on_timeout=False, **options
        )

    def _query(self, vector: dict[str, float]) -> dict[str, Any]:
        return {"neural_sparse": {FIELD: {"query_tokens": vector}}}

    def _call(self, name: str, body: Any = None) -> Any:
        exceptions = import_client("opensearchpy.exceptions", _ENGINE)
        index = self.place.name
        client = self._client
        calls = {
            "exists": lambda: client.indices.exists(index=index),
            "mapping": lambda: client.indices.get_mapping(index=index),
            "create": lambda: client.indices.create(index=index, body=body),
            "bulk": lambda: client.bulk(body=body),
            "refresh": lambda: client.indices.refresh(index=index),
            "count": lambda: client.count(index=index),
            "search": lambda: client.msearch(body=body),
        }
        try:
            return calls[name]()
        except exceptions.ConnectionTimeout as error:
            raise EngineBusyError(f"time-out: {error}") from error
        except exceptions.ConnectionError as error:
            raise InputError(f"{self.place} cannot be reached: {error}") from error
        except exceptions.TransportError as error:
            if error.status_code in (429, 503):
                raise EngineBusyError(error) from error
            raise refusal(error.status_code, f"{self.place}: {error}") from error
