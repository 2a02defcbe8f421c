"""Text to weights: torch, transformers and peft; no Pyserini, no Java."""

from csplade_pyserini.model.encoder import AttributedText, SparseEncoder, Vector, build_encoder, load_encoder
from csplade_pyserini.model.inputs import Side

__all__ = ["AttributedText", "Side", "SparseEncoder", "Vector", "build_encoder", "load_encoder"]
