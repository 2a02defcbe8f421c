"""Speed and model memory of each quantization, at real shapes."""

import argparse
import importlib.metadata
from pathlib import Path
from typing import Any

import quantization

from csplade_pyserini.model.quantization import METHODS
from gpu_parts.record import SKIPPED, Record
from gpu_parts.scale import Scale

SECONDS = 220
"""Time limit of a method: compiling a model of 8B parameters takes minutes."""


def run(scale: Scale, folder: Path, record: Record) -> None:
    """Every method at every shape, against the unquantized model."""
    for shape in reversed(scale.shapes):  # the smaller first: a model of 8B parameters takes long to build
        record.add(shape, texts=scale.quantized_texts)
        sides = quantization.sides(scale.device, quantization.METHODS)
        for side in sorted(sides, key=lambda side: side.compiled):  # compiling takes longest
            reason = missing_library(side.quantization)
            if reason:
                record.add(shape, "methods", side.name, **{SKIPPED: reason})
                continue
            record.measure(
                (shape, "methods", side.name),
                speed,
                scale,
                shape,
                side,
                folder,
                seconds=SECONDS * scale.patience,
            )


def missing_library(method: str) -> str:
    """Why a method cannot run, or nothing. Asked first: a model of 8B parameters takes long to build."""
    if method not in METHODS:
        return ""
    library = METHODS[method][0]
    try:
        importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return f"{quantization.FAILED}: {library} is not installed"
    return ""


def speed(scale: Scale, shape: str, side: quantization.Side, folder: Path) -> dict[str, Any]:
    """One row of the quantization table; a method that cannot do it is skipped with its reason."""
    args = argparse.Namespace(
        encoder=None, shape=shape, device=scale.device, output=folder, texts=scale.quantized_texts
    )
    found = quantization.speed(args, side)
    if quantization.FAILED in found:
        return {SKIPPED: f"{quantization.FAILED}: {found[quantization.FAILED]}"}
    return {
        "queries_per_second": found["queries a second"],
        "documents_per_second": found["documents a second"],
        "model_bytes": found["model_bytes"],
    }
