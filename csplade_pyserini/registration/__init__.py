"""The only file that changes Pyserini: what each patched module gets, right after it has loaded.

Pyserini has no plugin mechanism: every path picks an encoder class by a substring of its name, and
`csplade-8b` contains `splade`. GUARDED names every symbol of Pyserini relied on here; a test fails,
naming the symbol, when one moves. Encoder names that are not ours reach Pyserini's own code untouched.
"""

import atexit
import copy
import functools
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from csplade_pyserini import autoload
from csplade_pyserini.cards import find_card, find_checkpoint, is_card, is_hub_id, is_ours, parse_encoder_name
from csplade_pyserini.collections.manifests import encoder_of, refuse_mismatch
from csplade_pyserini.errors import InputError
from csplade_pyserini.registration.manifests import stamp_collection, stamp_index

if TYPE_CHECKING:
    from csplade_pyserini.model import SparseEncoder

GUARDED = {
    "jnius_config": ("add_options",),
    "pyserini.encode._base": ("DocumentEncoder", "QueryEncoder"),
    "pyserini.query_iterator": ("QueryIterator.__iter__",),
    "pyserini.search.lucene._impact_searcher": (
        "LuceneImpactSearcher.__init__",
        "LuceneImpactSearcher._init_query_encoder_from_str",
        "LuceneImpactSearcher.batch_search",
        "LuceneImpactSearcher.encode",
        "LuceneImpactSearcher.search",
    ),
    "pyserini.server.backend": (
        "SharedSearchBackend._bulk_fetch_and_format_documents",
        "SharedSearchBackend._doc_store_lucene_searcher",
        "SharedSearchBackend._ensure_index",
        "SharedSearchBackend._lock_for_index_name",
        "SharedSearchBackend._params_require_searcher_rebuild",
        "SharedSearchBackend._search_impl",
        "SharedSearchBackend._search_single_shard",
        "SharedSearchBackend.close_all",
        "SharedSearchBackend.resolve_index_dir",
        "BadSearchRequestError",
        "IndexNotAvailableError",
        "INDEX_TYPE",
        "LuceneSearcher",
    ),
}
"""Module to the symbols we patch or call in it."""

_ours_on_command_line = False
_java = threading.RLock()
"""Held while Java is called for a search. pyjnius keeps the object that a method is called on with the method, one for all threads:
a weight of one thread's query would end up in another's. Locks of Pyserini's servers are taken inside it, never the other way round."""
_names: dict[str, threading.Lock] = {}
"""By encoder's name, held while it is looked up or loaded: once, whoever else asks for it."""
_loading = threading.Lock()
"""Held while any encoder is loaded: transformers changes globals of its own meanwhile, and two at once leave them changed."""


def register() -> None:
    """Do by hand what the .pth hook does at start-up. Safe to call twice, and after Pyserini's import."""
    autoload.install()
    for name in autoload.PATCHED_MODULES:
        if name in sys.modules:
            patch_module(sys.modules[name])


def patch_module(module: ModuleType) -> None:
    """Apply the patch of one loaded module, once.

    A symbol that has moved costs the patch, not the user's program: it is reported on stderr.
    """
    if module.__dict__.get("_csplade_pyserini_patched"):
        return
    missing = missing_symbols(module)
    if missing:
        _say(
            f"this Pyserini is not one we know: {module.__name__} has no {', '.join(missing)}; "
            f"encoders of ours may not work there (CSPLADE_AUTOLOAD=0 switches this package off)"
        )
        return
    module.__dict__["_csplade_pyserini_patched"] = True
    with _one_sentence():
        _PATCHES[module.__name__](module)


@contextmanager
def _one_sentence() -> Iterator[None]:
    """On a command line of Pyserini's or ours, an InputError is one sentence and exit 2, not a traceback."""
    try:
        yield
    except InputError as error:
        if _program().split(".")[0] not in ("pyserini", "csplade_pyserini") or _program().startswith(
            "pyserini.server"
        ):
            raise  # a server answers its client, and goes on
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def missing_symbols(module: ModuleType) -> list[str]:
    """Symbols of GUARDED that the module lacks."""

    def has(symbol: str) -> bool:
        try:
            functools.reduce(getattr, symbol.split("."), module)
        except AttributeError:
            return False
        return True

    return [symbol for symbol in GUARDED.get(module.__name__, ()) if not has(symbol)]


def shared_encoder(name: str, device: str | None = None) -> "SparseEncoder":
    """The encoder of that name, loaded once a process: searchers come and go, an 8B model should not."""
    with _one_sentence():
        bare_name, _ = parse_encoder_name(name)
        if is_card(bare_name):
            name = f"{find_card(bare_name).name}{name.removeprefix(bare_name)}"  # aliases and capitals are one encoder
        with _names.setdefault(name, threading.Lock()):
            return _load_encoder(name, device)


@functools.lru_cache(maxsize=2)
def _load_encoder(name: str, device: str | None) -> "SparseEncoder":
    from csplade_pyserini.model import load_encoder

    with _loading:
        return load_encoder(name, device=device)


# ---------------------------------------------------------------- command lines (module pyserini)


def _adapt_command_line(_: ModuleType) -> None:
    """Pyserini's `python -m` programs read sys.argv after this; their own defaults would lose data."""
    program = _program()
    if program in ("pyserini.search.lucene", "pyserini.search.hybrid"):
        sys.argv[1:] = _imply_impact(sys.argv[1:])
    elif program == "pyserini.encode.query":
        sys.argv[1:] = _keep_impacts(sys.argv[1:])
    elif program == "pyserini.encode":
        encoder, folder = (_option(sys.argv, option) for option in ("--encoder", "--embeddings"))
        if encoder and folder and is_ours(encoder) and "--to-faiss" not in sys.argv:
            _stamp_at_exit(Path(folder), lambda: stamp_collection(encoder, Path(folder)))
    elif program == "pyserini.index.lucene":
        words = [word.replace("--", "-", 1) if word.startswith("--") else word for word in sys.argv]
        collection, index = (_option(words, option) for option in ("-input", "-index"))
        if collection and index:
            _stamp_at_exit(Path(index), lambda: stamp_index(Path(collection), Path(index)))


def _stamp_at_exit(output: Path, write_manifest: Callable[[], str | None]) -> None:
    """Write the manifest of what the program makes, once it has ended well; its own work is done then, so nothing here is an error."""
    before = _files(output)

    def stamp() -> None:
        # A program that refused its arguments has made nothing: what lies there is another's.
        if hasattr(sys, "last_exc") or _files(output) == before:
            return
        try:
            warning = write_manifest()
        except Exception as error:
            warning = f"no manifest was written: {error}"
        if warning:
            _say(warning)

    atexit.register(stamp)


def _files(folder: Path) -> dict[str, tuple[int, int, int]]:
    """By name, what changes when a file of a folder is written again."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {
            entry.name: (status.st_ino, status.st_size, status.st_mtime_ns)
            for entry in entries
            for status in [entry.stat()]
        }


def _imply_impact(argv: list[str]) -> list[str]:
    """`--impact` behind an encoder of ours: without it stock Pyserini would run BM25 and not say so."""
    global _ours_on_command_line
    encoders = _options(argv, "--encoder")  # hybrid search has a dense one as well
    at, name = next(
        ((at, name) for at, name in encoders if is_ours(name) or _is_our_query_file(name)), (-1, "")
    )
    if not name:
        return argv
    _ours_on_command_line = True
    if "--impact" in argv or "--dense" in argv:
        return argv
    _say(f"--encoder {name} implies --impact")
    return [*argv[: at + 1], "--impact", *argv[at + 1 :]]


def _keep_impacts(argv: list[str]) -> list[str]:
    """`--weight-range 1 --quant-range 1`: the vectors are impacts already, quantising twice would spoil them."""
    name = _option(argv, "--encoder")
    if not name or not is_ours(name):
        return argv
    for option in ("--weight-range", "--quant-range"):
        value = _option(argv, option)
        if value not in (None, "1"):
            _say(f"{option} {value} is replaced by 1: vectors of {name} are impacts already")
    # argparse takes the last value of an option that stands twice.
    return [*argv, "--weight-range", "1", "--quant-range", "1"]


def _options(argv: list[str], name: str) -> Iterator[tuple[int, str]]:
    """Where each value of an option ends in argv, and the value: for `--x v` and for `--x=v`."""
    for at, word in enumerate(argv):
        if word == name and at + 1 < len(argv):
            yield at + 1, argv[at + 1]
        elif word.startswith(f"{name}="):
            yield at, word.removeprefix(f"{name}=")


def _option(argv: list[str], name: str) -> str | None:
    """The first value of an option; None where it is not given."""
    return next((value for _, value in _options(argv, name)), None)


def _program() -> str:
    """The module that `python -m` runs; empty where it runs none."""
    words = iter(sys.orig_argv[1:])
    for word in words:
        flags = re.fullmatch(r"-[bBdEiIOPqRsSuvx]*m(.*)", word)
        if flags:
            return flags[1] or next(words, "")
        if word in ("-X", "-W", "--check-hash-based-pycs"):
            next(words, None)  # their values are words of their own
        elif not word.startswith("-") or word == "-c":
            return ""
    return ""


def _is_our_query_file(name: str) -> bool:
    return name.endswith(".jsonl") and Path(f"{name}.manifest.json").is_file()


# ---------------------------------------------------------------- Java (module jnius_config)


def _prepare_jvm(jnius_config: ModuleType) -> None:
    """Find a Java for Pyserini, and keep an option from it that its runtime image would die of.

    Other users of pyjnius are left alone: Java is looked for when Pyserini is being imported, or asks for
    the option that only it asks for.
    """
    from csplade_pyserini.lucene.java import OPTIONAL_MODULE, has_module, prepare_java

    optional = f"--add-modules={OPTIONAL_MODULE}"
    add_options = jnius_config.add_options

    def add_known_options(*options: str) -> None:
        with _one_sentence():
            unknown = optional in options and not has_module(prepare_java(), OPTIONAL_MODULE)
        kept = [option for option in options if not (unknown and option == optional)]
        if kept:
            add_options(*kept)

    jnius_config.add_options = add_known_options  # type: ignore[attr-defined]
    if "pyserini" in sys.modules:
        prepare_java()


# ---------------------------------------------------------------- encoders (module pyserini.encode._base)


def _dispatch_encoders(module: ModuleType) -> None:
    """Any encoder class of Pyserini's, made with a name of ours, is our encoder.

    Which class Pyserini picks for a name does not matter then, nor what else the name contains.
    """
    module.DocumentEncoder.__new__ = _new(_PyseriniDocumentEncoder)
    module.QueryEncoder.__new__ = _new(shared_encoder)


def _new(ours: Callable[[str, str | None], Any]) -> Callable[..., Any]:
    def __new__(cls: type, *args: Any, **kwargs: Any) -> Any:
        given = (*args, *(kwargs.get(key) for key in ("model_name", "model_name_or_path", "encoder_dir")))
        name = next((value for value in given if isinstance(value, str)), None)
        if name is not None and is_ours(name):
            return ours(name, kwargs.get("device"))
        return object.__new__(cls)

    return __new__


class _PyseriniDocumentEncoder:
    """Pyserini's document-encoder interface (`pyserini.encode`) over one of our encoders."""

    def __init__(self, name: str, device: str | None) -> None:
        self._name, self._encoder = name, shared_encoder(name, device)
        self._said_length = False

    def encode(
        self, texts: list[str], titles: list[str] | None = None, max_length: int | None = None, **_: Any
    ) -> list[dict[str, int]]:
        """Vectors of a batch. A document without any term gets the reserved one: Lucene would drop it."""
        wanted = self._encoder.card.document_max_length
        if max_length not in (None, wanted) and not self._said_length:
            self._said_length = True
            _say(
                f"--max-length {max_length} is left out, the card's {wanted} holds; {self._name}:max_length=N changes it"
            )
        pairs = zip(titles, texts, strict=True) if titles is not None else (("", text) for text in texts)
        joined = [" ".join(part for part in pair if part) for pair in pairs]
        return [vector or {self._encoder.empty_term: 1} for vector in self._encoder.encode_documents(joined)]


# ---------------------------------------------------------------- search (module pyserini.search.lucene._impact_searcher)


def _patch_impact_searcher(module: ModuleType) -> None:
    from csplade_pyserini.lucene.matching import MAX_CLAUSES

    searcher = module.LuceneImpactSearcher
    stock_init, stock_choice = searcher.__init__, searcher._init_query_encoder_from_str
    stock_search, stock_batch = searcher.search, searcher.batch_search

    def choose_encoder(query_encoder: str | None) -> Any:
        if query_encoder is not None and is_ours(query_encoder):
            return shared_encoder(query_encoder)
        return stock_choice(query_encoder)

    @functools.wraps(stock_init)
    def init(self: Any, index_dir: str, query_encoder: Any, *args: Any, **kwargs: Any) -> None:
        with _one_sentence():
            of_query = _encoder_of_queries(query_encoder)
            refuse_mismatch(Path(index_dir), of_query or _stock_name(query_encoder))
        stock_init(self, index_dir, query_encoder, *args, **kwargs)
        if of_query is not None:
            module.autoclass("org.apache.lucene.search.IndexSearcher").setMaxClauseCount(MAX_CLAUSES)
            if self.min_idf == 0:
                # Stock keeps `idf > min_idf`: a term of every document would lose its impact in the score.
                self.min_idf = -1

    def with_vectors(self: Any, vectors: dict[str, Any]) -> Any:
        """The searcher, whose `encode` only looks up: other threads may be searching with the one that it was."""
        view = copy.copy(self)
        view.encode = vectors.__getitem__
        return view

    @functools.wraps(stock_search)
    def search(self: Any, q: str, *args: Any, **kwargs: Any) -> Any:
        ours = getattr(self.query_encoder, "encode_queries", None) is not None
        view = with_vectors(self, {q: self.encode(q)}) if ours else self
        with _java:
            return stock_search(view, q, *args, **kwargs)

    @functools.wraps(stock_batch)
    def batch_search(self: Any, queries: list[str], *args: Any, **kwargs: Any) -> Any:
        encode_queries = getattr(self.query_encoder, "encode_queries", None)
        if encode_queries is None:
            with _java:
                return stock_batch(self, queries, *args, **kwargs)
        # --batch-size is the user's word on memory: one padded forward pass, whatever its tokens.
        view = with_vectors(
            self, dict(zip(queries, encode_queries(queries, batch_tokens=sys.maxsize), strict=True))
        )
        with _java:
            return stock_batch(view, queries, *args, **kwargs)

    searcher.__init__ = init
    searcher._init_query_encoder_from_str = staticmethod(choose_encoder)
    searcher.search, searcher.batch_search = search, batch_search


def _encoder_of_queries(query_encoder: Any) -> str | None:
    """The identity of the encoder of ours behind a name, a query file or an encoder object; None: not ours."""
    if not isinstance(query_encoder, str):
        return getattr(query_encoder, "identity", None)
    if is_ours(query_encoder):
        return find_checkpoint(parse_encoder_name(query_encoder)[0]).identity
    return encoder_of(Path(query_encoder)) if _is_our_query_file(query_encoder) else None


def _stock_name(query_encoder: Any) -> str | None:
    """The name of an encoder of Pyserini's; None for an object and for a query file of unknown origin."""
    return query_encoder if isinstance(query_encoder, str) and not os.path.isfile(query_encoder) else None


# ---------------------------------------------------------------- topics (module pyserini.query_iterator)


def _yield_string_qids(module: ModuleType) -> None:
    """With an encoder of ours, qids come as strings: as numbers they never equal a docid in --remove-query."""
    iterator = module.QueryIterator
    stock_iter = iterator.__iter__

    @functools.wraps(stock_iter)
    def iterate(self: Any) -> Any:
        for qid, text in stock_iter(self):
            yield (str(qid) if _ours_on_command_line else qid), text

    iterator.__iter__ = iterate


# ---------------------------------------------------------------- servers (module pyserini.server.backend)


class _WithLocalIndexes(dict[str, Any]):
    """Index descriptions by name that know nothing, but do not raise, about a local index."""

    def __missing__(self, name: str) -> dict[str, Any]:
        return {}


def _serve_local_impact_indexes(module: ModuleType) -> None:
    """The backend looks every impact index up among the prebuilt ones, and dies of a local one (KeyError).

    It also loads whatever encoder a client names (MCP has a field for it): folders and files of the server's are refused. And it
    calls Java from many threads at once: where it serves an index of ours, one at a time.
    """
    backend, index_type = module.SharedSearchBackend, module.INDEX_TYPE
    index_type["impact"] = _WithLocalIndexes(index_type["impact"])
    stock_ensure, stock_store, stock_close = (
        backend._ensure_index,
        backend._doc_store_lucene_searcher,
        backend.close_all,
    )
    stock_search, stock_shard = backend._search_impl, backend._search_single_shard
    stock_fetch = backend._bulk_fetch_and_format_documents

    def impact_index(self: Any, index_name: str) -> Any:
        """What the configuration has of a local impact index; None: there is none of that name."""
        local = self._local_indexes.get(index_name)
        return local if local is not None and local.index_type == "impact" else None

    def serves_ours(self: Any) -> bool:
        encoders = [
            local.encoder or "" for local in self._local_indexes.values() if local.index_type == "impact"
        ]
        return any(is_ours(encoder) or _is_our_query_file(encoder) for encoder in encoders)

    def java(self: Any) -> Any:
        """The lock, where an index of ours is served."""
        return _java if serves_ours(self) else nullcontext()

    def open_config(
        self: Any, index_name: str, ef_search: int | None = None, encoder: str | None = None
    ) -> Any:
        """The index, if it is open as it is asked for; else None."""
        with self._lock_for_index_name(index_name):
            config = self.indexes.get(index_name)
            if config is None or config.searcher is None:
                return None
            return (
                None
                if self._params_require_searcher_rebuild(config, ef_search=ef_search, encoder=encoder)
                else config
            )

    def download(self: Any, index_name: str) -> None:
        """A prebuilt index and that of its texts, before Java is locked: it may take minutes."""
        if not serves_ours(self):
            return  # nobody waits then, and Pyserini does it in its own time
        known = [types[index_name] for types in index_type.values() if index_name in types]
        texts = {index["texts"] for index in known if index.get("texts")} - {index_name}
        for name in (index_name, *texts) if known else ():
            if open_config(self, name) is None:
                with self._lock_for_index_name(name):
                    folder = self.resolve_index_dir(name)
                if folder is None:
                    raise module.IndexNotAvailableError(f"Unable to open index: {name}")

    def check_encoder(self: Any, index_name: str, encoder: str | None) -> str | None:
        """The encoder that a search of a client's is for, in the configuration's own words, so that Pyserini does not open the index again.

        Raises InputError, before Pyserini closes the index for it, where the index has another.
        """
        local = impact_index(self, index_name)
        if encoder and not _may_name(encoder, {local.encoder for local in self._local_indexes.values()}):
            raise InputError(
                f"encoder {encoder!r} is not for clients; wanted the name of a card, or an encoder of this server's configuration"
            )
        if local is None or not (name := encoder or local.encoder):
            return encoder
        refuse_mismatch(Path(local.path), _encoder_of_queries(name) or _stock_name(name))
        if local.encoder and _same_encoder(name, local.encoder):
            return str(local.encoder)
        if local.encoder and _encoder_of_queries(local.encoder) is not None:
            raise InputError(f"{index_name} is searched with {local.encoder}, not with {name}")
        return encoder

    @functools.wraps(stock_ensure)
    def ensure_index(
        self: Any, index_name: str, *, encoder: str | None = None, ef_search: int | None = None, **kwargs: Any
    ) -> Any:
        with _answered(module.BadSearchRequestError):
            local = impact_index(self, index_name)
            if (config := open_config(self, index_name, ef_search, encoder)) is None:
                encoder = check_encoder(self, index_name, encoder)
                download(self, index_name)
                if local is not None and encoder and is_ours(encoder):
                    shared_encoder(encoder)  # may take minutes as well
                with java(self):
                    config = stock_ensure(self, index_name, encoder=encoder, ef_search=ef_search, **kwargs)
        if local is not None and config.index_type == "impact":  # and no prebuilt index of that name
            config.base_index = local.base_index
        return config

    @functools.wraps(stock_store)
    def doc_store(self: Any, start_index_name: str, **kwargs: Any) -> Any:
        local = impact_index(self, start_index_name)
        if local is None:
            return stock_store(self, start_index_name, **kwargs)
        if local.base_index:
            return stock_store(self, local.base_index, **kwargs)
        # No text index named: the impact index itself holds what there is of its documents.
        stores = self.__dict__.setdefault("_csplade_doc_stores", {})
        if local.path not in stores:
            stores[local.path] = module.LuceneSearcher(local.path)
        return stores[local.path]

    @functools.wraps(stock_close)
    def close_all(self: Any) -> None:
        stock_close(self)
        for store in self.__dict__.pop("_csplade_doc_stores", {}).values():
            store.close()

    @functools.wraps(stock_search)
    def search(self: Any, query: Any, index_name: str, *args: Any, **kwargs: Any) -> Any:
        # Impact searchers take the lock themselves, ours once the query is encoded. Sharded searches (Pyserini tells them by these words)
        # work in threads of their own, which would wait for a lock that is held here.
        takes_it_later = impact_index(self, index_name) is not None or (
            "shard" in index_name and "msmarco" in index_name
        )
        with _answered(module.BadSearchRequestError):
            if takes_it_later:
                return stock_search(self, query, index_name, *args, **kwargs)
            download(self, index_name)
            with java(self):
                return stock_search(self, query, index_name, *args, **kwargs)

    @functools.wraps(stock_shard)
    def search_shard(self: Any, shard_name: str, *args: Any, **kwargs: Any) -> Any:
        download(self, shard_name)
        with java(self):
            return stock_shard(self, shard_name, *args, **kwargs)

    @functools.wraps(stock_fetch)
    def fetch(self: Any, docids: list[str], start_index_name: str, **kwargs: Any) -> Any:
        local = impact_index(self, start_index_name)
        if texts := start_index_name if local is None else local.base_index:
            download(self, texts)
        with java(self):
            return stock_fetch(self, docids, start_index_name, **kwargs)

    backend._ensure_index, backend._doc_store_lucene_searcher, backend.close_all = (
        ensure_index,
        doc_store,
        close_all,
    )
    backend._search_impl, backend._search_single_shard = search, search_shard
    backend._bulk_fetch_and_format_documents = fetch


@contextmanager
def _answered(bad_request: type[Exception]) -> Iterator[None]:
    """An InputError, also one that Pyserini has wrapped, is an answer to the client."""
    try:
        yield
    except Exception as error:
        reason: BaseException | None = error
        while reason is not None and not isinstance(reason, InputError):
            reason = reason.__cause__
        if reason is None:
            raise
        raise bad_request(str(reason)) from reason


def _same_encoder(one: str, other: str) -> bool:
    """Whether two names are of one encoder, with the same options."""
    if one == other:
        return True
    if not is_ours(one) or not is_ours(other):
        return False
    return (_encoder_of_queries(one), parse_encoder_name(one)[1]) == (
        _encoder_of_queries(other),
        parse_encoder_name(other)[1],
    )


def _may_name(encoder: str, configured: set[str | None]) -> bool:
    """Whether a server's client may have this encoder: a card, what the owner configured, or one of Pyserini's own by its name."""
    if encoder in configured or is_card(encoder):
        return True
    is_name = is_hub_id(encoder) or re.fullmatch(r"[\w-]+", encoder)
    return bool(is_name) and not os.path.exists(encoder) and not is_ours(encoder)


_PATCHES: dict[str, Callable[[ModuleType], None]] = {
    "jnius_config": _prepare_jvm,
    "pyserini": _adapt_command_line,
    "pyserini.encode._base": _dispatch_encoders,
    "pyserini.query_iterator": _yield_string_qids,
    "pyserini.search.lucene._impact_searcher": _patch_impact_searcher,
    "pyserini.server.backend": _serve_local_impact_indexes,
}


def _say(sentence: str) -> None:
    print(f"csplade_pyserini: {sentence}", file=sys.stderr)
