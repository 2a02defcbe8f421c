"""Test collections: a corpus, its sets of topics with their qrels, and how they are scored. collections.toml lists them."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from csplade_pyserini.collections.corpus import IR_DATASETS_PREFIX
from csplade_pyserini.tables import parse_table, read_toml

SAMPLE = Path(str(resources.files("csplade_pyserini") / "sample"))
GROUPS = {"beir": "beir-13", "beir-13": "beir-13", "cqadupstack": "cqadupstack"}
"""Names that mean several collections, and what these have as their group."""


@dataclass(frozen=True, kw_only=True)
class TopicSet:
    """Topics and their qrels."""

    topics: str
    """ir_datasets id of topics and qrels."""
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

    def key(self, topics: TopicSet) -> str:
        """What tables of scores call the collection under these topics."""
        return f"{self.name}/{topics.name}" if topics.name else self.name


def find_collections(name: str) -> list[TestCollection]:
    """The collections that a name means: `sample`, one of the table or a group of it, or any ir_datasets id with qrels."""
    known = known_collections()
    if name in GROUPS:
        return [collection for collection in known if collection.group == GROUPS[name]]
    for collection in known:
        if name in (collection.name, *collection.aliases):
            return [collection]
    topics = TopicSet(topics=IR_DATASETS_PREFIX + name, metrics=("nDCG@10", "R@100"))
    return [TestCollection(name=name, corpus=IR_DATASETS_PREFIX + name, topics=(topics,))]


@functools.cache
def known_collections() -> Sequence[TestCollection]:
    """The table's, and the built-in sample."""
    path = Path(str(resources.files(__package__) / "collections.toml"))
    sample = TestCollection(
        name="sample",
        corpus=str(SAMPLE / "corpus.jsonl"),
        topics=(TopicSet(topics=str(SAMPLE / "topics.tsv"), qrels=str(SAMPLE / "qrels.txt"), metrics=("nDCG@10", "R@100")),),
        documents=259,
    )
    return (sample, *(_collection(table, f"{path} [[collection]]") for table in read_toml(path, "table of collections")["collection"]))


def _collection(table: dict[str, Any], origin: str) -> TestCollection:
    sets = tuple(
        parse_table(TopicSet, values | {"topics": IR_DATASETS_PREFIX + values["topics"]}, f"{origin} [[collection.topics]]")
        for values in table["topics"]
    )
    rest = {key: value for key, value in table.items() if key != "topics"} | {"corpus": IR_DATASETS_PREFIX + table["corpus"]}
    return TestCollection(topics=sets, **rest)
