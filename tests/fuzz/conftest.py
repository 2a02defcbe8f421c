"""A verb, called as `python -m` calls it."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from csplade_pyserini.command_line import run


class Done(NamedTuple):
    code: int
    error: str
    """The last line on stderr."""


@pytest.fixture
def call(monkeypatch, capsys) -> Callable[..., Done]:
    """call(verb.main, words...): its exit code and last line. What `run` does not turn into an exit code fails the test."""

    def call_verb(main: Callable[..., int], *words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["verb", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            run(main)
        written = capsys.readouterr().err.splitlines()
        done = Done(end.value.code, written[-1] if written else "")
        assert done.code in (0, 1, 2), done
        if done.code:
            assert done.error.startswith("error: " if done.code == 2 else "check failed: "), done
            assert len(done.error) < 2_000, "an error that repeats a whole file"
        return done

    return call_verb
