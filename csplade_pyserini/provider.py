"""Our encoders for a Pyserini that reads the entry-point group `pyserini.encoders`: no patch is needed there.

setup.cfg names this module in that group. docs/upstream.md describes the group.
"""

from typing import TYPE_CHECKING

from csplade_pyserini.cards import is_ours

if TYPE_CHECKING:
    from csplade_pyserini.interface import QuerySide
    from csplade_pyserini.registration.encoders import DocumentSide


def accepts(name: str) -> bool:
    """Whether a name is an encoder's of ours. Loads neither torch nor Java, and never raises."""
    return is_ours(name)


def query_encoder(name: str, device: str | None = None) -> "QuerySide":
    """Return the encoder of a name for queries, loaded once per process. Raises InputError."""
    from csplade_pyserini.registration.encoders import shared_encoder

    return shared_encoder(name, device)


def document_encoder(name: str, device: str | None = None) -> "DocumentSide":
    """Return the encoder of a name for documents. Raises InputError."""
    from csplade_pyserini.registration.encoders import DocumentSide

    return DocumentSide(name, device)
