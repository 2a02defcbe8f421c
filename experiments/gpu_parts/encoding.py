"""Encoding speed at real shapes, against the matrix peak, the authors' loop and a plain loop."""

from pathlib import Path
from typing import Any

from encode import SIDES, Bench, bound, measure, token_counts

from gpu_parts.children import ChildError, call
from gpu_parts.models import sample_texts, tokenizer
from gpu_parts.record import ERROR, Record
from gpu_parts.scale import Scale

ORDER = ("ours", "plain", "authors")
"""Ours first: it counts most, should time run out."""


def run(scale: Scale, folder: Path, record: Record) -> None:
    """All sides at all shapes."""
    if set(ORDER) != set(SIDES):
        raise ValueError(f"bench.encode has the sides {sorted(SIDES)}; wanted {sorted(ORDER)}")
    for shape in scale.shapes:
        bench = Bench(shape, scale.device, sample_texts(scale.passages))
        try:
            tokens = call(count_tokens, bench)
        except ChildError as error:
            record.add(shape, **{ERROR: str(error)})
            continue
        record.add(
            shape, passages=len(bench.texts), tokens=tokens, dtype=str(bench.dtype).removeprefix("torch.")
        )
        record.measure((shape, "matrix product"), product, bench, tokens)
        for side in ORDER:
            record.measure((shape, "sides", side), encode, side, bench, tokens)
        add_ratios(record, shape)


def count_tokens(bench: Bench) -> int:
    """Tokens that the model sees, without padding."""
    return sum(token_counts(tokenizer(), bench.texts))


def product(bench: Bench, tokens: int) -> dict[str, Any]:
    """Speed of one large product, and the least seconds it allows."""
    found = bound(bench)
    return {
        "flop_per_second": found.speed,
        "body_flop_per_token": found.body,
        "head_flop_per_token": found.head,
        "least_seconds": found.seconds(tokens),
    }


def encode(side: str, bench: Bench, tokens: int) -> dict[str, Any]:
    """Speed and memory of one side."""
    seconds, extra_bytes, _ = measure(side, bench, False)
    return {
        "seconds": seconds,
        "passages_per_second": len(bench.texts) / seconds,
        "tokens_per_second": tokens / seconds,
        "bytes_above_model": extra_bytes,
    }


def add_ratios(record: Record, shape: str) -> None:
    """Compare ours with what else was measured."""
    found = record.results[shape]
    seconds = {side: values.get("seconds") for side, values in found["sides"].items()}
    ours = seconds["ours"]
    if not ours:
        return
    record.add(shape, times_as_fast={side: took / ours for side, took in seconds.items() if took})
    least = found["matrix product"].get("least_seconds")
    if least:
        record.add(shape, share_of_matrix_peak=least / ours)
