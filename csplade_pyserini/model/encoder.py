"""The encoder: texts to weights over the vocabulary, and weights to impacts.

    weights = log1p(relu(scale * max over the text's tokens of the LM-head logits - shift))

One model and one formula serve queries and documents (arXiv 2504.10816, eq. 1). The card says how the two
sides differ: prefix, length, top terms. A card may leave out light weights, and add lexical ones.
"""

import functools
import sys
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from csplade_pyserini.cards import Checkpoint, EncoderCard, Side, find_checkpoint
from csplade_pyserini.errors import InputError
from csplade_pyserini.folding import readable_fold
from csplade_pyserini.impacts import Vector, empty_term, to_vector
from csplade_pyserini.interface import AttributedText, QuerySide
from csplade_pyserini.model import backbone
from csplade_pyserini.model.attention import set_attention
from csplade_pyserini.model.batching import (
    TokenBudget,
    fastest_budget,
    longest_first,
    out_of_memory,
    usual_batch_tokens,
)
from csplade_pyserini.model.head import (
    activate,
    cut_light,
    peaks_and_positions,
    pooled_positions,
    rows_in_use,
    streamed_peaks,
)
from csplade_pyserini.model.idle import leave_out_idle_attention
from csplade_pyserini.model.inputs import Batch, pad, pooled_tokens, token_spans, tokenize
from csplade_pyserini.model.lexical import Lexical, load_lexical, with_lexical
from csplade_pyserini.model.positions import check_lengths
from csplade_pyserini.model.states import last_hidden_states
from csplade_pyserini.model.vocabulary import Vocabulary

_DEFAULT_DTYPES = {"cuda": "float16"}
"""Default dtypes by device; float32 on others. bfloat16 changes eight times as many impacts as float16
(experiments/dtypes.py)."""
_QUANTIZED_DTYPES = {("cuda", "int4"): "bfloat16"}
"""Default dtypes by device and quantization, where torchao has a kernel for no other."""
_DEVICES = "cpu, cuda, cuda:N or another device of this torch"
_OVERFLOW = (
    "the model's weights are not finite, they overflow in its dtype: use dtype=bfloat16 or dtype=float32 "
    "behind the encoder's name"
)
_NOT_FINITE = -1
"""Impact of all terms of a text whose weights are not finite."""
_HEAD_TOLERANCES = {torch.float32: 1e-3}
"""Relative tolerance of the head's check by dtype."""
_LOOSE_TOLERANCE = 3e-2
"""Tolerance of dtypes of 16 bits."""
_Entries = tuple[Sequence[Tensor], Sequence[Tensor]]
"""Token ids and impacts of each text of a batch, on the CPU."""


class SparseEncoder(QuerySide):
    """A backbone with its tokenizer and card. Make one with `load_encoder`."""

    def __init__(
        self,
        card: EncoderCard,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        identity: str = "",
        lexical: Lexical | None = None,
    ) -> None:
        """lexical: as load_lexical gives it; needed if the card has lexical weights.

        Raises InputError if the model does not attend as the card says, or if its head is not plain.
        """
        self.card = card
        self.model = model
        self.tokenizer = tokenizer
        self.identity = identity or f"{card.name}@{card.hash()[:16]}"
        """Name, card hash and weight fingerprint: manifests hold it, searches compare it."""
        self._head = model.get_output_embeddings()
        _check_head(model, self._head)  # first, as states that are not finite look like a wrong attention
        set_attention(model, card.attention)
        leave_out_idle_attention(model)
        vocabulary = Vocabulary(card, tokenizer, self._head.weight.shape[0])
        self.terms = vocabulary.terms
        """Lucene term of each column of the weights; None if the tokenizer has no such id."""
        self.token_terms = vocabulary.token_terms
        """Lucene term of each vocabulary id: `terms`, unless tokens are folded; None if it is no term."""
        self.empty_term = empty_term(self.terms)
        self._is_term = vocabulary.is_term.to(model.device)
        self._pooled = pooled_tokens(card, tokenizer, len(self.token_terms))
        self._head_terms = vocabulary.head_terms
        if self._head_terms is not None:
            self._head_terms = self._head_terms.to(model.device)
        if card.is_lexical and lexical is None:
            raise InputError(f"the card of {card.name} has lexical weights; wanted what load_lexical gives")
        self._lexical = lexical
        self._rows_in_use = len(self._head.weight)
        if lexical is not None:
            self._lexical = lexical.to(model.device)
            if self._head_terms is None and self._head.bias is None:
                self._rows_in_use = rows_in_use(self._head.weight)
        self._folded: frozenset[str | None] = frozenset()
        if card.fold != "none":
            self._folded = frozenset(vocabulary.terms)

    def tokenize(self, texts: Sequence[str], *, side: Side) -> list[list[int]]:
        """Token ids of each text as the card says (prefix, truncation, BOS, EOS), before echo."""
        return tokenize(texts, side=side, card=self.card, tokenizer=self.tokenizer)

    def weights(self, texts: Sequence[str], *, side: Side = "document") -> Tensor:
        """(B, T) float32 weights, all >= 0, in one forward pass; an empty text has the zero vector.

        T: number of `terms`, the vocabulary's entries or its folds.
        """
        return self._weights(self.tokenize(texts, side=side), side)

    def encode_documents(self, texts: Sequence[str], *, batch_tokens: int | None = None) -> list[Vector]:
        """Vector `{term: impact}` of each text, heaviest term first; impacts are ints >= 1.

        batch_tokens: padded tokens in a forward pass; None: the device's default.
        """
        rows = self.tokenize(texts, side="document")
        return self.encode_tokenized(rows, side="document", batch_tokens=batch_tokens)

    def encode_queries(
        self,
        texts: Sequence[str],
        *,
        batch_tokens: int | TokenBudget | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> list[Vector]:
        """Vector of each query, in as few forward passes as `batch_tokens` allows.

        batch_tokens: padded tokens in a forward pass; None: the device's default. progress: called after
        each batch with its number of queries.
        """
        rows = self.tokenize(texts, side="query")
        return self.encode_tokenized(rows, side="query", batch_tokens=batch_tokens, progress=progress)

    def encode_tokenized(
        self,
        rows: Sequence[list[int]],
        *,
        side: Side,
        batch_tokens: int | TokenBudget | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> list[Vector]:
        """Vectors of tokenized texts, in their order. Texts of similar length share a batch.

        If the device has no memory for a batch, this batch and those after it are halved. A TokenBudget
        remembers that for the next call. progress: called after each batch with its number of texts.
        """
        budget = batch_tokens
        if not isinstance(budget, TokenBudget):
            budget = self.token_budget(budget, side=side)
        vectors: list[Vector] = [{}] * len(rows)
        for batch, entries in self._encoded_batches(rows, side, budget):
            for index, token_ids, impacts in zip(batch, *entries, strict=True):
                vectors[index] = to_vector(token_ids.tolist(), impacts.tolist(), self.terms)
            if progress is not None:
                progress(len(batch))
        return vectors

    def token_budget(self, tokens: int | str | None, *, side: Side) -> TokenBudget:
        """Make a budget of so many tokens; `auto`: the fastest on the device, None: its default."""
        if tokens == "auto":
            tokens = self.batch_tokens(side=side)
            print(f"batches of at most {tokens} tokens are fastest here", file=sys.stderr)
        return TokenBudget(int(tokens or usual_batch_tokens(self.model.device)))

    def query_budget(self, tokens: int | str | None) -> TokenBudget:
        """Make a budget of so many tokens for batches of queries, as token_budget does."""
        return self.token_budget(tokens, side="query")

    def batch_tokens(self, *, side: Side = "document") -> int:
        """Tokens in the batches that this device encodes fastest: --batch-tokens auto.

        Tries several sizes, which takes seconds.
        """
        limit = self.card.side(side).max_length
        tokens = fastest_budget(lambda rows: _entries(self._impacts(rows, side)), limit, len(self.terms))
        return self.card.copies * tokens

    def attribute(self, text: str, *, side: Side) -> AttributedText:
        """Vector of a text, with the token behind each of its terms.

        The vector is that of `encode_queries` or `encode_documents`.
        """
        rows = self.tokenize([text], side=side)
        [row] = rows
        [vector] = self.encode_tokenized(rows, side=side)
        seen, spans = token_spans(text, side=side, card=self.card, tokenizer=self.tokenizer)
        positions = {}
        if row:
            peaks = self._peak_positions(row, side)
            positions = {term: peak for term, peak in zip(self.terms, peaks, strict=True) if term in vector}
        tokens = tuple(self.tokenizer.convert_ids_to_tokens(row))
        return AttributedText(
            text=seen, tokens=tokens, spans=tuple(spans), vector=vector, positions=positions
        )

    def readable(self, term: str) -> str:
        """Return a term as people read it: `Ġmanhattan` as ` manhattan`. For display only."""
        if term in self._folded:
            return readable_fold(term)
        return str(self.tokenizer.convert_tokens_to_string([term])) or term

    def _encoded_batches(
        self, rows: Sequence[list[int]], side: Side, budget: TokenBudget
    ) -> Iterator[tuple[list[int], _Entries]]:
        """Row numbers and entries of each batch, longest rows first.

        A batch is yielded once the next one runs, so that the caller works while a GPU does.
        """
        order = longest_first([len(row) for row in rows])
        begin = 0
        ready: tuple[list[int], _Entries] | None = None
        while begin < len(order):
            longest = self.card.copies * len(rows[order[begin]])
            batch = order[begin : begin + budget.texts(longest)]
            impacts = _if_it_fits(functools.partial(self._impacts, [rows[i] for i in batch], side))
            if ready is not None:
                yield ready
                ready = None
            entries = None
            if impacts is not None:
                entries = _if_it_fits(functools.partial(_entries, impacts))
            if entries is None:
                budget.halve(len(batch))
                continue
            ready = (batch, entries)
            begin += len(batch)
        if ready is not None:
            yield ready

    @torch.inference_mode()
    def _weights(self, rows: Sequence[list[int]], side: Side) -> Tensor:
        if not any(rows):
            return torch.zeros(len(rows), len(self.terms))
        batch = self._padded(rows, side)
        weights = self._own_weights(self._peaks(batch))
        if weights.shape[1] < len(self.terms):  # the head's last rows are empty: no weights of the model
            weights = torch.nn.functional.pad(weights, (0, len(self.terms) - weights.shape[1]))
        return self._with_lexical(weights.mul_(self._is_term), batch, side)

    def _own_weights(self, peaks: Tensor) -> Tensor:
        """Weights (B, T) of the model alone."""
        card = self.card
        return cut_light(activate(peaks, card.logit_scale, card.logit_shift), card.least_weight)

    def _with_lexical(self, weights: Tensor, batch: Batch, side: Side) -> Tensor:
        """Add the lexical weights, if the card has any, to weights (B, T)."""
        return with_lexical(weights, self._lexical, self.card, batch.ids, batch.text_mask, side)

    def _padded(self, rows: Sequence[list[int]], side: Side) -> Batch:
        return pad(rows, echo=self.card.echo, device=self.model.device, pooled=self._pooled, side=side)

    def _peaks(self, batch: Batch) -> Tensor:
        head = self._head.weight
        if self._rows_in_use < len(head):
            head = head[: self._rows_in_use]
        pooled = None
        if batch.ids.device.type != "cpu":  # waits for the device, which has nothing to do yet
            pooled = pooled_positions(batch.pool_mask)
        return streamed_peaks(
            self._states(batch),
            batch.pool_mask,
            head,
            bias=self._head.bias,
            terms=self._head_terms,
            pooled=pooled,
        )

    def _states(self, batch: Batch) -> Tensor:
        return last_hidden_states(self.model, batch.ids, batch.attention_mask)

    @torch.inference_mode()
    def _peak_positions(self, row: list[int], side: Side) -> list[int]:
        """Position of each term's largest logit in a row, from 0.

        A term without a weight of the model is there for its own token: that token's first position. With
        echo, only the second copy counts.
        """
        batch = self._padded([row], side)
        head = self._head
        peaks, positions = peaks_and_positions(
            self._states(batch), batch.pool_mask, head.weight, bias=head.bias, terms=self._head_terms
        )
        first = (self.card.copies - 1) * len(row)
        found = [position - first for position in positions[0].tolist()]
        if self._lexical is not None:
            light = self._own_weights(peaks)[0] == 0
            for position, token_id in reversed(list(enumerate(row))):
                if light[token_id]:
                    found[token_id] = position
        return found

    @torch.inference_mode()
    def _impacts(self, rows: Sequence[list[int]], side: Side) -> Tensor:
        """(B, V) int32 impacts of the heaviest terms."""
        weights = self._weights(rows, side)
        is_finite = weights.isfinite().all(dim=1, keepdim=True)
        top = self.card.side(side).top_terms
        if 0 < top < weights.shape[1]:
            weights = _keep_top(weights, top)
        impacts = torch.round(weights * self.card.impact_scale).int()
        return impacts.masked_fill_(~is_finite, _NOT_FINITE)


def _if_it_fits[T](compute: Callable[[], T]) -> T | None:
    """Compute; return None if memory ran out, once all that was held is free again."""
    try:
        return compute()
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


@torch.inference_mode()
def _entries(impacts: Tensor) -> _Entries:
    """Entries that are not 0 in each row of (B, V) impacts. Waits for the device.

    Raises InputError if weights are not finite.
    """
    row_ids, token_ids = impacts.nonzero(as_tuple=True)
    counts = torch.bincount(row_ids, minlength=len(impacts)).tolist()
    values = impacts[row_ids, token_ids].cpu()
    if len(values) and int(values.min()) == _NOT_FINITE:
        raise InputError(_OVERFLOW)
    return torch.split(token_ids.cpu(), counts), torch.split(values, counts)


def load_encoder(
    name: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    quantization: str | None = None,
    max_length: int | None = None,
    top_terms: int | None = None,
    revision: str | None = None,
) -> SparseEncoder:
    """Load the model of the encoder `NAME[:key=value,...]`: a card, a checkpoint folder or a hub id.

    Its queries are those of the model, too, whatever its card says. Keyword arguments win over options in
    the name. Raises InputError on an unknown name, missing or broken weights, a wrong card, or an unavailable
    device.
    """
    overrides = {
        "device": device,
        "dtype": dtype,
        "quantization": quantization,
        "max_length": max_length,
        "top_terms": top_terms,
        "revision": revision,
    }
    return build_encoder(find_checkpoint(name, **overrides))


def build_encoder(checkpoint: Checkpoint) -> SparseEncoder:
    """Load a checkpoint's weights and tokenizer. Its queries are those of the model. Raises InputError."""
    options = checkpoint.options
    device = _device(options.device)
    quantization = options.quantization or "none"
    dtype = getattr(torch, options.dtype or default_dtype(device.type, quantization))
    print(f"loading encoder {checkpoint.card.name} on {device}", file=sys.stderr)
    model = backbone.load_model(checkpoint, dtype=dtype, device=device, quantization=quantization)
    check_lengths(model, checkpoint.card)
    tokenizer = backbone.load_tokenizer(checkpoint)
    vocabulary = model.get_output_embeddings().weight.shape[0]
    lexical = load_lexical(checkpoint, checkpoint.card, tokenizer, vocabulary)
    return SparseEncoder(checkpoint.card, model, tokenizer, identity=checkpoint.identity, lexical=lexical)


def default_dtype(device: str, quantization: str = "none") -> str:
    """Dtype that a model is loaded in on a type of device, unless the encoder's name says another."""
    default = _DEFAULT_DTYPES.get(device, "float32")
    return _QUANTIZED_DTYPES.get((device, quantization), default)


def checkpoint_terms(checkpoint: Checkpoint) -> list[str | None]:
    """Lucene term of every column of an encoder's weights; no model is loaded. Raises InputError."""
    tokenizer = backbone.load_tokenizer(checkpoint)
    return Vocabulary(checkpoint.card, tokenizer, 1 + max(tokenizer.get_vocab().values())).terms


def _keep_top(weights: Tensor, top: int) -> Tensor:
    """Zero all but the `top` largest weights of each row. Ties keep the lower token ids.

    Terms are cut before weights are rounded, as rounded ones have many more ties.
    """
    least = weights.topk(top, dim=1).values[:, -1:]
    above = weights > least
    tied = weights == least
    room = top - above.sum(dim=1, keepdim=True)
    return weights.masked_fill(~(above | (tied & (tied.cumsum(dim=1) <= room))), 0)


@torch.inference_mode()
def _check_head(model: PreTrainedModel, head: torch.nn.Module | None) -> None:
    """Raise InputError unless the model's own logits are exactly `hidden @ head.T + bias`.

    A few architectures put a soft cap or a scale after their head. We would skip it silently.
    """
    if not isinstance(head, torch.nn.Linear):
        raise InputError(f"{type(model).__name__} has no plain linear LM head; got {type(head).__name__}")
    ids = torch.arange(1, 4, device=model.device)[None]
    mask = torch.ones_like(ids)
    own = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float().amax(dim=1)
    states = last_hidden_states(model, ids, mask)
    ours = streamed_peaks(states, mask, head.weight, bias=head.bias).float()
    if not own.isfinite().all():
        raise InputError(_OVERFLOW)
    tolerance = _HEAD_TOLERANCES.get(states.dtype, _LOOSE_TOLERANCE)
    if not torch.allclose(ours, own, rtol=tolerance, atol=tolerance * float(own.abs().max())):
        raise InputError(
            f"{type(model).__name__} changes its logits after the LM head (largest difference "
            f"{float((ours - own).abs().max()):.3g}): use another backbone"
        )


def _device(name: str | None) -> torch.device:
    has_cuda = torch.cuda.is_available()
    default = "cpu"
    if has_cuda:
        default = "cuda"
    try:
        device = torch.device(name or default)
    except RuntimeError as error:
        raise InputError(f"device is {name!r}; wanted {_DEVICES}") from error
    if device.type == "cuda" and not has_cuda:
        raise InputError(f"device is {name!r}, but torch finds no CUDA device here; use device=cpu")
    try:
        torch.ones(1, device=device).tolist()
    except Exception as error:  # each backend of torch has errors of its own
        reason, _, _ = str(error).partition(". ")  # the rest is advice for those who build torch
        raise InputError(
            f"device is {name!r}, but torch cannot use it here ({reason}); wanted {_DEVICES}"
        ) from error
    return device
