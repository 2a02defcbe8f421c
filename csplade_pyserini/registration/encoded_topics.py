"""Topics that are vectors already, as `pyserini.encode.query` writes them: each term as often as its impact."""

from pathlib import Path

from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.errors import InputError

_REPEATED = 3
"""Words for each different word, at least; impacts are well above, and texts below 2."""


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
    words = [text.split() for text in texts]
    different = sum(len(set(text)) for text in words)
    return sum(map(len, words)) >= _REPEATED * max(1, different)
