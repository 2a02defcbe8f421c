"""Names that Pyserini is given: of encoders of ours and of others, and mistyped ones."""

import os
from pathlib import Path

from csplade_pyserini.cards import is_card, is_ours, near_misses
from csplade_pyserini.collections.manifests import manifest_path
from csplade_pyserini.errors import InputError


def means_ours(name: str) -> bool:
    """Whether a name is of one of our encoders.

    Raises InputError, with the near name, on a mistyped one: Pyserini would take it for another encoder's,
    or overlook it.
    """
    if is_ours(name):
        return True
    card, _, _ = name.strip().partition(":")
    if "/" in card or os.path.exists(card):
        return False
    near = [card] if is_card(card) else near_misses(card)
    if near:
        raise InputError(f"unknown encoder {name!r}; did you mean {' or '.join(near)}?")
    return False


def is_our_query_file(name: str) -> bool:
    """Whether a name is a query file that `encode_queries` wrote."""
    return name.endswith(".jsonl") and manifest_path(Path(name)).is_file()
