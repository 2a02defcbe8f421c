"""Explanations: the terms behind a score, and the tokens behind the terms."""

from csplade_pyserini.explanation.shares import (
    ExplainedHit,
    Explanation,
    TermShare,
    explain_hits,
    is_expansion,
)

__all__ = ["ExplainedHit", "Explanation", "TermShare", "explain_hits", "is_expansion"]
