"""BM25 on an impact index: its scores mean nothing, so Pyserini's BM25 searchers refuse to search one.

They still open it, for its documents.
"""

import os
from pathlib import Path
from typing import Any

from csplade_pyserini.collections.manifests import manifest_path
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.tables import read_json
from csplade_pyserini.lucene.makers import maker_of, refuse_mismatch, stored_maker
from csplade_pyserini.registration.patches import Function, replaces
from csplade_pyserini.registration.programs import one_sentence

MODULE = "pyserini.search.lucene._searcher"


@replaces(MODULE, "LuceneSearcher.__init__")
def init(stock: Function, self: Any, index_dir: str, *args: Any, **kwargs: Any) -> None:
    """Open a BM25 searcher, which may read an index of ours and not search it."""
    stock(self, index_dir, *args, **kwargs)
    if is_ours(index_dir):
        self.object = _WithoutSearch(self.object, index_dir)


class _WithoutSearch:
    """Java's searcher, without its searches."""

    def __init__(self, java: Any, index: str) -> None:
        self._java = java
        self._index = index

    def __getattr__(self, name: str) -> Any:
        if "search" in name or name == "get_feedback_terms":
            with one_sentence():
                refuse_bm25(self._index)
        return getattr(self._java, name)


def is_ours(index: str) -> bool:
    """Whether an index names an encoder, or has a manifest of ours, be it readable or not."""
    file = manifest_path(Path(index))
    if not file.is_file():
        return stored_maker(Path(index)) is not None
    try:
        manifest = read_json(file)
    except InputError:
        return True  # refuse_bm25 tells what is wrong with it
    return isinstance(manifest.get("encoder"), str)  # else it is another program's file


def refuse_bm25(index: str, encoder: str | None = None) -> None:
    """Raise InputError if an index is ours, unless CSPLADE_ALLOW_MISMATCH=1.

    encoder: the name that the user gave, which is none of ours.
    """
    if os.environ.get("CSPLADE_ALLOW_MISMATCH") == "1" or not is_ours(index):
        return
    path = Path(index)
    refuse_mismatch(path, None)
    maker = maker_of(path)
    if maker is None:
        of_maker = ""
        name = "NAME"
    else:
        of_maker = f" by {maker.identity}"
        name, _, _ = maker.identity.partition("@")
    stray = ""
    if encoder:
        stray = f", and {encoder} is not known as an encoder of ours"
    raise InputError(
        f"{index} is an impact index{of_maker}{stray}: BM25 scores on it would mean nothing; "
        f"search it with --encoder {name}, in Python with LuceneImpactSearcher "
        f"(CSPLADE_ALLOW_MISMATCH=1 to mean BM25)"
    )
