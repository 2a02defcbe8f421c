"""Test collections: a corpus, its sets of topics with their qrels, and how they are scored. collections.toml lists them."""

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
from csplade_pyserini.reproduction.metrics import METRICS

SAMPLE = Path(str(resources.files("csplade_pyserini") / "sample"))
GROUPS = {"beir": "beir-13", "beir-13": "beir-13", "cqadupstack": "cqadupstack"}
"""Names that mean several collections, and what these have as their group."""


@dataclass(frozen=True, kw_only=True)
class TopicSet:
    """Topics and their qrels."""

    topics: str
    """What read_topics takes; of an ir_datasets id the qrels too."""
    metrics: tuple[str, ...]
    name: str = ""
    """Empty where the collection has only this one."""
    pyserini: str = ""
    """What Pyserini calls the topics; the same ones."""
    qrels: str = ""
    """Where the qrels are not with the topics."""
    relevance_level: int = 1
    """Least grade that AP, RR and recall take for relevant."""

    @property
    def infix(self) -> str:
        """What tells its files from those of the collection's other topics."""
        return f".{self.name}" if self.name else ""


@dataclass(frozen=True, kw_only=True)
class TestCollection:
    """A corpus that is encoded and indexed once for all its sets of topics."""

    name: str
    corpus: str
    topics: tuple[TopicSet, ...]
    aliases: tuple[str, ...] = ()
    documents: int = 0
    """0: not known."""
    group: str = ""
    remove_query: bool = False
    """Take a hit out whose docid is the qid, as BEIR does where queries are documents."""

    @property
    def folder(self) -> str:
        """Its name as a folder's."""
        return self.name.replace("/", "-")

    def key(self, topics: TopicSet) -> str:
        """What tables of scores call the collection under these topics."""
        return f"{self.name}/{topics.name}" if topics.name else self.name


def find_collections(name: str) -> list[TestCollection]:
    """The collections that a name means: `sample`, one of the table or a group of it, those of a FILE.toml, or any ir_datasets id.

    Raises InputError where a file is not a table of collections.
    """
    known = known_collections()
    if name in GROUPS:
        return [collection for collection in known if collection.group == GROUPS[name]]
    for collection in known:
        if name in (collection.name, *collection.aliases):
            return [collection]
    if name.endswith(".toml"):
        return read_collections(Path(name))
    topics = TopicSet(topics=IR_DATASETS_PREFIX + name, metrics=("nDCG@10", "R@100"))
    return [TestCollection(name=name, corpus=IR_DATASETS_PREFIX + name, topics=(topics,))]


@functools.cache
def known_collections() -> Sequence[TestCollection]:
    """The table's, and the built-in sample."""
    sample = TestCollection(
        name="sample",
        corpus=str(SAMPLE / "corpus.jsonl"),
        topics=(
            TopicSet(
                topics=str(SAMPLE / "topics.tsv"),
                qrels=str(SAMPLE / "qrels.txt"),
                metrics=("nDCG@10", "R@100"),
            ),
        ),
        documents=259,
    )
    return sample, *read_collections(Path(str(resources.files(__package__) / "collections.toml")))


def read_collections(path: Path) -> list[TestCollection]:
    """Those of a file, whose paths are relative to it and may begin with an environment variable. Raises InputError."""
    tables = read_toml(path, "table of collections").get("collection")
    if not isinstance(tables, list) or not tables:
        raise InputError(
            f"{path} has no [[collection]]: see csplade_pyserini/reproduction/collections.toml for the form"
        )
    return [_collection(table, path) for table in tables]


def _collection(table: dict[str, Any], path: Path) -> TestCollection:
    origin = f"{path} [[collection]] {table.get('name', '')}".rstrip()
    sets = table.get("topics")
    if not isinstance(sets, list) or not sets:
        raise InputError(f"{origin} has no [[collection.topics]]")
    topics = tuple(
        parse_table(TopicSet, _placed(values, ("topics", "qrels"), path, origin), f"{origin} topics")
        for values in sets
    )
    for topic_set in topics:
        if unknown := set(topic_set.metrics) - METRICS.keys():
            raise InputError(f"{origin}: unknown metric {min(unknown)!r}; known: {', '.join(METRICS)}")
    return parse_table(TestCollection, _placed(table, ("corpus",), path, origin) | {"topics": topics}, origin)


def _placed(table: dict[str, Any], keys: Sequence[str], path: Path, origin: str) -> dict[str, Any]:
    """The table with its files' names as paths. Raises InputError on a variable that is not set."""
    placed = {}
    for key in keys:
        name = table.get(key)
        if isinstance(name, str) and name and not name.startswith(IR_DATASETS_PREFIX):
            expanded = os.path.expandvars(name)
            if "$" in expanded:
                raise InputError(f"{origin}: {key} is {name!r}, and the environment variable is not set")
            placed[key] = str(path.parent / expanded)
    return table | placed
