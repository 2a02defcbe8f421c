"""Text to weights: torch, transformers and peft; no Pyserini, no Java."""

from csplade_pyserini.model.encoder import SparseEncoder, Vector, build_encoder, load_encoder
from csplade_pyserini.model.inputs import Side

__all__ = ["Side", "SparseEncoder", "Vector", "build_encoder", "load_encoder"]
