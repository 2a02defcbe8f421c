"""A verb, called as `python -m` calls it, and the one encoder that all of a file's calls have."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from csplade_pyserini.cards import find_checkpoint
from csplade_pyserini.command_line import run
from csplade_pyserini.model import build_encoder


class Done(NamedTuple):
    code: int
    error: str
    """The last line on stderr."""
    output: str
    """Text on stdout."""


@pytest.fixture
def call(monkeypatch, capsys) -> Callable[..., Done]:
    """call(verb.main, words...): exit code and output. An exception that `run` lets through fails."""

    def call_verb(main: Callable[..., int], *words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["verb", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            run(main)
        output, talk = capsys.readouterr()
        *_, last = ["", *talk.splitlines()]
        done = Done(end.value.code, last, output)
        assert done.code in (0, 1, 2), done
        if done.code:
            assert done.error.startswith("error: " if done.code == 2 else "check failed: "), done
            assert len(done.error) < 2_000, "an error that repeats a whole file"
        return done

    return call_verb


@pytest.fixture(scope="module")
def one_encoder(checkpoint_folder: Path) -> Iterator[None]:
    """Loaded once: what is tried comes before the model, or goes through it."""
    with pytest.MonkeyPatch.context() as patch:
        encoder = build_encoder(find_checkpoint(str(checkpoint_folder)))
        patch.setattr("csplade_pyserini.model.build_encoder", lambda *_: encoder)
        yield
