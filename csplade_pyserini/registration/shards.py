"""Pyserini's searchers and readers over the shards of an index, as if they were one index.

Anserini's classes open a folder. They open the first shard, and then get Lucene's reader of all shards in its
place: docids, scores, document frequencies and order are those of one index.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

from csplade_pyserini.collections.index_shards import index_folders
from csplade_pyserini.lucene import classes
from csplade_pyserini.lucene.classes import cast_to, open_reader
from csplade_pyserini.registration.patches import Function, after_loading, relies_on, replaces
from csplade_pyserini.registration.programs import one_sentence

IMPACT_SEARCHER = "pyserini.search.lucene._impact_searcher"
SEARCHER = "pyserini.search.lucene._searcher"
READER = "pyserini.index.lucene._base"

_EVEN_PROTECTED = True

relies_on(IMPACT_SEARCHER, "JSimpleImpactSearcher")
relies_on(SEARCHER, "JSimpleSearcher")


@after_loading(IMPACT_SEARCHER)
def open_impact_searchers(module: ModuleType) -> None:
    """Let impact searchers open shards."""
    module.JSimpleImpactSearcher = _SearcherClass(module.JSimpleImpactSearcher)  # type: ignore[attr-defined]


@after_loading(SEARCHER)
def open_searchers(module: ModuleType) -> None:
    """Let the searchers that read documents open shards."""
    module.JSimpleSearcher = _SearcherClass(module.JSimpleSearcher)  # type: ignore[attr-defined]


@replaces(READER, "LuceneIndexReader.__init__")
def open_index_reader(stock: Function, self: Any, index_dir: str) -> None:
    """Open an index for its terms, documents and counts."""
    with one_sentence():
        folders = index_folders(Path(index_dir))
        if len(folders) == 1:
            stock(self, index_dir)
        else:
            stock(self, str(folders[0]))
            self.reader.close()
            self.reader = open_reader(Path(index_dir))


class _SearcherClass:
    """A Java class of Anserini's whose searchers open shards, too."""

    def __init__(self, java: Any) -> None:
        self._java = java

    def __call__(self, index_dir: str, *args: Any) -> Any:
        with one_sentence():
            folders = index_folders(Path(index_dir))
            if len(folders) == 1:
                return self._java(index_dir, *args)
            searcher = self._java(str(folders[0]), *args)
            searcher.reader.close()
            _set_field(searcher, "reader", open_reader(Path(index_dir)))
            return searcher

    def __getattr__(self, name: str) -> Any:
        return getattr(self._java, name)


def _set_field(searcher: Any, name: str, value: Any) -> None:
    """Set a protected field by Java's reflection: setting it by pyjnius can end the process."""
    java_object = cast_to("java.lang.Object", value)
    classes.FieldUtils.writeField(cast_to("java.lang.Object", searcher), name, java_object, _EVEN_PROTECTED)
