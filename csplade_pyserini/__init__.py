"""CSPLADE encoders (arXiv 2504.10816) as Pyserini impact encoders.

Importing this package loads neither torch, transformers, Pyserini nor a JVM.
"""

TYPE_CHECKING = False  # importing typing would cost more than the whole hook
if TYPE_CHECKING:
    from csplade_pyserini.explanation.hits import search
    from csplade_pyserini.model.sentence_transformer import to_sparse_encoder
    from csplade_pyserini.query_sides import load_encoder
    from csplade_pyserini.registration import register

__version__ = "0.1.0"
__all__ = ["__version__", "load_encoder", "register", "search", "to_sparse_encoder"]


def __getattr__(name: str) -> object:
    if name == "load_encoder":
        from csplade_pyserini.query_sides import load_encoder

        return load_encoder
    if name == "register":
        from csplade_pyserini.registration import register

        return register
    if name == "search":
        from csplade_pyserini.explanation.hits import search

        return search
    if name == "to_sparse_encoder":
        from csplade_pyserini.model.sentence_transformer import to_sparse_encoder

        return to_sparse_encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
