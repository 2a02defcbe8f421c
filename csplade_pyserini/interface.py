"""Interface of encoders to search, explanation and the verbs, however queries are made. No torch."""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from csplade_pyserini.cards import EncoderCard, Side
from csplade_pyserini.impacts import Vector


@dataclass(frozen=True, kw_only=True)
class AttributedText:
    """A text, its tokens, its vector, and the token behind each term's weight."""

    text: str
    """Text as the tokenizer read it, prefix included."""
    tokens: tuple[str, ...]
    """Raw tokenizer strings, cut at the card's length."""
    spans: tuple[tuple[int, int], ...]
    """Span of characters of `text` for each token; empty for BOS and EOS."""
    vector: Vector
    positions: dict[str, int]
    """Index of the token with the largest logit, for each term of `vector`."""


class QuerySide(abc.ABC):
    """An encoder of queries: a model, or a table of token weights."""

    card: EncoderCard
    identity: str
    """Identity of the encoder whose documents these queries find: searches compare it with the index's."""

    @abc.abstractmethod
    def encode_queries(
        self,
        texts: Sequence[str],
        *,
        batch_tokens: Any = None,
        progress: Callable[[int], object] | None = None,
    ) -> list[Vector]:
        """Vector of each query.

        batch_tokens: padded tokens in a forward pass, or a budget by query_budget; None: the default.
        progress: called with the number of queries that are done since its last call.
        """

    @abc.abstractmethod
    def query_budget(self, tokens: int | str | None) -> Any:
        """Make a budget of so many tokens for batches of queries; `auto`: the fastest, None: the default."""

    @abc.abstractmethod
    def attribute(self, text: str, *, side: Side) -> AttributedText:
        """Vector of a text, with the token behind each of its terms."""

    @abc.abstractmethod
    def readable(self, term: str) -> str:
        """Return a term as people read it: `Ġmanhattan` as ` manhattan`. For display only."""

    def encode(self, query: str, **_: object) -> Vector:
        """Vector of one query: Pyserini's query-encoder interface.

        Pyserini's lengths are ignored; the card has its own.
        """
        return self.encode_queries([query])[0]
