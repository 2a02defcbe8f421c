"""Input files of a test collection, as Pyserini reads them: corpus, topics, qrels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csplade_pyserini.collections.corpus import IR_DATASETS_PREFIX, measure_corpus, open_corpus, write_corpus
from csplade_pyserini.collections.topics import (
    Qrels,
    Topics,
    read_qrels,
    read_topics,
    write_qrels,
    write_topics,
)
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.files.notes import listed, say_once
from csplade_pyserini.files.stamps import refuse_changes, write_made_of
from csplade_pyserini.files.tables import read_json
from csplade_pyserini.reproduction.catalogue import TestCollection, TopicSet

CHANGED = "{place} holds the {key} {before}, not {now}: choose another --output"


@dataclass(frozen=True)
class Inputs:
    """Paths of a test collection's files in an output folder."""

    folder: Path
    pyserini_names: bool = False
    """Whether commands get Pyserini's own names of topics and qrels instead of our files."""

    @property
    def corpus(self) -> Path:
        """Folder of the corpus, a JsonCollection."""
        return self.folder / "corpus"

    def topics_file(self, topics: TopicSet) -> Path:
        """Path of the topics.

        Pyserini reads qids as strings if the path contains `beir`. From any other TSV file it drops leading
        zeros.
        """
        return self.folder / f"topics{topics.infix}.beir.tsv"

    def qrels_file(self, topics: TopicSet) -> Path:
        """Path of the TREC qrels."""
        return self.folder / f"qrels{topics.infix}.txt"

    def topics(self, topics: TopicSet) -> Path | str:
        """Value for Pyserini's --topics. Raises InputError if Pyserini has no name for the topics."""
        if self.pyserini_names:
            return _pyserini_name(topics)
        return self.topics_file(topics)

    def qrels(self, topics: TopicSet) -> Path | str:
        """Qrels for Pyserini's trec_eval. Raises InputError if Pyserini has no name for the topics."""
        if self.pyserini_names:
            return _pyserini_name(topics)
        return self.qrels_file(topics)

    def write(self, collection: TestCollection) -> None:
        """Write corpus, topics and qrels, unless an earlier run has written them.

        Raises InputError if the folder holds another test collection. Raises CheckError if the corpus has
        another number of documents than its table says.
        """
        stamp = self.folder / "collection.json"
        made_of = _made_of(collection)
        if stamp.is_file():
            refuse_changes(read_json(stamp), made_of, self.folder, CHANGED)
            return
        documents = self._write_corpus(collection)
        for topics in collection.topics:
            self._write_topics(topics)
        write_made_of(stamp, made_of | {"documents": documents})

    def _write_corpus(self, collection: TestCollection) -> int:
        """Write the corpus; return its number of documents."""
        corpus = open_corpus(collection.corpus)
        documents = measure_corpus(corpus).documents
        if collection.documents and documents != collection.documents:
            raise CheckError(
                f"{collection.corpus} has {documents} documents; {collection.name} has {collection.documents}"
            )
        write_corpus(corpus, self.corpus / "docs.jsonl")
        return documents

    def _write_topics(self, topics: TopicSet) -> None:
        """Write the qrels and the judged topics. Only these count, as in trec_eval's own mean.

        Raises InputError if no topic is judged.
        """
        texts = read_topics(topics.topics)
        qrels = read_qrels(topics.qrels or topics.topics)
        judged = {qid: text for qid, text in texts.items() if qid in qrels}
        _say_unmatched(topics, texts, qrels)
        write_topics(judged, self.topics_file(topics))
        write_qrels(qrels, self.qrels_file(topics))


def _say_unmatched(topics: TopicSet, texts: Topics, qrels: Qrels) -> None:
    """Name topics without judgements, and judged topics that are not there. InputError if none match."""
    judged_by = topics.qrels or topics.topics
    unjudged = [qid for qid in texts if qid not in qrels]
    if len(unjudged) == len(texts):
        raise InputError(
            f"{judged_by} judges no topic of {topics.topics}: "
            f"it has the qids {listed(qrels)}, they are {listed(texts)}"
        )
    if unjudged:
        say_once(
            f"{topics.topics}: {len(unjudged)} without a judgement in {judged_by}, left out: "
            f"{listed(unjudged)}"
        )
    absent = [qid for qid in qrels if qid not in texts]
    if absent:
        say_once(
            f"{judged_by}: {len(absent)} judged that {topics.topics} lacks, counted as 0: {listed(absent)}"
        )


def _pyserini_name(topics: TopicSet) -> str:
    if not topics.pyserini:
        raise InputError(f"Pyserini has no name for the topics {topics.topics}: leave --pyserini-names away")
    return topics.pyserini


def _made_of(collection: TestCollection) -> dict[str, Any]:
    return {
        "collection": collection.name,
        "topics": [collection.key(topics) for topics in collection.topics],
        "corpus": _corpus_size(collection.corpus),
    }


def _corpus_size(corpus: str) -> str:
    """Size of a corpus of files, which may change; empty for one of ir_datasets."""
    if corpus.startswith(IR_DATASETS_PREFIX):
        return ""
    return open_corpus(corpus).size
