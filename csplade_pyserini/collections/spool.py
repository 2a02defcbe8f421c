"""Corpora that come through a pipe: written to a file first, because a corpus is read more than once."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import getpid
from pathlib import Path

from csplade_pyserini.collections.corpus import STANDARD_INPUT, Corpus, JsonlCorpus, is_stream, open_corpus
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.compressed import COMPRESSIONS, MOST_FIRST_BYTES, kind_of
from csplade_pyserini.files.whole import real_path, whole_file


@contextmanager
def spooled_corpus(
    name: str, beside: Path, *, fields: Sequence[str] = (), docid_field: str = ""
) -> Iterator[Corpus]:
    """Open a corpus; a pipe is first written to a file beside `beside`, which goes with the block.

    A corpus is read more than once, and a pipe cannot be. Raises InputError if there is none.
    """
    if not is_stream(name):
        yield open_corpus(name, fields=fields, docid_field=docid_field)
        return
    spool = real_path(beside)
    spool = spool.with_name(f".{spool.name}.corpus-{getpid()}")
    try:
        spool = _spooled(name, spool)
        yield JsonlCorpus(name, (spool,), tuple(fields), docid_field)
    except InputError as error:
        raise InputError(str(error).replace(str(spool), name)) from error
    finally:
        spool.unlink(missing_ok=True)


def _spooled(name: str, spool: Path) -> Path:
    """Copy a stream to a file, and return its path: with an ending if the stream is compressed."""
    with open(0, "rb", closefd=False) if name == STANDARD_INPUT else Path(name).open("rb") as source:
        kind = kind_of(source.peek(MOST_FIRST_BYTES))
        if kind in COMPRESSIONS:
            spool = spool.with_name(f"{spool.name}{kind}")
        print(f"copying the corpus {name} to {spool}", file=sys.stderr)
        with whole_file(spool, "wb") as target:
            shutil.copyfileobj(source, target)
    return spool
