"""List the verbs, or run one: `-m csplade_pyserini VERB` does what `-m csplade_pyserini.VERB` does."""

import runpy
import sys
from collections.abc import Sequence

from csplade_pyserini.command_line import VERBS, run
from csplade_pyserini.errors import InputError

HEAD = "usage: python -m csplade_pyserini.VERB [--help] ..."
HELP = ("-h", "--help")


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in HELP:
        print("\n".join(verb_lines()))
        return 0
    verb = words[0]
    if verb not in VERBS:
        raise InputError(f"unknown verb {verb!r}; known: {', '.join(VERBS)}")
    sys.argv = [verb, *words[1:]]
    runpy.run_module(f"csplade_pyserini.{verb}", run_name="__main__", alter_sys=True)
    return 0


def verb_lines() -> list[str]:
    """Lines of the list: one for each verb."""
    width = max(map(len, VERBS))
    return [HEAD, "", *(f"  {verb:<{width}}  {purpose}" for verb, purpose in VERBS.items())]


if __name__ == "__main__":
    run(main)
