"""Inverse document frequencies of an index's terms, looked up one by one; all of them only for who asks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from csplade_pyserini.lucene import classes
from csplade_pyserini.lucene.classes import CONTENTS, open_reader


class LazyIdf(dict[str, Any]):
    """Idf by term, as Pyserini computes it when it opens an index, without the walk through all terms."""

    def __init__(self, index: str, walk: Callable[[], dict[str, Any]]) -> None:
        """walk: Pyserini's own way, which visits every term."""
        super().__init__()
        self._index = index
        self._walk = walk
        self._is_whole = False
        self._reader: Any = None

    def __getitem__(self, term: str) -> Any:
        if not super().__contains__(term):
            frequency = 0 if self._is_whole else self._frequency(term)
            if not frequency:
                raise KeyError(term)
            documents = int(self._reader.numDocs())
            super().__setitem__(term, np.log(documents / np.array([frequency]))[0])
        return super().__getitem__(term)

    def __contains__(self, term: object) -> bool:
        return super().__contains__(term) or (isinstance(term, str) and self.get(term) is not None)

    def get(self, term: str, default: Any = None) -> Any:
        """Return a term's idf, or the default."""
        try:
            return self[term]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return super().__iter__()

    def __len__(self) -> int:
        self._fill()
        return super().__len__()

    def __bool__(self) -> bool:
        return len(self) > 0

    def __eq__(self, other: object) -> bool:
        self._fill()
        return super().__eq__(other)

    __hash__ = None

    def __repr__(self) -> str:
        self._fill()
        return super().__repr__()

    def keys(self) -> Any:
        """All terms."""
        self._fill()
        return super().keys()

    def values(self) -> Any:
        """Idf of all terms."""
        self._fill()
        return super().values()

    def items(self) -> Any:
        """All terms with their idf."""
        self._fill()
        return super().items()

    def copy(self) -> dict[str, Any]:
        """Return all of it as a plain dictionary."""
        self._fill()
        return dict(super().items())

    def _fill(self) -> None:
        if not self._is_whole:
            self._is_whole = True
            self.update(self._walk())

    def _frequency(self, term: str) -> int:
        if self._reader is None:
            self._reader = open_reader(Path(self._index))
        return int(self._reader.docFreq(classes.Term(CONTENTS, term)))
