"""Queries by lookup: each token of the text has the weight that its table says. No model, no torch."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from csplade_pyserini.cards import EncoderCard, Side
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import lone_surrogates
from csplade_pyserini.folding import readable_fold
from csplade_pyserini.impacts import Vector
from csplade_pyserini.interface import AttributedText, QuerySide
from csplade_pyserini.query_sides.table import LookupTable


class _Tokens(NamedTuple):
    """Tokens of one query as the table's tokenizer reads it."""

    text: str
    ids: list[int]
    strings: list[str]
    spans: list[tuple[int, int]]
    """Span of characters of `text` for each token."""


class LookupEncoder(QuerySide):
    """A table with its tokenizer and card."""

    def __init__(self, card: EncoderCard, table: LookupTable) -> None:
        """Raises InputError if the table's tokenizer cannot be read, or has more tokens than the table."""
        self.card = card
        self.identity = table.encoder
        self.terms = table.terms
        """Lucene term of each token id; empty if it has none."""
        self._weights: list[float] = table.weights.tolist()
        self._tokenizer = open_tokenizer(table.tokenizer, f"the table of {table.encoder}")
        size = self._tokenizer.get_vocab_size()
        if size > len(self._weights):
            raise InputError(
                f"the table of {table.encoder} has {len(self._weights)} weights for {size} tokens"
            )

    def encode_queries(
        self,
        texts: Sequence[str],
        *,
        batch_tokens: object = None,
        progress: Callable[[int], object] | None = None,
    ) -> list[Vector]:
        """Vector of each query. There are no batches: `batch_tokens` is ignored.

        Raises InputError on a text that UTF-8 cannot hold.
        """
        vectors = [self._vector(tokens.ids) for tokens in self._tokenize(texts)]
        if progress is not None:
            progress(len(vectors))
        return vectors

    def query_budget(self, tokens: int | str | None) -> None:
        """Return None: a lookup has no batches."""

    def attribute(self, text: str, *, side: Side) -> AttributedText:
        """Vector of a query, with the token behind each of its terms.

        Raises InputError on a document: a table makes queries only.
        """
        if side != "query":
            raise InputError(f"the table of {self.identity} makes queries only, no {side}s")
        [tokens] = self._tokenize([text])
        vector = self._vector(tokens.ids)
        positions: dict[str, int] = {}
        for position, token_id in enumerate(tokens.ids):
            term = self.terms[token_id]
            best = positions.get(term)
            if term in vector and (best is None or self._weights[token_id] > self._weights[tokens.ids[best]]):
                positions[term] = position
        return AttributedText(
            text=tokens.text,
            tokens=tuple(tokens.strings),
            spans=tuple(tokens.spans),
            vector=vector,
            positions=positions,
        )

    def readable(self, term: str) -> str:
        """Return a term as people read it: `Ġmanhattan` as ` manhattan`. For display only."""
        if self.card.fold != "none":
            return readable_fold(term)
        decoder = self._tokenizer.decoder
        if decoder is None:
            return term
        return str(decoder.decode([term])) or term

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each query, without those of the card's prefix, cut at the card's length."""
        return [tokens.ids for tokens in self._tokenize(texts)]

    def _tokenize(self, texts: Sequence[str]) -> list[_Tokens]:
        texts = [text.strip() for text in texts]
        read = [self.card.as_read(text, "query") if text else "" for text in texts]
        return [self._own_tokens(text, found) for text, found in zip(read, self._encoded(read), strict=True)]

    def _encoded(self, texts: list[str]) -> list[Any]:
        try:
            if len(texts) == 1:  # without the threads of a batch
                return [self._tokenizer.encode(texts[0], add_special_tokens=False)]
            encodings: list[Any] = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        except TypeError as error:
            broken = next(filter(lone_surrogates, texts), None)
            if broken is None:
                raise
            raise InputError(
                f"the text {broken!r} holds a lone surrogate, which UTF-8 cannot hold"
            ) from error
        return encodings

    def _own_tokens(self, text: str, encoding: Any) -> _Tokens:
        """Tokens of a text, cut as the model cuts it. Those of the prefix alone are no words of a user."""
        limit = self.card.query_max_length
        prefix = len(self.card.query_prefix)
        spans = encoding.offsets[:limit]
        first = 0
        while prefix and first < len(spans) and spans[first][1] <= prefix:
            first += 1
        kept = slice(first, limit)
        return _Tokens(text, encoding.ids[kept], encoding.tokens[kept], spans[first:])

    def _vector(self, token_ids: Sequence[int]) -> Vector:
        """Vector of token ids: each term once, heaviest first, ties by token id."""
        best: dict[str, tuple[float, int]] = {}
        for token_id in token_ids:
            weight = self._weights[token_id]
            term = self.terms[token_id]
            if weight > 0 and term and (term not in best or weight > best[term][0]):
                best[term] = (weight, token_id)
        heaviest = sorted(best.items(), key=lambda entry: (-entry[1][0], entry[1][1]))
        scale = self.card.impact_scale
        vector = {}
        for term, (weight, _) in heaviest[: self.card.query_top_terms or None]:
            impact = round(weight * scale)
            if impact >= 1:
                vector[term] = impact
        return vector


def open_tokenizer(content: str, origin: str) -> Any:
    """Open a tokenizer's JSON, so that it neither cuts nor pads texts. Raises InputError."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(content)
    except Exception as error:  # the library raises plain Exceptions
        raise InputError(f"cannot read the tokenizer of {origin}: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
