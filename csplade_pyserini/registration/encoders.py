"""Encoders: any encoder of Pyserini's classes that is made with a name of ours encodes as ours does.

So it does not matter which class Pyserini picks for a name, nor what else the name contains. The object stays
one of Pyserini's class. Classes that users derive keep their own `__init__`, `__new__` and `encode`.
"""

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from csplade_pyserini.cards import canonical_name
from csplade_pyserini.impacts import Vector
from csplade_pyserini.interface import QuerySide
from csplade_pyserini.optimized import make_no_docstrings
from csplade_pyserini.registration.names import means_ours
from csplade_pyserini.registration.patches import Function, after_loading, relies_on
from csplade_pyserini.registration.programs import one_sentence, say

if TYPE_CHECKING:
    from csplade_pyserini.model import SparseEncoder
    from csplade_pyserini.query_sides import AsymmetricEncoder

    OurEncoder = SparseEncoder | AsymmetricEncoder

_NAME_ARGUMENTS = ("model_name", "model_name_or_path", "encoder_dir")
"""Arguments by which Pyserini's encoder classes take a name."""
_ADOPTED = "_csplade_pyserini_encoder"
"""Attribute of a Pyserini encoder that was made with a name of ours: what encodes for it."""
_TAUGHT = "_csplade_pyserini_taught"
"""Mark of the methods that are replaced here."""
_name_locks: dict[str, threading.Lock] = {}
"""Lock of each encoder's name, so that an encoder that several threads ask for is loaded once."""
_loading = threading.Lock()
"""Lock held while any encoder is loaded.

transformers changes globals of its own meanwhile, and two loads at once leave them changed.
"""


def shared_encoder(name: str, device: str | None = None) -> "OurEncoder":
    """Return the encoder of a name, loaded once per process: an 8B model outlives many searchers."""
    with one_sentence():
        name = canonical_name(name)
        with _name_locks.setdefault(name, threading.Lock()):
            return _load_encoder(name, device)


@functools.lru_cache(maxsize=2)
def _load_encoder(name: str, device: str | None) -> "OurEncoder":
    from csplade_pyserini.query_sides import load_encoder

    with _loading:
        return load_encoder(name, device=device)


@after_loading("pyserini")
def prepare_transformers(_: ModuleType) -> None:
    """Have `python -OO -m pyserini...` import transformers, which it does not without us."""
    make_no_docstrings()


def ours_behind(encoder: Any) -> QuerySide | None:
    """Return the encoder of ours that a query encoder is, or is made over; None for any other object.

    Only the type counts: a user's own encoder may have methods of the same names.
    """
    adopted = getattr(encoder, "__dict__", {}).get(_ADOPTED)
    candidates: tuple[Any, ...] = (encoder, adopted)
    for candidate in candidates:
        if issubclass(type(candidate), QuerySide):
            ours: QuerySide = candidate
            return ours
    return None


def encodes_as_ours(encoder: Any) -> bool:
    """Whether an object's `encode` is ours, and no method that a user's class has in its place."""
    encode = getattr(type(encoder), "encode", None)
    is_own = "encode" in getattr(encoder, "__dict__", {})
    return not is_own and (encode is QuerySide.encode or hasattr(encode, _TAUGHT))


relies_on("pyserini.encode._base", "QueryEncoder.__init__", "QueryEncoder.encode", "DocumentEncoder.encode")


@after_loading("pyserini.encode._base")
def teach_classes(module: ModuleType) -> None:
    """Have all encoder classes of Pyserini's take names of ours, those that load later included."""
    _teach_family(module.QueryEncoder, shared_encoder)
    _teach_family(module.DocumentEncoder, DocumentSide)


def _teach_family(base: Any, make: Callable[..., Any]) -> None:
    if hasattr(base.encode, _TAUGHT):
        return

    def init_subclass(cls: Any, /, **kwargs: Any) -> None:
        super(base, cls).__init_subclass__(**kwargs)
        _teach(cls, make)

    base.__init_subclass__ = classmethod(init_subclass)
    known = [base]
    for cls in known:
        known += cls.__subclasses__()
        _teach(cls, make)


def _teach(cls: Any, make: Callable[..., Any]) -> None:
    """Replace the `__init__` and `encode` that a class of Pyserini's defines; users' classes keep theirs."""
    if not cls.__module__.startswith("pyserini."):
        return
    if "__init__" in vars(cls):
        cls.__init__ = _taught_init(cls.__init__, make)
    if "encode" in vars(cls):
        cls.encode = _taught_encode(cls.encode)


def _taught_init(stock: Function, make: Callable[..., Any]) -> Function:
    @functools.wraps(stock)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        with one_sentence():
            name = _name_of_ours(args, kwargs)
        if name is None:
            stock(self, *args, **kwargs)
            return
        setattr(self, _ADOPTED, make(name, kwargs.get("device")))
        self.has_model = True
        self.has_encoded_query = False

    setattr(init, _TAUGHT, True)
    return init


def _taught_encode(stock: Function) -> Function:
    @functools.wraps(stock)
    def encode(self: Any, *args: Any, **kwargs: Any) -> Any:
        adopted = vars(self).get(_ADOPTED)
        if adopted is None:
            return stock(self, *args, **kwargs)
        return adopted.encode(*args, **kwargs)

    setattr(encode, _TAUGHT, True)
    return encode


def _name_of_ours(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Return the encoder name among a constructor's arguments, if it is ours."""
    given = [*args, *(kwargs.get(key) for key in _NAME_ARGUMENTS)]
    names = [value for value in given if isinstance(value, str)]
    if names and means_ours(names[0]):
        return names[0]
    return None


class DocumentSide:
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
            pairs = zip(titles, texts, strict=True)
            texts = [" ".join(filter(None, map(str.strip, pair))) for pair in pairs]
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
