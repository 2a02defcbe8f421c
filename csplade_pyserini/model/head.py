"""The streamed head: hidden states to weights, without the whole (B, L, V) logits.

Letters: B batch, L length in tokens, P pooled tokens, H hidden size, V vocabulary, S columns of one slice,
T terms: V, or fewer if tokens are folded.

`log1p(relu(x))` grows with x. So the maximum over a text's tokens is taken on raw logits, one slice of the
vocabulary at a time, and activated once (CSPLADE, arXiv 2504.10816, eq. 1). Extra memory is one slice of
logits and the (B, V) result.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from csplade_pyserini.model.equals import first_of_equals

SLICE_BYTES = 32 * 2**20
"""Logits held at once. 32 MiB stays in a server CPU's cache and still fills a GPU's matrix units."""
_POSITIONS = 1024
"""Positions whose heaviest terms are found together."""
_COLUMNS_STEP = 64
"""A slice has a multiple of so many columns, unless it has fewer."""


@dataclass(frozen=True, eq=False)
class Terms:
    """Terms that are not simply the vocabulary: folds of tokens, or the heaviest few of each position."""

    folds: Tensor
    """(V,) int64: term of each vocabulary entry; `count` for entries that are no terms."""
    count: int
    """T, the number of terms."""
    position_top: int = 0
    """Number of terms that each position keeps, heaviest first; 0: all."""

    @functools.cached_property
    def is_term(self) -> Tensor:
        """(V,) True at entries that are terms."""
        return self.folds < self.count

    @functools.cached_property
    def most_tokens(self) -> int:
        """Number of tokens of the largest fold."""
        return max(1, int(torch.bincount(self.folds, minlength=self.count)[: self.count].max()))

    @functools.cached_property
    def ranks(self) -> Tensor:
        """(V,) number of each entry among those of its fold, from 0; 0 for entries that are no terms."""
        order = self.folds.argsort(stable=True)
        sizes = torch.bincount(self.folds, minlength=self.count + 1)
        starts = sizes.cumsum(dim=0) - sizes
        ranks = torch.empty_like(self.folds)
        ranks[order] = torch.arange(len(order), device=order.device) - starts[self.folds[order]]
        return ranks.masked_fill_(~self.is_term, 0)

    @functools.cached_property
    def _entries(self) -> Tensor:
        """(T, most_tokens) vocabulary entries of each fold, in order; 0 where it has fewer."""
        entries = self.folds.new_zeros(self.count, self.most_tokens)
        [kept] = self.is_term.nonzero(as_tuple=True)
        entries[self.folds[kept], self.ranks[kept]] = kept
        return entries

    def places(self, winners: Tensor, terms: Tensor) -> tuple[Tensor, Tensor]:
        """Positions and vocabulary entries of winners (N,), as _Peaks writes them, of terms (N,)."""
        entries = self._entries[terms, winners.remainder(self.most_tokens).long()]
        return winners.div(self.most_tokens, rounding_mode="floor"), entries

    def to(self, device: torch.device) -> "Terms":
        """Return the same terms on a device."""
        return Terms(self.folds.to(device), self.count, self.position_top)

    def only(self, chosen: Tensor) -> tuple[Tensor, "Terms"]:
        """Vocabulary entries (N,) of the chosen terms, and these terms alone, numbered anew in their order.

        chosen (T,): True at terms to keep.
        """
        numbers = chosen.cumsum(dim=0) - 1
        is_kept = torch.nn.functional.pad(chosen, (0, 1))[self.folds]
        [entries] = is_kept.nonzero(as_tuple=True)
        return entries, Terms(numbers[self.folds[entries]], int(chosen.sum()), self.position_top)


def streamed_peaks(
    hidden: Tensor,
    mask: Tensor,
    head: Tensor,
    *,
    bias: Tensor | None = None,
    terms: Terms | None = None,
    pooled: Tensor | None = None,
    slice_bytes: int = SLICE_BYTES,
) -> Tensor:
    """Largest logit of every vocabulary entry over a text's tokens: (B, V), in hidden's dtype.

    hidden (B, L, H): last hidden states. mask (B, L): True at tokens that are pooled. head (V, H). bias (V).
    pooled (B, P): `pooled_positions(mask)`. To find them waits for a GPU, so a caller does it before the
    forward pass; None finds them here. A CPU without terms needs none. With terms, the result has one column
    for each, (B, T). A row of the mask without a True gives -inf throughout, and so does a term that no
    position keeps.
    """
    mask = mask.bool()
    if terms is None and hidden.device.type == "cpu":
        return _peaks_row_by_row(hidden, mask, head, bias, slice_bytes)
    if pooled is None:
        pooled = pooled_positions(mask)
    if terms is not None:
        found = _Peaks(hidden, terms)
        for part in _parts(hidden, pooled, head, bias, terms, slice_bytes):
            found.add(part)
        return found.peaks.masked_fill_(~mask.any(dim=1, keepdim=True), -torch.inf)
    peaks = hidden.new_empty(hidden.shape[0], head.shape[0])
    for columns, logits in _logit_slices(hidden, pooled, head, slice_bytes):
        torch.amax(logits, dim=1, out=peaks[:, columns])
    if bias is not None:
        peaks += bias
    return peaks.masked_fill_(~mask.any(dim=1, keepdim=True), -torch.inf)


def _peaks_row_by_row(
    hidden: Tensor, mask: Tensor, head: Tensor, bias: Tensor | None, slice_bytes: int
) -> Tensor:
    """Largest logits (B, V), from those of pooled tokens alone.

    Rows with fewer tokens need no filling up. A GPU would wait for each row.
    """
    counts = mask.sum(dim=1).tolist()
    peaks = hidden.new_full((hidden.shape[0], head.shape[0]), -torch.inf)
    for columns, logits in _state_slices(hidden[mask], head, slice_bytes):
        for row, own in zip(peaks, torch.split(logits, counts), strict=True):
            if len(own):
                torch.amax(own, dim=0, out=row[columns])
    if bias is not None:
        peaks += bias
    return peaks


def peaks_and_positions(
    hidden: Tensor,
    mask: Tensor,
    head: Tensor,
    *,
    bias: Tensor | None = None,
    terms: Terms | None = None,
    slice_bytes: int = SLICE_BYTES,
) -> tuple[Tensor, Tensor]:
    """Largest logits (B, T), and their positions in the text (B, T) int32.

    Any one of equal maxima may be found. The arguments are those of streamed_peaks; without terms, there is
    no need of a bias, which moves no maximum. Every row of the mask has to have a True.
    """
    mask = mask.bool()
    if terms is None:
        peaks, positions = _peaks_and_positions(hidden, mask, head, slice_bytes)
        if bias is not None:
            peaks += bias
        return peaks, positions
    peaks, winners = _peaks_and_winners(hidden, mask, head, bias, terms, slice_bytes)
    return peaks, winners.div_(terms.most_tokens, rounding_mode="floor")


def _peaks_and_positions(
    hidden: Tensor, mask: Tensor, head: Tensor, slice_bytes: int
) -> tuple[Tensor, Tensor]:
    """Largest logits (B, V) without a bias, and their positions in the text (B, V) int32."""
    peaks = hidden.new_empty(hidden.shape[0], head.shape[0])
    positions = torch.empty_like(peaks, dtype=torch.int32)
    pooled = pooled_positions(mask)
    for columns, logits in _logit_slices(hidden, pooled, head, slice_bytes):
        peaks[:, columns], positions[:, columns] = torch.max(logits, dim=1)
    return peaks, pooled.gather(1, positions.long()).int()


def trainable_peaks(
    hidden: Tensor,
    mask: Tensor,
    head: Tensor,
    *,
    bias: Tensor | None = None,
    terms: Terms | None = None,
    slice_bytes: int = SLICE_BYTES,
) -> Tensor:
    """streamed_peaks with a gradient for hidden, head and bias.

    Neither pass holds the (B, L, V) logits. The forward pass keeps position and token of every maximum in
    one (B, T) int32; the backward pass scatters each gradient there. Ties go to one position, as with
    torch.max. Under autocast the products are in its dtype.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden = hidden.to(dtype)
        head = head.to(dtype)
    if terms is not None:
        if bias is not None:
            bias = bias.to(hidden.dtype)
        folded: Tensor = _TrainablePeaks.apply(hidden, mask.bool(), head, bias, terms, slice_bytes)
        return folded
    peaks: Tensor = _TrainablePeaks.apply(hidden, mask.bool(), head, None, None, slice_bytes)
    if bias is None:
        return peaks
    return peaks + bias


class _TrainablePeaks(torch.autograd.Function):
    """Maximum and position forward; products of sparse matrices backward, one entry per gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        mask: Tensor,
        head: Tensor,
        bias: Tensor | None,
        terms: Terms | None,
        slice_bytes: int,
    ) -> Tensor:
        if terms is None:
            peaks, winners = _peaks_and_positions(hidden, mask, head, slice_bytes)
        else:
            peaks, winners = _peaks_and_winners(hidden, mask, head, bias, terms, slice_bytes)
        ctx.save_for_backward(hidden, mask, head, winners)
        ctx.terms = terms
        return peaks.masked_fill_(~mask.any(dim=1, keepdim=True), -torch.inf)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, mask, head, winners = ctx.saved_tensors
        gradient = gradients[0].masked_fill(~mask.any(dim=1, keepdim=True), 0)
        batch, length, size = hidden.shape
        rows, columns = gradient.nonzero(as_tuple=True)
        positions = winners[rows, columns]
        entries = columns
        if ctx.terms is not None:
            positions, entries = ctx.terms.places(positions, columns)
        tokens = rows * length + positions
        slopes = gradient[rows, columns]
        dtype = hidden.dtype
        if hidden.element_size() <= 2:
            dtype = torch.float32  # no device has sparse products in bfloat16 or float16
        to_hidden = to_head = to_bias = None
        if ctx.needs_input_grad[0]:
            to_hidden = _sparse_product(tokens, entries, slopes, head, batch * length, dtype)
            to_hidden = to_hidden.view(batch, length, size).to(hidden.dtype)
        if ctx.needs_input_grad[2]:
            states = hidden.reshape(batch * length, size)
            to_head = _sparse_product(entries, tokens, slopes, states, head.shape[0], dtype).to(head.dtype)
        if ctx.needs_input_grad[3]:
            to_bias = slopes.new_zeros(head.shape[0]).index_add_(0, entries, slopes)
        return to_hidden, None, to_head, to_bias, None, None


def _sparse_product(
    rows: Tensor, columns: Tensor, values: Tensor, dense: Tensor, height: int, dtype: torch.dtype
) -> Tensor:
    """Product of a sparse (height, n) matrix and the dense (n, H) one.

    The sparse one has `values` at (rows, columns), each pair at most once.
    """
    places = torch.stack([rows, columns])
    # Some torch versions warn if nobody says so.
    with torch.sparse.check_sparse_tensor_invariants(False):  # type: ignore[no-untyped-call]
        sparse = torch.sparse_coo_tensor(places, values.to(dtype), (height, dense.shape[0]))
    product: Tensor = torch.sparse.mm(sparse, dense.to(dtype))
    return product


def _logit_slices(
    hidden: Tensor, pooled: Tensor, head: Tensor, slice_bytes: int
) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the vocabulary with their logits (B, P, S). Each slice overwrites the logits before.

    pooled (B, P): as pooled_positions finds them. Other tokens cost no logits.
    """
    batch, length = pooled.shape
    size = hidden.shape[2]
    tokens = hidden.gather(1, pooled[..., None].expand(-1, -1, size)).reshape(batch * length, size)
    for columns, logits in _state_slices(tokens, head, slice_bytes):
        yield columns, logits.view(batch, length, -1)


def _state_slices(states: Tensor, head: Tensor, slice_bytes: int) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the vocabulary with the logits (N, S) of states (N, H); each overwrites the one before."""
    count = len(states)
    vocabulary = head.shape[0]
    columns = _slice_columns(slice_bytes // max(1, count * states.element_size()), vocabulary)
    buffer = states.new_empty(count * columns)
    for start in range(0, vocabulary, columns):
        stop = min(start + columns, vocabulary)
        logits = buffer[: count * (stop - start)].view(count, stop - start)
        torch.matmul(states, _rows(head, start, stop, states.dtype).T, out=logits)
        yield slice(start, stop), logits


def _slice_columns(wanted: int, vocabulary: int) -> int:
    """Number of columns in a slice: at least 1, at most `wanted` and the vocabulary.

    It is a multiple of 64, if it is larger. A GPU has slow products for rows of logits that do not begin at a
    multiple of 16 bytes.
    """
    columns = max(1, min(vocabulary, wanted))
    if columns > _COLUMNS_STEP:
        columns -= columns % _COLUMNS_STEP
    return columns


class _Part(NamedTuple):
    """Logits of some tokens of each text, and the vocabulary entries behind them."""

    values: Tensor
    """(B, N)."""
    positions: Tensor | None
    """(B, N) in the text; None if nobody asked for them."""
    entries: Tensor
    """(N) or (B, N)."""


class _Peaks:
    """Running maxima of terms, part by part, and what stands behind each."""

    def __init__(self, hidden: Tensor, terms: Terms, *, with_winners: bool = False) -> None:
        self._terms = terms
        # The last column takes what is no term.
        self._peaks = hidden.new_full((hidden.shape[0], terms.count + 1), -torch.inf)
        self._winners: Tensor | None = None
        if with_winners:
            self._winners = torch.zeros_like(self._peaks, dtype=torch.int32)

    @property
    def peaks(self) -> Tensor:
        """(B, T) largest logits; a view."""
        return self._peaks[:, :-1]

    @property
    def winners(self) -> Tensor:
        """(B, T) int32: position of the maximum times `most_tokens`, plus the rank of its token."""
        if self._winners is None:
            raise ValueError("winners were not asked for")
        return self._winners[:, :-1]

    def add(self, part: _Part) -> None:
        """Take in a part."""
        folds = self._terms.folds[part.entries].expand_as(part.values)
        self._peaks.scatter_reduce_(1, folds, part.values, "amax")
        if self._winners is None or part.positions is None:
            return
        winner = part.positions * self._terms.most_tokens + self._terms.ranks[part.entries]
        wins = part.values == self._peaks.gather(1, folds)
        folds = folds.where(wins, self._terms.count)  # the others write to the column that nobody reads
        self._winners.scatter_(1, folds, winner.int())


def _peaks_and_winners(
    hidden: Tensor, mask: Tensor, head: Tensor, bias: Tensor | None, terms: Terms, slice_bytes: int
) -> tuple[Tensor, Tensor]:
    """Largest logits of terms (B, T), and their winners (B, T) int32; see Terms.places."""
    found = _Peaks(hidden, terms, with_winners=True)
    pooled = pooled_positions(mask)
    for part in _parts(hidden, pooled, head, bias, terms, slice_bytes, with_positions=True):
        found.add(part)
    return found.peaks, found.winners


def _parts(
    hidden: Tensor,
    pooled: Tensor,
    head: Tensor,
    bias: Tensor | None,
    terms: Terms,
    slice_bytes: int,
    *,
    with_positions: bool = False,
) -> Iterator[_Part]:
    """Logits that may be a term's maximum, whose vocabulary entries are folded next."""
    if terms.position_top:
        yield _heaviest_of_positions(hidden, pooled, head, bias, terms, slice_bytes)
        return
    entries = torch.arange(head.shape[0], device=hidden.device)
    for columns, logits in _logit_slices(hidden, pooled, head, slice_bytes):
        positions = None
        if with_positions:
            values, found = torch.max(logits, dim=1)
            positions = pooled.gather(1, found)
        else:
            values = logits.amax(dim=1)
        if bias is not None:
            values += bias[columns]
        yield _Part(values, positions, entries[columns])


def _heaviest_of_positions(
    hidden: Tensor, pooled: Tensor, head: Tensor, bias: Tensor | None, terms: Terms, slice_bytes: int
) -> _Part:
    """Logits of the heaviest terms of each pooled position; the others of a position are left out.

    The slices do not depend on the batch, so that of equal logits the same are kept in any batch.
    """
    batch, length = pooled.shape
    size = hidden.shape[2]
    states = hidden.gather(1, pooled[..., None].expand(-1, -1, size)).reshape(-1, size)
    columns = _slice_columns(slice_bytes // (_POSITIONS * hidden.element_size()), head.shape[0])
    kept = [
        _heaviest(some, head, bias, terms, columns)
        for some in torch.split(states, max(1, slice_bytes // (columns * hidden.element_size())))
    ]
    values, entries = (torch.cat(parts).view(batch, -1) for parts in zip(*kept, strict=True))
    positions = pooled.repeat_interleave(values.shape[1] // length, dim=1)
    return _Part(values, positions, entries)


def _heaviest(
    states: Tensor, head: Tensor, bias: Tensor | None, terms: Terms, columns: int
) -> tuple[Tensor, Tensor]:
    """Logits and vocabulary entries of the heaviest terms of each state, both (N, K); -inf if it has fewer.

    states (N, H). columns: vocabulary entries in a slice.
    """
    vocabulary = head.shape[0]
    wanted = min(vocabulary, terms.position_top * terms.most_tokens)  # enough for that many folds
    values = states.new_empty(len(states), 0)
    entries = terms.folds.new_empty(len(states), 0)
    for start in range(0, vocabulary, columns):
        stop = min(start + columns, vocabulary)
        logits = states @ _rows(head, start, stop, states.dtype).T
        if bias is not None:
            logits += bias[start:stop]
        logits.masked_fill_(~terms.is_term[start:stop], -torch.inf)
        best = logits.topk(min(wanted, stop - start), dim=1)
        values = torch.cat([values, best.values], dim=1)
        entries = torch.cat([entries, best.indices + start], dim=1)
        values, order = values.topk(min(wanted, values.shape[1]), dim=1)
        entries = entries.gather(1, order)
    values = values.masked_fill(~first_of_equals(terms.folds[entries]), -torch.inf)
    values, order = values.topk(min(terms.position_top, values.shape[1]), dim=1)
    return values, entries.gather(1, order)


def _rows(head: Any, start: int, stop: int, dtype: torch.dtype) -> Tensor:
    """Rows of the head's weights; in `dtype` if torchao has quantized them to int8, one scale per row."""
    rows: Tensor
    if hasattr(head, "qdata"):  # torchao's tensor itself cannot be cut under inference_mode
        rows = head.qdata[start:stop].to(dtype) * head.scale[start:stop].to(dtype)
    else:
        rows = head[start:stop]
    return rows


def pooled_positions(mask: Tensor) -> Tensor:
    """Positions of each row's pooled tokens, (B, P), in order; P is the largest number of them in a row.

    Rows with fewer repeat their first one. The maximum stays the same, and the logits need no masking pass
    of their own. mask (B, L), bool.
    """
    width = max(1, int(mask.sum(dim=1).max()))
    inside_first = mask.int().argsort(dim=1, descending=True, stable=True)[:, :width]
    return torch.where(mask.gather(1, inside_first), inside_first, inside_first[:, :1])


def rows_in_use(head: Tensor) -> int:
    """Number of rows of a head (V, H) up to the last one that is not all zeros, at least 1.

    Terms of the rows behind it have a logit of 0 for all texts, so a weight of 0. A quantized head counts as
    in use.
    """
    if hasattr(head, "qdata"):
        return len(head)
    [used] = head.any(dim=1).nonzero(as_tuple=True)
    if not len(used):
        return 1
    return int(used[-1]) + 1


def naive_peaks(hidden: Tensor, mask: Tensor, head: Tensor, *, bias: Tensor | None = None) -> Tensor:
    """streamed_peaks by way of the whole (B, L, V) logits: the oracle of its tests."""
    logits = hidden @ head.T  # (B, L, V)
    if bias is not None:
        logits = logits + bias
    return logits.masked_fill(~mask.bool()[..., None], -torch.inf).amax(dim=1)


def shifted(peaks: Tensor, logit_scale: float = 1.0, logit_shift: float = 0.0) -> Tensor:
    """Peaks (B, T) in float32, as the ReLU gets them: `scale * peak - shift`."""
    peaks = peaks.float() * logit_scale
    if logit_shift:
        peaks = peaks - logit_shift
    return peaks


def activate(peaks: Tensor, logit_scale: float = 1.0, logit_shift: float = 0.0) -> Tensor:
    """Weights (B, T) in float32, all >= 0: `log1p(relu(scale * peak - shift))`; -inf gives 0."""
    return torch.log1p(torch.relu(shifted(peaks, logit_scale, logit_shift)))


def cut_light(weights: Tensor, least: float) -> Tensor:
    """Set weights below `least` to 0; 0 keeps all."""
    if not least:
        return weights
    return weights.masked_fill(weights < least, 0)
