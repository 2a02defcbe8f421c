"""Topics of Pyserini's search commands: qids as strings."""

from collections.abc import Iterator
from typing import Any

from csplade_pyserini.registration import command_lines
from csplade_pyserini.registration.patches import Function, replaces


@replaces("pyserini.query_iterator", "QueryIterator.__iter__")
def iterate(stock: Function, self: Any) -> Iterator[tuple[Any, str]]:
    """Yield qids as strings with an encoder of ours: numbers never equal a docid in --remove-query."""
    for qid, text in stock(self):
        if command_lines.names_ours():
            qid = str(qid)
        yield qid, text
