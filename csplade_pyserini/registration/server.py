"""Pyserini's servers on local impact indexes.

The stock backend looks every impact index up among the prebuilt ones, and fails on a local one (KeyError).
It loads any encoder that a client names (MCP has a field for it): folders and files of the server are refused
here.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from csplade_pyserini.cards import is_card, is_hub_id, is_ours, parse_encoder_name
from csplade_pyserini.errors import InputError
from csplade_pyserini.lucene.makers import refuse_mismatch
from csplade_pyserini.registration.encoders import shared_encoder
from csplade_pyserini.registration.patches import Function, after_loading, relies_on, replaces
from csplade_pyserini.registration.programs import say
from csplade_pyserini.registration.searcher import name_of_ours, query_identity, stock_name

MODULE = "pyserini.server.backend"
_STORES = "_csplade_doc_stores"
"""Attribute of a backend with the searchers that read documents from impact indexes, by path."""
_local_names: set[str] = set()
"""Names of the local indexes of every backend of this process."""

relies_on(
    MODULE,
    "SharedSearchBackend._lock_for_index_name",
    "SharedSearchBackend._params_require_searcher_rebuild",
    "BadSearchRequestError",
    "INDEX_TYPE",
    "LuceneSearcher",
)


class PrebuiltIndexes(Mapping[str, Any]):
    """Pyserini's table of the prebuilt indexes of one kind, which it may have to fetch first.

    A local index is served without a network: a table that cannot be fetched has no index of its name.
    """

    _unreachable = False
    """Whether a fetch has failed; then no local index waits for one again."""

    def __init__(self, stock: Mapping[str, Any]) -> None:
        self._stock = stock

    def __contains__(self, name: object) -> bool:
        if name in _local_names and PrebuiltIndexes._unreachable:
            return False
        try:
            return name in self._stock
        except OSError as error:  # URLError is one
            if not PrebuiltIndexes._unreachable:
                say(f"cannot fetch Pyserini's list of prebuilt indexes ({error}); local ones are served")
            PrebuiltIndexes._unreachable = True
            return False

    def __getitem__(self, name: str) -> Any:
        return self._stock[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stock)

    def __len__(self) -> int:
        return len(self._stock)


class ImpactIndexes(PrebuiltIndexes):
    """The table of impact indexes; the description of a local one is empty, instead of an error."""

    def __getitem__(self, name: str) -> Any:
        if name in _local_names and name not in self:
            return {}
        return super().__getitem__(name)


@after_loading(MODULE)
def describe_local_indexes(module: ModuleType) -> None:
    """Let the backend look up indexes that are not prebuilt."""
    for kind, stock in module.INDEX_TYPE.items():
        table = ImpactIndexes if kind == "impact" else PrebuiltIndexes
        module.INDEX_TYPE[kind] = table(stock)


@replaces(MODULE, "SharedSearchBackend.__init__")
def open_backend(stock: Function, self: Any, *args: Any, **kwargs: Any) -> None:
    """Remember the names of local indexes."""
    stock(self, *args, **kwargs)
    _local_names.update(self._local_indexes)


@replaces(MODULE, "SharedSearchBackend._ensure_index")
def ensure_index(
    stock: Function,
    self: Any,
    index_name: str,
    *,
    encoder: str | None = None,
    ef_search: int | None = None,
    **kwargs: Any,
) -> Any:
    """Open an index. An encoder of ours is loaded before Pyserini locks the index."""
    with _answered():
        local = _impact_index(self, index_name)
        config = _open_config(self, index_name, ef_search, encoder)
        if config is None:
            encoder = _check_encoder(self, index_name, encoder)
            if local is not None and encoder and is_ours(encoder):
                shared_encoder(encoder)
            config = stock(self, index_name, encoder=encoder, ef_search=ef_search, **kwargs)
    if local is not None and config.index_type == "impact":  # and no prebuilt index of that name
        config.base_index = local.base_index
    return config


@replaces(MODULE, "SharedSearchBackend._doc_store_lucene_searcher")
def doc_store(stock: Function, self: Any, start_index_name: str, **kwargs: Any) -> Any:
    """Return the searcher that has an index's documents; a local impact index may hold its own."""
    local = _impact_index(self, start_index_name)
    if local is None:
        return stock(self, start_index_name, **kwargs)
    if local.base_index:
        return stock(self, local.base_index, **kwargs)
    with self._lock_for_index_name(start_index_name):
        stores = self.__dict__.setdefault(_STORES, {})
        if local.path not in stores:
            stores[local.path] = _backend().LuceneSearcher(local.path)
        return stores[local.path]


@replaces(MODULE, "SharedSearchBackend.close_all")
def close_all(stock: Function, self: Any) -> None:
    """Close the searchers of documents too."""
    stock(self)
    for store in self.__dict__.pop(_STORES, {}).values():
        store.close()


@replaces(MODULE, "SharedSearchBackend._search_impl")
def search(stock: Function, self: Any, query: Any, index_name: str, *args: Any, **kwargs: Any) -> Any:
    """Search one index. What is wrong with a request is told to its client."""
    with _answered():
        return stock(self, query, index_name, *args, **kwargs)


def may_name(encoder: str, configured: set[str | None]) -> bool:
    """Whether a client may name this encoder: a card, a configured one, or a name of Pyserini's own."""
    if encoder in configured or is_card(encoder):
        return True
    has_form_of_a_name = is_hub_id(encoder) or re.fullmatch(r"[\w-]+", encoder)
    return bool(has_form_of_a_name) and not os.path.exists(encoder) and not is_ours(encoder)


def _backend() -> Any:
    from pyserini.server import backend

    return backend


def _impact_index(backend: Any, index_name: str) -> Any:
    """Return the configuration of a local impact index; None if there is none of that name."""
    local = backend._local_indexes.get(index_name)
    if local is None or local.index_type != "impact":
        return None
    return local


def _open_config(
    backend: Any, index_name: str, ef_search: int | None = None, encoder: str | None = None
) -> Any:
    """Return the index if it is open as it is asked for, else None."""
    with backend._lock_for_index_name(index_name):
        config = backend.indexes.get(index_name)
        if config is None or config.searcher is None:
            return None
        if backend._params_require_searcher_rebuild(config, ef_search=ef_search, encoder=encoder):
            return None
        return config


def _check_encoder(backend: Any, index_name: str, encoder: str | None) -> str | None:
    """Return the canonical configured name of the client's encoder, so that Pyserini keeps the index open.

    Raises InputError, before Pyserini closes the index for it, if the index has another one.
    """
    local = _impact_index(backend, index_name)
    configured = {local_index.encoder for local_index in backend._local_indexes.values()}
    if encoder and not may_name(encoder, configured):
        raise InputError(
            f"encoder {encoder!r} is not for clients; "
            f"wanted the name of a card, or an encoder of this server's configuration"
        )
    if local is None:
        return encoder
    name = encoder or local.encoder
    if not name:
        return encoder
    refuse_mismatch(Path(local.path), query_identity(name) or stock_name(name), name=name_of_ours(name))
    if local.encoder and _is_same_encoder(name, local.encoder):
        return str(local.encoder)
    if local.encoder and query_identity(local.encoder) is not None:
        raise InputError(f"{index_name} is searched with {local.encoder}, not with {name}")
    return encoder


def _is_same_encoder(one: str, other: str) -> bool:
    """Whether two names are of one encoder with the same options."""
    if one == other:
        return True
    if not is_ours(one) or not is_ours(other):
        return False
    _, options = parse_encoder_name(one)
    _, other_options = parse_encoder_name(other)
    return options == other_options and query_identity(one) == query_identity(other)


@contextmanager
def _answered() -> Iterator[None]:
    """Turn an InputError, even one that Pyserini has wrapped, into an answer to the client."""
    try:
        yield
    except Exception as error:
        reason: BaseException | None = error
        while reason is not None and not isinstance(reason, InputError):
            reason = reason.__cause__
        if reason is None:
            raise
        raise _backend().BadSearchRequestError(str(reason)) from reason
