"""Docids: strings that Lucene keeps, each of them used once."""

import hashlib
from collections.abc import Callable, Iterable

import numpy as np

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import check_unicode

MOST_DOCID_BYTES = 32_766
"""IndexWriter.MAX_TERM_LENGTH of Lucene, in UTF-8."""


def check_docid(docid: object, place: object) -> str:
    """Return a docid as a string. Raises InputError unless it is a number, or one word that Lucene keeps."""
    text = str(docid)
    if type(docid) not in (str, int) or text.split() != [text]:
        raise InputError(f"{place}: the docid is {docid!r}; wanted a string without white space, or a number")
    check_unicode(text, place)
    size = len(text.encode())
    if size > MOST_DOCID_BYTES:
        raise InputError(
            f"{place}: the docid {docid!r} has {size} bytes; Lucene keeps at most {MOST_DOCID_BYTES}"
        )
    return text


def docid_hash(docid: str) -> int:
    """64-bit hash of a docid: all that is kept in memory of millions of them."""
    return int.from_bytes(hashlib.blake2b(docid.encode(), digest_size=8).digest())


def refuse_repeated(hashes: "np.ndarray", docids: Callable[[], Iterable[tuple[str, object]]]) -> None:
    """Raise InputError, naming both places, if a docid stands twice; equal hashes alone are no error.

    hashes: of every docid. docids: gives them again, each with its place; only called if hashes are equal.
    """
    ordered = np.sort(hashes)
    is_repeated = ordered[1:] == ordered[:-1]
    repeated = set(ordered[1:][is_repeated].tolist())
    if not repeated:
        return
    places: dict[str, object] = {}
    for docid, place in docids():
        if docid_hash(docid) not in repeated:
            continue
        if docid in places:
            raise InputError(f"{place}: docid {docid!r} is also at {places[docid]}")
        places[docid] = place
