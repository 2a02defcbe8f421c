"""Topics of Pyserini's search commands: qids as strings, and files as `encode_queries` reads them.

Pyserini's own readers drop leading zeros of qids and keep a byte-order mark: such topics would silently
drop out of the score. They know neither BEIR's queries.jsonl nor every column that we read.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.registration import command_lines
from csplade_pyserini.registration.patches import Function, replaces
from csplade_pyserini.registration.programs import one_sentence

MODULE = "pyserini.query_iterator"
_OTHER_FORMS = ("cacm",)
"""Parts of a path by which Pyserini chooses readers that we have not."""


@replaces(MODULE, "DefaultQueryIterator.from_topics")
def from_topics(stock: Function, topics_path: str) -> Any:
    """Read a file of topics as encode_queries does, with an encoder of ours. Names go to Pyserini."""
    is_file = Path(topics_path).is_file()
    if not command_lines.names_ours() or not is_file or any(part in topics_path for part in _OTHER_FORMS):
        return stock(topics_path)
    from pyserini.query_iterator import DefaultQueryIterator

    with one_sentence():
        topics = read_topics(topics_path)
    order = sorted(topics, key=lambda qid: (not qid.isdecimal(), int(qid) if qid.isdecimal() else 0, qid))
    return DefaultQueryIterator({qid: {"title": text} for qid, text in topics.items()}, order)


@replaces(MODULE, "QueryIterator.__iter__")
def iterate(stock: Function, self: Any) -> Iterator[tuple[Any, str]]:
    """Yield qids as strings with an encoder of ours: numbers never equal a docid in --remove-query."""
    for qid, text in stock(self):
        if command_lines.names_ours():
            qid = str(qid)
        yield qid, text
