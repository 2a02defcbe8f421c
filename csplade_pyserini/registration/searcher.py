"""Impact search: our encoders by name, the check of their index, batches, and Java one call at a time."""

import copy
import os
import sys
from pathlib import Path
from typing import Any

from csplade_pyserini.cards import find_checkpoint, is_ours
from csplade_pyserini.collections.manifests import encoder_of, refuse_mismatch
from csplade_pyserini.lucene import classes
from csplade_pyserini.lucene.matching import MAX_CLAUSES
from csplade_pyserini.registration import java
from csplade_pyserini.registration.command_lines import is_our_query_file
from csplade_pyserini.registration.encoders import shared_encoder
from csplade_pyserini.registration.patches import Function, relies_on, replaces
from csplade_pyserini.registration.programs import one_sentence

MODULE = "pyserini.search.lucene._impact_searcher"

relies_on(MODULE, "LuceneImpactSearcher.encode")


@replaces(MODULE, "LuceneImpactSearcher._init_query_encoder_from_str")
def choose_encoder(stock: Function, query_encoder: str | None) -> Any:
    """Return our encoder for a name of ours."""
    if query_encoder is not None and is_ours(query_encoder):
        return shared_encoder(query_encoder)
    return stock(query_encoder)


@replaces(MODULE, "LuceneImpactSearcher.__init__")
def init(stock: Function, self: Any, index_dir: str, query_encoder: Any, *args: Any, **kwargs: Any) -> None:
    """Open a searcher. Refuses an index that has changed, or that another encoder made."""
    with one_sentence():
        identity = query_identity(query_encoder)
        refuse_mismatch(Path(index_dir), identity or stock_name(query_encoder))
    stock(self, index_dir, query_encoder, *args, **kwargs)
    if identity is None:
        return
    classes.IndexSearcher.setMaxClauseCount(MAX_CLAUSES)
    if self.min_idf == 0:
        # Stock keeps `idf > min_idf`: a term of every document would lose its impact in the score.
        self.min_idf = -1


@replaces(MODULE, "LuceneImpactSearcher.search")
def search(stock: Function, self: Any, q: str, *args: Any, **kwargs: Any) -> Any:
    """Search. Our encoders work before Java is locked."""
    searcher = self
    if _is_ours(self.query_encoder):
        searcher = _with_vectors(self, {q: self.encode(q)})
    with java.lock:
        return stock(searcher, q, *args, **kwargs)


@replaces(MODULE, "LuceneImpactSearcher.batch_search")
def batch_search(stock: Function, self: Any, queries: list[str], *args: Any, **kwargs: Any) -> Any:
    """Search for several queries. Our encoders encode them in one forward pass, before Java is locked."""
    searcher = self
    if _is_ours(self.query_encoder):
        # --batch-size is the user's word on memory: one padded forward pass, however many tokens.
        vectors = self.query_encoder.encode_queries(queries, batch_tokens=sys.maxsize)
        searcher = _with_vectors(self, dict(zip(queries, vectors, strict=True)))
    with java.lock:
        return stock(searcher, queries, *args, **kwargs)


def query_identity(query_encoder: Any) -> str | None:
    """Identity of our encoder behind a name, a query file or an encoder object; None if it is not ours."""
    if not isinstance(query_encoder, str):
        return getattr(query_encoder, "identity", None)
    if is_ours(query_encoder):
        return find_checkpoint(query_encoder).identity
    if is_our_query_file(query_encoder):
        return encoder_of(Path(query_encoder))
    return None


def stock_name(query_encoder: Any) -> str | None:
    """Name of an encoder of Pyserini's; None for an object and for a query file of unknown origin."""
    if not isinstance(query_encoder, str) or os.path.isfile(query_encoder):
        return None
    return query_encoder


def _is_ours(encoder: Any) -> bool:
    return hasattr(encoder, "encode_queries")


def _with_vectors(searcher: Any, vectors: dict[str, Any]) -> Any:
    """Copy a searcher so that its `encode` only looks up: other threads may be using the original."""
    view = copy.copy(searcher)
    view.encode = vectors.__getitem__
    return view
