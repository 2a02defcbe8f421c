"""Python packages that the tests of each engine need."""

import importlib.util

import pytest

CLIENTS = {
    "qdrant": ("qdrant_edge", "qdrant_client"),
    "milvus": ("pymilvus", "milvus_lite"),
    "opensearch": ("opensearchpy",),
    "elasticsearch": ("elasticsearch",),
    "vespa": (),
    "ciff": ("google.protobuf",),
}
EMBEDDED = ("qdrant", "milvus")
RECORDED = ("opensearch", "elasticsearch")
"""Engines that tests/engines/recording_server.py stands in for."""


def skip_without(engine: str) -> None:
    """Skip a test where the engine's client is missing."""
    for module in CLIENTS[engine]:
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            pytest.skip(f"needs the Python package of {module}: the extra [{engine}]")
