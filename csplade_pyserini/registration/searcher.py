"""Impact search: our encoders by name, the check of their index, and batches in one forward pass."""

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from csplade_pyserini.cards import canonical_name, is_ours, parse_encoder_name
from csplade_pyserini.collections.manifests import encoder_of
from csplade_pyserini.impacts import Vector
from csplade_pyserini.lucene import classes
from csplade_pyserini.lucene.bulk import BulkSearcher, plain_hits
from csplade_pyserini.lucene.idf import LazyIdf
from csplade_pyserini.lucene.makers import knows_encoder, maker_name, refuse_mismatch
from csplade_pyserini.lucene.matching import MAX_CLAUSES
from csplade_pyserini.query_sides import find_queries
from csplade_pyserini.registration.encoders import encodes_as_ours, ours_behind, shared_encoder
from csplade_pyserini.registration.names import is_our_query_file, means_ours
from csplade_pyserini.registration.patches import Function, replaces
from csplade_pyserini.registration.programs import one_sentence, say

MODULE = "pyserini.search.lucene._impact_searcher"


_NOT_GIVEN: Any = object()
"""Default of an argument; None is a value of it, which means that queries are terms already."""
_IS_OURS = "_csplade_pyserini_queries"
"""Mark of a searcher whose queries an encoder of ours makes."""


class _Batch(threading.local):
    """The queries that this thread's batch_search has encoded together."""

    searcher: Any = None
    vectors: Mapping[str, Vector] = MappingProxyType({})


_batch = _Batch()


@replaces(MODULE, "LuceneImpactSearcher._init_query_encoder_from_str")
def choose_encoder(stock: Function, query_encoder: str | None) -> Any:
    """Return our encoder for a name of ours. Raises InputError on a mistyped one."""
    if query_encoder is not None and means_ours(query_encoder):
        return shared_encoder(query_encoder)
    return stock(query_encoder)


@replaces(MODULE, "LuceneImpactSearcher.__init__")
def init(
    stock: Function, self: Any, index_dir: str, query_encoder: Any = _NOT_GIVEN, *args: Any, **kwargs: Any
) -> None:
    """Open a searcher, without an encoder with the one that made the index.

    Refuses an index that has changed, or that another encoder made.
    """
    if query_encoder is _NOT_GIVEN:
        if not knows_encoder(Path(index_dir)):
            stock(self, index_dir, *args, **kwargs)  # Pyserini says which argument is missing
            return
        with one_sentence():
            query_encoder = maker_name(Path(index_dir))
        say(f"{index_dir} is searched with its own encoder, {query_encoder}")
    with one_sentence():
        identity = query_identity(query_encoder)
        refuse_mismatch(
            Path(index_dir), identity or stock_name(query_encoder), name=name_of_ours(query_encoder)
        )
    stock(self, index_dir, query_encoder, *args, **kwargs)
    if identity is None:
        return
    vars(self)[_IS_OURS] = True
    classes.IndexSearcher.setMaxClauseCount(MAX_CLAUSES)
    if self.min_idf == 0:
        # Stock keeps `idf > min_idf`: a term of every document would lose its impact in the score.
        self.min_idf = -1


@replaces(MODULE, "LuceneImpactSearcher.encode")
def encode(stock: Function, self: Any, query: str) -> Any:
    """Encode a query, unless this thread's batch_search has: a subclass may change the vector."""
    if _batch.searcher is self and query in _batch.vectors:
        return dict(_batch.vectors[query])
    return stock(self, query)


@replaces(MODULE, "LuceneImpactSearcher._compute_idf")
def compute_idf(stock: Function, index_path: str) -> Any:
    """Look idf up term by term: stock walks through all terms, although few searches ask for any."""
    return LazyIdf(index_path, lambda: stock(index_path))


@replaces(MODULE, "LuceneImpactSearcher.batch_search")
def batch_search(
    stock: Function,
    self: Any,
    queries: list[str],
    qids: list[str],
    k: int = 10,
    threads: int = 1,
    fields: Any = MappingProxyType({}),
) -> Any:
    """Search for several queries. Our encoders encode them in one forward pass.

    Without fields and without a least idf, the batch goes to Java and comes back in one call each.
    """
    with _encoded_together(self, queries):
        is_plain = not (fields or self.min_idf >= 0 or self.object.use_rm3() or self.object.use_rocchio())
        if not is_plain or not vars(self).get(_IS_OURS):
            return stock(self, queries, qids, k, threads, fields)
        vectors = [self.encode(query) for query in queries]
        return BulkSearcher(self.object.reader).search(vectors, qids, k, threads)


@replaces("pyserini.output_writer", "OutputWriter.hits_iterator")
def hits_iterator(stock: Function, self: Any, hits: Any) -> Any:
    """Write docids and scores without making Java's objects of the hits."""
    return stock(self, plain_hits(hits))


@contextmanager
def _encoded_together(searcher: Any, queries: list[str]) -> Iterator[None]:
    encoder = ours_behind(searcher.query_encoder)
    if encoder is None or not encodes_as_ours(searcher.query_encoder):
        yield
        return
    # --batch-size is the user's word on memory: one padded forward pass, however many tokens.
    vectors = encoder.encode_queries(queries, batch_tokens=sys.maxsize)
    before = (_batch.searcher, _batch.vectors)
    _batch.searcher = searcher
    _batch.vectors = dict(zip(queries, vectors, strict=True))
    try:
        yield
    finally:
        _batch.searcher, _batch.vectors = before


def query_identity(query_encoder: Any) -> str | None:
    """Identity of our encoder behind a name, a query file or an encoder object; None if it is not ours.

    Raises InputError on a mistyped name.
    """
    if not isinstance(query_encoder, str):
        encoder = ours_behind(query_encoder)
        return encoder.identity if encoder else None
    if means_ours(query_encoder):
        return find_queries(query_encoder).identity
    if is_our_query_file(query_encoder):
        return encoder_of(Path(query_encoder))
    return None


def name_of_ours(query_encoder: Any) -> str:
    """Name of an encoder of ours without options; empty for a file, an object or another encoder."""
    if not isinstance(query_encoder, str) or not is_ours(query_encoder):
        return ""
    name, _ = parse_encoder_name(canonical_name(query_encoder))
    return name


def stock_name(query_encoder: Any) -> str | None:
    """Name of an encoder of Pyserini's; None for an object and for a query file of unknown origin."""
    if not isinstance(query_encoder, str) or os.path.isfile(query_encoder):
        return None
    return query_encoder
