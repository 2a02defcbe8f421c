"""Notes to the user on stderr, each said once however often a file is read."""

import functools
import itertools
import sys
from collections.abc import Collection

SHOWN = 10
"""Number of names that a note or an error lists."""


@functools.cache
def say_once(sentence: str) -> None:
    """Print a sentence on stderr, unless this process has said it already."""
    print(sentence, file=sys.stderr)


def listed(names: Collection[object]) -> str:
    """Format the first SHOWN names, and the number of the others."""
    first = ", ".join(map(str, itertools.islice(names, SHOWN)))
    if len(names) > SHOWN:
        return f"{first} and {len(names) - SHOWN} more"
    return first
