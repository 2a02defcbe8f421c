"""How queries are made: by the model, by a lookup in a table, or by another encoder. No torch at import."""

from csplade_pyserini.query_sides.loading import AsymmetricEncoder, build_queries, load_encoder
from csplade_pyserini.query_sides.sources import QuerySource, find_queries

__all__ = ["AsymmetricEncoder", "QuerySource", "build_queries", "find_queries", "load_encoder"]
