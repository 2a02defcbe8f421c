"""Topics that are vectors already, as `pyserini.encode.query` writes them.

Each term is repeated as often as its impact says.
"""

import itertools
from pathlib import Path

from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.errors import InputError

_REPEATED = 3
"""Mean number of times that a word is repeated, at least; impacts are well above."""


def are_terms(topics: str | None) -> bool:
    """Whether a file of topics repeats its words as vectors do. Names of topics are of texts."""
    if topics is None:  # of a hybrid search, which names them elsewhere
        return True
    if not Path(topics).is_file():
        return False
    try:
        texts = read_topics(topics).values()
    except InputError:  # of a form that only Pyserini reads
        return False
    words = 0
    different = 0
    for text in texts:
        counts = [(word, len(list(group))) for word, group in itertools.groupby(text.split())]
        if len({word for word, _ in counts}) < len(counts):  # a vector has a term in one place
            return False
        words += sum(count for _, count in counts)
        different += len(counts)
    return words >= _REPEATED * max(1, different)
