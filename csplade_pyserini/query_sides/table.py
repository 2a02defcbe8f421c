"""The table of a lookup: one weight for each token, in one safetensors file with the tokenizer.

The file needs nothing beside it, so a machine that only searches has neither the model nor its tokenizer.
"""

import dataclasses
import functools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import whole_file

FORMAT = "1"
_WEIGHTS = "weights"
_TERMS = "terms"
_TOKENIZER = "tokenizer"
_HEADER = ("format", "encoder")
"""Keys of a file's metadata that are not facts."""
_SAME_TERM = "\n"
"""Separator of terms; no term holds it."""
_Array = np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class LookupTable:
    """Weights of V tokens."""

    encoder: str
    """Identity of the encoder whose documents the weights are for."""
    weights: _Array
    """(V,) float32, at least 0, on the scale of the encoder's own weights: before impacts."""
    terms: tuple[str, ...]
    """Lucene term of each token id; empty if it has none. Tokens of a folded vocabulary share terms."""
    tokenizer: str
    """The tokenizer, as JSON of the library tokenizers."""
    facts: dict[str, str] = field(default_factory=dict)
    """How the weights were made, for people."""


def write_table(table: LookupTable, path: Path) -> None:
    """Write a table, whole. Raises InputError on weights that are negative or not finite."""
    from safetensors.numpy import save

    _check_weights(table.weights, str(path))
    tensors = {
        _WEIGHTS: table.weights.astype(np.float32),
        _TERMS: _bytes(_SAME_TERM.join(table.terms)),
        _TOKENIZER: _bytes(table.tokenizer),
    }
    content = save(tensors, metadata=table.facts | {"format": FORMAT, "encoder": table.encoder})
    with whole_file(path, "wb") as file:
        file.write(content)


def read_table(path: Path) -> LookupTable:
    """Read a table. Raises InputError if it is no table of ours, or damaged."""
    from safetensors.numpy import load

    header = _header(path)
    try:
        tensors = load(path.read_bytes())
        weights = tensors[_WEIGHTS]
        terms = tuple(tensors[_TERMS].tobytes().decode().split(_SAME_TERM))
        tokenizer = tensors[_TOKENIZER].tobytes().decode()
    except Exception as error:  # each part of a damaged file has errors of its own
        raise InputError(f"{path} is no table of query weights: {error}") from error
    if weights.ndim != 1 or len(terms) != len(weights):
        raise InputError(f"{path} has weights of shape {weights.shape} for {len(terms)} terms; it is damaged")
    _check_weights(weights, str(path))
    facts = {key: value for key, value in header.items() if key not in _HEADER}
    return LookupTable(
        encoder=header["encoder"], weights=weights, terms=terms, tokenizer=tokenizer, facts=facts
    )


def table_encoder(path: Path) -> str:
    """Read the identity of the encoder that a table is for, and nothing else. Raises InputError."""
    return _header(path)["encoder"]


def copy_table(source: Path, target: Path, *, encoder: str) -> None:
    """Copy a table to another encoder of the same vocabulary, named by its identity."""
    write_table(dataclasses.replace(read_table(source), encoder=encoder), target)


def _header(path: Path) -> dict[str, str]:
    status = path.stat()
    return _read_header(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _read_header(path: Path, _size: int, _modified: int) -> dict[str, str]:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="np") as file:
            header: dict[str, str] = file.metadata() or {}
    except Exception as error:  # safetensors' own, and those of a file that cannot be read
        raise InputError(f"{path} is no table of query weights: {error}") from error
    if "encoder" not in header or header.get("format") != FORMAT:
        raise InputError(
            f"{path} is no table of query weights that this version reads: its format is "
            f"{header.get('format')!r}, wanted {FORMAT!r}; make it anew by train lookup"
        )
    return header


def _check_weights(weights: _Array, origin: str) -> None:
    if weights.dtype.kind != "f" or not np.isfinite(weights).all() or (weights < 0).any():
        raise InputError(f"{origin}: the weights are not all finite numbers of at least 0")


def _bytes(text: str) -> _Array:
    return np.frombuffer(text.encode(), dtype=np.uint8)
