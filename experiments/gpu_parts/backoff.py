"""Encoding with a batch budget far beyond memory: it goes on with halved budgets, to the same vectors."""

import time
from pathlib import Path
from typing import Any

import torch

from csplade_pyserini.impacts import Vector
from csplade_pyserini.model.encoder import SparseEncoder
from gpu_parts.models import random_encoder, random_texts
from gpu_parts.record import Record
from gpu_parts.scale import BackOff, Scale

WORDS = 400
"""Per text: enough to fill the card's 256 tokens."""


def run(scale: Scale, folder: Path, record: Record) -> None:
    """Every case in a process of its own."""
    for name, case in scale.back_off.items():
        record.measure((name,), back_off, scale, case)


def back_off(scale: Scale, case: BackOff) -> dict[str, Any]:
    """Encode with the small budget, then with the large one, and compare."""
    encoder = random_encoder(scale.training_shape, scale.device, case.dtype)
    rows = encoder.tokenize(random_texts(case.texts, WORDS), side="document")
    begin = time.perf_counter()
    wanted = encoder.encode_tokenized(rows, side="document", batch_tokens=case.small_budget)
    middle = time.perf_counter()
    limit = limit_memory(encoder, case)
    budget = encoder.token_budget(case.budget, side="document")
    found = encoder.encode_tokenized(rows, side="document", batch_tokens=budget)
    end = time.perf_counter()
    return {
        "dtype": case.dtype,
        "texts": len(rows),
        "tokens": sum(map(len, rows)),
        "limit": limit,
        "budget": case.budget,
        "budget_at_end": budget.tokens,
        "small_budget": case.small_budget,
        "small_budget_seconds": middle - begin,
        "seconds": end - middle,
        "terms_per_text": sum(map(len, wanted)) / len(wanted),
        **differences(found, wanted),
    }


def limit_memory(encoder: SparseEncoder, case: BackOff) -> str:
    """Leave the device less memory, where the case says so. Returns who raises the errors."""
    if case.fails_above:
        fail_above(encoder.model.base_model, case.fails_above)
        return f"injected: torch.OutOfMemoryError above {case.fails_above} tokens"
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties().total_memory
    if not case.extra_bytes:
        return f"the device: {total} bytes"
    allowed = torch.cuda.memory_reserved() + case.extra_bytes
    torch.cuda.set_per_process_memory_fraction(allowed / total)
    return f"torch's allocator: {allowed} of the device's {total} bytes"


def fail_above(decoder: torch.nn.Module, tokens: int) -> None:
    """Fail as a device does that has room for so many tokens."""

    def check(_: torch.nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        if options["input_ids"].numel() > tokens:
            raise torch.OutOfMemoryError("injected")

    decoder.register_forward_pre_hook(check, with_kwargs=True)


def differences(found: list[Vector], wanted: list[Vector]) -> dict[str, Any]:
    """Share of equal vectors, and the largest difference of an impact."""
    pairs = list(zip(found, wanted, strict=True))
    return {
        "equal_vectors": sum(one == other for one, other in pairs) / len(pairs),
        "largest_impact_difference": max(difference(one, other) for one, other in pairs),
    }


def difference(one: Vector, other: Vector) -> int:
    """Largest difference of an impact. A term cut from a vector counts as that vector's lightest."""
    least_one = min(one.values(), default=0)
    least_other = min(other.values(), default=0)
    shared = [abs(one[term] - other[term]) for term in one.keys() & other.keys()]
    only_one = [one[term] - least_other for term in one.keys() - other.keys()]
    only_other = [other[term] - least_one for term in other.keys() - one.keys()]
    return max(0, *shared, *only_one, *only_other) if one or other else 0
