"""Encoders: any encoder class of Pyserini's, made with a name of ours, is our encoder.

So it does not matter which class Pyserini picks for a name, nor what else the name contains.
"""

import functools
import threading
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from csplade_pyserini.cards import canonical_name, is_ours
from csplade_pyserini.impacts import Vector
from csplade_pyserini.optimized import make_no_docstrings
from csplade_pyserini.registration.patches import Function, after_loading, replaces
from csplade_pyserini.registration.programs import one_sentence, say

if TYPE_CHECKING:
    from csplade_pyserini.model import SparseEncoder

_NAME_ARGUMENTS = ("model_name", "model_name_or_path", "encoder_dir")
"""Arguments by which Pyserini's encoder classes take a name."""
_name_locks: dict[str, threading.Lock] = {}
"""Lock of each encoder's name, so that an encoder that several threads ask for is loaded once."""
_loading = threading.Lock()
"""Lock held while any encoder is loaded.

transformers changes globals of its own meanwhile, and two loads at once leave them changed.
"""


def shared_encoder(name: str, device: str | None = None) -> "SparseEncoder":
    """Return the encoder of a name, loaded once per process: an 8B model outlives many searchers."""
    with one_sentence():
        name = canonical_name(name)
        with _name_locks.setdefault(name, threading.Lock()):
            return _load_encoder(name, device)


@functools.lru_cache(maxsize=2)
def _load_encoder(name: str, device: str | None) -> "SparseEncoder":
    from csplade_pyserini.model import load_encoder

    with _loading:
        return load_encoder(name, device=device)


@after_loading("pyserini")
def prepare_transformers(_: ModuleType) -> None:
    """Have `python -OO -m pyserini...` import transformers, which it does not without us."""
    make_no_docstrings()


@replaces("pyserini.encode._base", "DocumentEncoder.__new__")
def new_document_encoder(stock: Function, cls: type, *args: Any, **kwargs: Any) -> Any:
    """Make our encoder in place of a document encoder, if the name is ours."""
    name = _name_of_ours(args, kwargs)
    if name is None:
        return stock(cls)
    return PyseriniDocumentEncoder(name, kwargs.get("device"))


@replaces("pyserini.encode._base", "QueryEncoder.__new__")
def new_query_encoder(stock: Function, cls: type, *args: Any, **kwargs: Any) -> Any:
    """Return our encoder in place of a query encoder, if the name is ours."""
    name = _name_of_ours(args, kwargs)
    if name is None:
        return stock(cls)
    return shared_encoder(name, kwargs.get("device"))


def _name_of_ours(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Return the encoder name among a constructor's arguments, if it is ours."""
    given = [*args, *(kwargs.get(key) for key in _NAME_ARGUMENTS)]
    names = [value for value in given if isinstance(value, str)]
    if names and is_ours(names[0]):
        return names[0]
    return None


class PyseriniDocumentEncoder:
    """Pyserini's document-encoder interface (`pyserini.encode`) over one of our encoders."""

    def __init__(self, name: str, device: str | None) -> None:
        self._name = name
        self._encoder = shared_encoder(name, device)
        self._has_said_length = False

    def encode(
        self,
        texts: list[str],
        titles: list[str] | None = None,
        max_length: int | None = None,
        **_: Any,
    ) -> list[Vector]:
        """Encode a batch. A document without any term gets the reserved one: Lucene would drop it."""
        self._say_length(max_length)
        if titles is not None:
            texts = [" ".join(filter(None, pair)) for pair in zip(titles, texts, strict=True)]
        vectors = self._encoder.encode_documents(texts)
        return [vector or {self._encoder.empty_term: 1} for vector in vectors]

    def _say_length(self, max_length: int | None) -> None:
        """Say once that the card's length holds, if Pyserini asks for another one."""
        wanted = self._encoder.card.document_max_length
        if max_length in (None, wanted) or self._has_said_length:
            return
        self._has_said_length = True
        say(
            f"--max-length {max_length} is left out, the card's {wanted} holds; "
            f"{self._name}:max_length=N changes it"
        )
