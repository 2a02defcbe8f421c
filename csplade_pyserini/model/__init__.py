"""Text to weights: torch, transformers and peft; no Pyserini, no Java."""

from csplade_pyserini.cards import Side
from csplade_pyserini.impacts import Vector
from csplade_pyserini.interface import AttributedText
from csplade_pyserini.optimized import make_no_docstrings

make_no_docstrings()  # before transformers' models are imported

from csplade_pyserini.model.encoder import SparseEncoder, build_encoder, load_encoder  # noqa: E402

__all__ = ["AttributedText", "Side", "SparseEncoder", "Vector", "build_encoder", "load_encoder"]
