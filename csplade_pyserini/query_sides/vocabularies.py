"""Both sides of an encoder have one vocabulary: checks before anything large is loaded."""

import os
from collections.abc import Collection
from pathlib import Path

from csplade_pyserini.cards import Checkpoint
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.notes import listed
from csplade_pyserini.query_sides.lookup import open_tokenizer
from csplade_pyserini.query_sides.sources import NOTHING_MAKES, QuerySource
from csplade_pyserini.query_sides.table import LookupTable, read_table

_TOKENIZER_FILE = "tokenizer.json"
_SHARED_KEYS = ("fold",)
"""Keys of a card that change the terms of both sides."""


def refuse_other_table(table: LookupTable, path: Path, checkpoint: Checkpoint) -> None:
    """Raise InputError if a table was made for another vocabulary than an encoder's.

    An encoder whose tokenizer is no file here is not looked at: the index still names its encoder.
    """
    file = _tokenizer_file(checkpoint)
    if file is None:
        return
    content = file.read_text(encoding="utf-8")
    if content == table.tokenizer:
        return
    theirs = open_tokenizer(table.tokenizer, f"the table {path}").get_vocab()
    ours = open_tokenizer(content, str(file)).get_vocab()
    if ours != theirs:
        raise InputError(
            f"the table {path} is for {table.encoder}, whose vocabulary is not that of "
            f"{checkpoint.stored_card.name}: {_difference(theirs, ours)}; make it anew by train lookup"
        )


def refuse_other_encoder(documents: Checkpoint, queries: QuerySource) -> None:
    """Raise InputError if an encoder of queries has other terms than the encoder of documents."""
    pair = f"queries of {documents.stored_card.name} are to be made by {queries.text}"
    for key in _SHARED_KEYS:
        one = getattr(documents.stored_card, key, None)
        other = getattr(queries.card, key, None)
        if one != other:
            raise InputError(f"{pair}, but {key} is {one!r} for documents and {other!r} for queries")
    ours = _vocabulary(documents)
    theirs = _vocabulary_of_queries(queries)
    if ours != theirs:
        raise InputError(f"{pair}, which has another vocabulary: {_difference(theirs, ours)}")


def _vocabulary_of_queries(source: QuerySource) -> set[str]:
    if source.table is not None:
        return set(open_tokenizer(read_table(source.table).tokenizer, str(source.table)).get_vocab())
    if source.other is not None:
        return _vocabulary_of_queries(source.other)
    if source.checkpoint is None:
        raise ValueError(NOTHING_MAKES.format(name=source.text))
    return _vocabulary(source.checkpoint)


def _vocabulary(checkpoint: Checkpoint) -> set[str]:
    file = _tokenizer_file(checkpoint)
    if file is not None:
        return set(open_tokenizer(file.read_text(encoding="utf-8"), str(file)).get_vocab())
    from csplade_pyserini.model.backbone import load_tokenizer

    return set(load_tokenizer(checkpoint).get_vocab())


def _tokenizer_file(checkpoint: Checkpoint) -> Path | None:
    """File of a checkpoint's tokenizer; None if it is on the hub or of another kind."""
    folder = checkpoint.sources.tokenizer
    file = Path(folder) / _TOKENIZER_FILE
    if not os.path.isdir(folder) or not file.is_file():
        return None
    return file


def _difference(theirs: Collection[str], ours: Collection[str]) -> str:
    """Say how the vocabulary of queries differs from that of documents."""
    stray = sorted(set(theirs) - set(ours))
    sizes = f"{len(theirs):,} tokens for queries, {len(ours):,} for documents"
    if not stray:
        return sizes
    return f"{sizes}; {len(stray):,} are in the first only, such as {listed(stray[:3])}"
