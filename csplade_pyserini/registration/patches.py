"""Declaring patches of Pyserini, and applying them to a module that has just loaded.

@replaces("module", "Class.method")   a function that takes the stock one first, then its arguments
@after_loading("module")              a function that takes the module
relies_on("module", "Class.method")   symbols that patches call and do not replace
@rewrites("module")                   a function that takes the module's source, before it loads
"""

import ast
import functools
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from csplade_pyserini.registration.programs import one_sentence, say

Function = Callable[..., Any]

GUARDED: dict[str, list[str]] = {}
"""Every symbol of Pyserini that is patched or called, by module. A test fails, naming it, when one moves."""
_REPLACEMENTS: dict[str, dict[str, Function]] = {}
_AFTER_LOADING: dict[str, list[Callable[[ModuleType], None]]] = {}
_REWRITES: dict[str, Callable[[str], ast.Module | None]] = {}
_MARK = "_csplade_pyserini_patched"


def replaces(module: str, symbol: str) -> Callable[[Function], Function]:
    """Declare a function that stands in for `symbol` of a module; it takes the stock function first."""
    relies_on(module, symbol)

    def declare(ours: Function) -> Function:
        _REPLACEMENTS.setdefault(module, {})[symbol] = ours
        return ours

    return declare


def after_loading(module: str) -> Callable[[Function], Function]:
    """Declare a function to call with a module once it has loaded."""
    relies_on(module)

    def declare(ours: Function) -> Function:
        _AFTER_LOADING.setdefault(module, []).append(ours)
        return ours

    return declare


def rewrites(module: str) -> Callable[[Function], Function]:
    """Declare a function that makes what a module runs of its source; None: it runs as it is."""

    def declare(ours: Function) -> Function:
        _REWRITES[module] = ours
        return ours

    return declare


def relies_on(module: str, *symbols: str) -> None:
    """Declare symbols of a module that patches need."""
    GUARDED.setdefault(module, []).extend(symbols)


def patched_modules() -> set[str]:
    """Names of the modules with patches."""
    return set(_REPLACEMENTS) | set(_AFTER_LOADING) | set(_REWRITES)


def prepare_loader(name: str, loader: Any) -> None:
    """Have a module's loader run the module as we rewrite it. Bytecode files are neither read nor written."""
    rewrite = _REWRITES.get(name)
    if rewrite is None:
        return
    stock = loader.get_code

    def get_code(name: str) -> Any:
        source = loader.get_source(name)
        tree = rewrite(source) if source else None
        if tree is None:
            return stock(name)
        return compile(tree, loader.get_filename(name), "exec")

    loader.get_code = get_code


def patch_module(module: ModuleType, *, anew: bool = False) -> None:
    """Apply the patches of one loaded module, once.

    anew: the module has just been loaded, perhaps for the second time.
    A symbol that has moved costs the patches, not the user's program: it is reported on stderr.
    """
    if module.__dict__.get(_MARK) and not anew:
        return
    name = module.__name__
    missing = missing_symbols(module)
    if missing:
        say(
            f"this Pyserini is not one we know: {name} has no {', '.join(missing)}; "
            f"encoders of ours may not work there (CSPLADE_AUTOLOAD=0 switches this package off)"
        )
        return
    module.__dict__[_MARK] = True
    with one_sentence():
        for symbol, ours in _REPLACEMENTS.get(name, {}).items():
            _replace(module, symbol, ours)
        for adapt in _AFTER_LOADING.get(name, []):
            adapt(module)


def missing_symbols(module: ModuleType) -> list[str]:
    """Symbols of GUARDED that a module lacks."""
    return [symbol for symbol in GUARDED.get(module.__name__, []) if not _has(module, symbol)]


def _has(module: ModuleType, symbol: str) -> bool:
    try:
        functools.reduce(getattr, symbol.split("."), module)
    except AttributeError:
        return False
    return True


def _replace(module: ModuleType, symbol: str, ours: Function) -> None:
    *owners, name = symbol.split(".")
    owner: Any = functools.reduce(getattr, owners, module)
    stock = getattr(owner, name)

    @functools.wraps(stock)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        return ours(stock, *args, **kwargs)

    # A class method that was looked up has its class already.
    is_static = isinstance(inspect.getattr_static(owner, name), staticmethod | classmethod)
    setattr(owner, name, staticmethod(replacement) if is_static else replacement)
