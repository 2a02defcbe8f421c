"""Text to weights: torch, transformers and peft; no Pyserini, no Java."""

from csplade_pyserini.cards import Side
from csplade_pyserini.impacts import Vector
from csplade_pyserini.model.encoder import AttributedText, SparseEncoder, build_encoder, load_encoder

__all__ = ["AttributedText", "Side", "SparseEncoder", "Vector", "build_encoder", "load_encoder"]
