"""Test collections: a corpus, its sets of topics with qrels, and their metrics.

catalogue.toml lists them.
"""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from csplade_pyserini.collections.corpus import IR_DATASETS_PREFIX
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.tables import parse_table, read_toml
from csplade_pyserini.reproduction.metrics import check_metrics

SAMPLE = Path(str(resources.files("csplade_pyserini") / "sample"))
GROUPS = {"beir": "beir-13", "beir-13": "beir-13", "cqadupstack": "cqadupstack"}
"""Groups of test collections, by the names that --collection takes for them."""
_LIST = "catalogue.toml"
_DEFAULT_METRICS = ("nDCG@10", "R@100")


@dataclass(frozen=True, kw_only=True)
class TopicSet:
    """Topics and their qrels."""

    topics: str
    """File or ir_datasets id, as read_topics takes it. An ir_datasets id has qrels, too."""
    metrics: tuple[str, ...]
    name: str = ""
    """Empty if the test collection has no other topics."""
    pyserini: str = ""
    """Pyserini's name of the same topics and qrels."""
    qrels: str = ""
    """File of the qrels, if `topics` does not have them."""
    relevance_level: int = 1
    """Least grade that AP, RR and recall count as relevant."""

    @property
    def infix(self) -> str:
        """Part of a file's name that tells these topics from the test collection's others."""
        return f".{self.name}" if self.name else ""


@dataclass(frozen=True, kw_only=True)
class TestCollection:
    """A corpus, encoded and indexed once for all its sets of topics."""

    name: str
    corpus: str
    """File, folder or ir_datasets id, as open_corpus takes it."""
    topics: tuple[TopicSet, ...]
    aliases: tuple[str, ...] = ()
    documents: int = 0
    """Number of documents; 0 if unknown."""
    group: str = ""
    remove_query: bool = False
    """Whether to drop hits whose docid is the qid, as BEIR does if queries are documents."""

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return self.name.replace("/", "-")

    def key(self, topics: TopicSet) -> str:
        """Name of the test collection with these topics, in tables of scores."""
        return f"{self.name}/{topics.name}" if topics.name else self.name


def find_collections(name: str) -> list[TestCollection]:
    """Find the test collections of a name.

    The name is `sample`, an entry or a group of the list, FILE.toml, or any ir_datasets id. Raises InputError
    if a file is not a list of test collections.
    """
    known = known_collections()
    if name in GROUPS:
        return [collection for collection in known if collection.group == GROUPS[name]]
    for collection in known:
        if name in (collection.name, *collection.aliases):
            return [collection]
    if name.endswith(".toml"):
        return read_collections(Path(name))
    topics = TopicSet(topics=IR_DATASETS_PREFIX + name, metrics=_DEFAULT_METRICS)
    return [TestCollection(name=name, corpus=IR_DATASETS_PREFIX + name, topics=(topics,))]


@functools.cache
def known_collections() -> Sequence[TestCollection]:
    """The built-in sample, and all test collections of the list."""
    topics = TopicSet(
        topics=str(SAMPLE / "topics.tsv"), qrels=str(SAMPLE / "qrels.txt"), metrics=_DEFAULT_METRICS
    )
    corpus = str(SAMPLE / "corpus.jsonl")
    sample = TestCollection(name="sample", corpus=corpus, topics=(topics,), documents=259)
    return sample, *read_collections(Path(str(resources.files(__package__) / _LIST)))


def read_collections(path: Path) -> list[TestCollection]:
    """Read the test collections of a TOML file. Raises InputError.

    Paths in it are relative to the file and may hold environment variables.
    """
    tables = read_toml(path, "table of collections").get("collection")
    if not isinstance(tables, list) or not tables:
        raise InputError(
            f"{path} has no [[collection]]: see csplade_pyserini/reproduction/{_LIST} for the form"
        )
    return [_parse_collection(table, path) for table in tables]


def _parse_collection(table: dict[str, Any], path: Path) -> TestCollection:
    origin = f"{path} [[collection]] {table.get('name', '')}".rstrip()
    sets = table.get("topics")
    if not isinstance(sets, list) or not sets:
        raise InputError(f"{origin} has no [[collection.topics]]")
    topics = tuple(_parse_topics(values, path, origin) for values in sets)
    for topic_set in topics:
        check_metrics(topic_set.metrics, origin)
    complete = _with_paths(table, ("corpus",), path, origin) | {"topics": topics}
    return parse_table(TestCollection, complete, origin)


def _parse_topics(table: dict[str, Any], path: Path, origin: str) -> TopicSet:
    return parse_table(TopicSet, _with_paths(table, ("topics", "qrels"), path, origin), f"{origin} topics")


def _with_paths(table: dict[str, Any], keys: Sequence[str], path: Path, origin: str) -> dict[str, Any]:
    """Return the table with the files under `keys` as paths. Raises InputError on an unset variable."""
    paths = {}
    for key in keys:
        name = table.get(key)
        if not isinstance(name, str) or not name or name.startswith(IR_DATASETS_PREFIX):
            continue
        expanded = os.path.expandvars(name)
        if "$" in expanded:
            raise InputError(f"{origin}: {key} is {name!r}, and the environment variable is not set")
        paths[key] = str(path.parent / expanded)
    return table | paths
