"""Loading the query side that a name means, and the encoder whose two sides differ."""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from csplade_pyserini.cards import Checkpoint, EncoderCard, Side, find_checkpoint
from csplade_pyserini.errors import InputError
from csplade_pyserini.impacts import Vector
from csplade_pyserini.interface import AttributedText, QuerySide
from csplade_pyserini.query_sides.lookup import LookupEncoder
from csplade_pyserini.query_sides.sources import NOTHING_MAKES, QuerySource, find_queries
from csplade_pyserini.query_sides.table import read_table
from csplade_pyserini.query_sides.vocabularies import refuse_other_encoder, refuse_other_table

if TYPE_CHECKING:
    from torch import Tensor

    from csplade_pyserini.model import SparseEncoder


class AsymmetricEncoder(QuerySide):
    """An encoder whose queries are not made by its model. The model is loaded for documents only."""

    def __init__(
        self,
        card: EncoderCard,
        queries: QuerySide,
        find_documents: Callable[[], Checkpoint],
        *,
        identity: str,
    ) -> None:
        """find_documents: finds the checkpoint that encodes documents; raises InputError without weights."""
        self.card = card
        self.queries = queries
        """Maker of the queries."""
        self.identity = identity
        self._find_documents = find_documents

    @functools.cached_property
    def documents(self) -> "SparseEncoder":
        """The model that encodes documents, loaded when it is first asked for. Raises InputError."""
        from csplade_pyserini.model import build_encoder

        return build_encoder(self._find_documents())

    @property
    def empty_term(self) -> str:
        """The reserved term of documents without any term."""
        return self.documents.empty_term

    def encode_documents(self, texts: Sequence[str], *, batch_tokens: int | None = None) -> list[Vector]:
        """Vector `{term: impact}` of each text by the model, heaviest term first."""
        return self.documents.encode_documents(texts, batch_tokens=batch_tokens)

    def weights(self, texts: Sequence[str], *, side: Side = "document") -> "Tensor":
        """(B, V) float32 weights of documents by the model. Raises InputError on queries."""
        if side == "query":
            raise InputError(
                f"queries of {self.card.name} are not made by its model; encode_queries gives their vectors"
            )
        return self.documents.weights(texts, side=side)

    def encode_queries(
        self,
        texts: Sequence[str],
        *,
        batch_tokens: Any = None,
        progress: Callable[[int], object] | None = None,
    ) -> list[Vector]:
        """Vector of each query."""
        return self.queries.encode_queries(texts, batch_tokens=batch_tokens, progress=progress)

    def query_budget(self, tokens: int | str | None) -> Any:
        """Make a budget for batches of queries; None if there are no batches."""
        return self.queries.query_budget(tokens)

    def attribute(self, text: str, *, side: Side) -> AttributedText:
        """Vector of a text, with the token behind each of its terms."""
        if side == "query":
            return self.queries.attribute(text, side=side)
        return self.documents.attribute(text, side=side)

    def readable(self, term: str) -> str:
        """Return a term as people read it. For display only."""
        return self.queries.readable(term)


def load_encoder(
    name: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    quantization: str | None = None,
    max_length: int | None = None,
    top_terms: int | None = None,
    revision: str | None = None,
) -> "SparseEncoder | AsymmetricEncoder":
    """Load the encoder `NAME[:key=value,...]`: a card, an alias, a checkpoint folder or a hub id.

    Keyword arguments win over options in the name. If its queries are not made by its model, no model is
    loaded before documents are encoded. Raises InputError on an unknown name, missing or broken weights or
    table, a wrong card, or an unavailable device.
    """
    return build_queries(
        find_queries(
            name,
            device=device,
            dtype=dtype,
            quantization=quantization,
            max_length=max_length,
            top_terms=top_terms,
            revision=revision,
        )
    )


def build_queries(source: QuerySource) -> "SparseEncoder | AsymmetricEncoder":
    """Load what makes the queries. Raises InputError, naming both sides, if they do not fit."""
    if source.table is not None:
        table = read_table(source.table)
        if source.checkpoint is not None:
            refuse_other_table(table, source.table, source.checkpoint)
        print(f"loading the table {source.table} of {source.card.name}", file=sys.stderr)
        return _asymmetric(source, LookupEncoder(source.card, table))
    if source.other is not None:
        if source.checkpoint is not None:
            refuse_other_encoder(source.checkpoint, source.other)
        return _asymmetric(source, build_queries(source.other))
    from csplade_pyserini.model import build_encoder

    if source.checkpoint is None:
        raise ValueError(NOTHING_MAKES.format(name=source.text))
    return build_encoder(source.checkpoint)


def _asymmetric(source: QuerySource, queries: QuerySide) -> AsymmetricEncoder:
    overrides = {key: getattr(source.options, key) for key in ("device", "dtype", "revision")}
    find_documents = functools.partial(find_checkpoint, source.text, **overrides)
    return AsymmetricEncoder(source.card, queries, find_documents, identity=source.identity)
