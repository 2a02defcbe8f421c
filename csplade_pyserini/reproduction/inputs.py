"""A test collection as files that Pyserini reads: its corpus, and topics and qrels for each set of topics."""

import json
from dataclasses import dataclass
from pathlib import Path

from csplade_pyserini.collections.corpus import IR_DATASETS_PREFIX, measure_corpus, open_corpus, write_corpus
from csplade_pyserini.collections.topics import read_qrels, read_topics, write_qrels, write_topics
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.reproduction.test_collections import TestCollection, TopicSet


@dataclass(frozen=True)
class Inputs:
    """Where a collection's files lie in an output folder."""

    folder: Path
    pyserini_names: bool = False
    """Commands get topics and qrels by the names that Pyserini has for them, not our files."""

    @property
    def corpus(self) -> Path:
        """A JsonCollection."""
        return self.folder / "corpus"

    def topics_file(self, topics: TopicSet) -> Path:
        """Pyserini reads qids of a path that contains `beir` as strings; any other TSV loses leading zeros."""
        return self.folder / f"topics{topics.infix}.beir.tsv"

    def qrels_file(self, topics: TopicSet) -> Path:
        """TREC qrels."""
        return self.folder / f"qrels{topics.infix}.txt"

    def topics(self, topics: TopicSet) -> Path | str:
        """What Pyserini's --topics takes."""
        return self._name(topics) if self.pyserini_names else self.topics_file(topics)

    def qrels(self, topics: TopicSet) -> Path | str:
        """What Pyserini's trec_eval takes."""
        return self._name(topics) if self.pyserini_names else self.qrels_file(topics)

    def _name(self, topics: TopicSet) -> str:
        if not topics.pyserini:
            raise InputError(
                f"Pyserini has no name for the topics {topics.topics}: leave --pyserini-names away"
            )
        return topics.pyserini

    def write(self, collection: TestCollection) -> None:
        """Write corpus, topics and qrels, once.

        Raises InputError where the folder holds another collection, CheckError where the corpus has not the documents that the
        table says.
        """
        stamp = self.folder / "collection.json"
        wanted = {
            "collection": collection.name,
            "topics": list(map(collection.key, collection.topics)),
            "corpus": _size(collection),
        }
        if stamp.is_file():
            before = json.loads(stamp.read_text(encoding="utf-8"))
            for key, value in wanted.items():
                if before[key] != value:
                    raise InputError(
                        f"{self.folder} holds the {key} {before[key]!r}, not {value!r}: choose another --output"
                    )
            return
        corpus = open_corpus(collection.corpus)
        documents = measure_corpus(corpus).documents
        if collection.documents and documents != collection.documents:
            raise CheckError(
                f"{collection.corpus} has {documents} documents; {collection.name} has {collection.documents}"
            )
        write_corpus(corpus, self.corpus / "docs.jsonl")
        for topics in collection.topics:
            texts, qrels = read_topics(topics.topics), read_qrels(topics.qrels or topics.topics)
            # Only judged topics count, as in trec_eval's own mean.
            write_topics({qid: text for qid, text in texts.items() if qid in qrels}, self.topics_file(topics))
            write_qrels(qrels, self.qrels_file(topics))
        with whole_file(stamp) as file:
            json.dump(wanted | {"documents": documents}, file)


def _size(collection: TestCollection) -> str:
    """Of a corpus of files, which may have changed."""
    return "" if collection.corpus.startswith(IR_DATASETS_PREFIX) else open_corpus(collection.corpus).size
