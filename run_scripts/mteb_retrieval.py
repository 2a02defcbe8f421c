"""Score an encoder by MTEB on a test collection of `reproduce`, and write MTEB's result JSON.

python run_scripts/mteb_retrieval.py --collection sample --encoder csplade-tiny --output runs/mteb

This needs pip install 'csplade_pyserini[mteb]'. Nothing is fetched for a collection of local files. The task
is made of its corpus, topics and qrels. MTEB searches by itself, with the weights before they become impacts.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from csplade_pyserini import command_line
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.topics import read_qrels, read_topics
from csplade_pyserini.command_line import add_encoder_argument
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.reproduction.catalogue import TestCollection, TopicSet, find_collections
from csplade_pyserini.reproduction.steps import folder_name

SPLIT = "test"


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    os.environ.setdefault("MTEB_CACHE", str(args.output))
    try:
        import mteb
    except ImportError as error:
        raise InputError("this needs MTEB: pip install 'csplade_pyserini[mteb]'") from error
    from csplade_pyserini.model.sentence_transformer import to_sparse_encoder

    collections = find_collections(args.collection)
    model = to_sparse_encoder(args.encoder)
    for collection in collections:
        for topics in collection.topics:
            task = make_task(collection, topics)
            result = mteb.evaluate(model, task, cache=None, encode_kwargs={"batch_size": args.batch_size})
            [scores] = result.task_results
            write_result(args.output, collection.key(topics), args.encoder, scores)
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--collection", required=True, help="as `reproduce` takes it")
    add_encoder_argument(parser)
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for MTEB's JSON")
    parser.add_argument("--batch-size", type=command_line.positive, default=16, help="texts in a batch")
    return parser.parse_args(argv)


def make_task(collection: TestCollection, topics: TopicSet) -> Any:
    """Make MTEB's retrieval task of a test collection with one set of topics."""
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    qrels = read_qrels(topics.qrels or topics.topics)
    texts = {qid: text for qid, text in read_topics(topics.topics).items() if qid in qrels}
    documents = [
        {"id": document.docid, "title": "", "text": document.text}
        for document in open_corpus(collection.corpus).documents()
    ]
    judged = {qid: grades for qid, grades in qrels.items() if qid in texts}

    class LocalTask(AbsTaskRetrieval):  # type: ignore[misc]
        """A task whose data are here already."""

        ignore_identical_ids = collection.remove_query
        metadata = TaskMetadata(
            name=folder_name(collection.key(topics)),
            dataset={"path": collection.name, "revision": "local"},
            description=f"{collection.name}, from local data",
            type="Retrieval",
            category="t2t",
            modalities=["text"],
            eval_splits=[SPLIT],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, *_: Any, **__: Any) -> None:
            """Take the data of the test collection."""
            queries = [{"id": qid, "text": text} for qid, text in texts.items()]
            data = {
                "corpus": Dataset.from_list(documents),
                "queries": Dataset.from_list(queries),
                "relevant_docs": judged,
                "top_ranked": None,
            }
            self.dataset = {"default": {SPLIT: data}}
            self.data_loaded = True

    return LocalTask()


def write_result(output: Path, key: str, encoder: str, scores: Any) -> None:
    """Write MTEB's result of one task, and print its main score."""
    file = output / f"{folder_name(key)}.{folder_name(encoder)}.mteb.json"
    with whole_file(file) as out:
        json.dump(scores.model_dump(mode="json"), out, indent=1)
    main_score = scores.scores[SPLIT][0]["main_score"]
    print(f"{key}  {encoder}  ndcg_at_10  {main_score:.4f}")
    print(f"wrote {file}", file=sys.stderr)


if __name__ == "__main__":
    command_line.run(main)
