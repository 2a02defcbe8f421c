"""Patches are declared once: the hook's list, the guard and the patches come from the same declarations."""

import types

import pytest

from csplade_pyserini.autoload import PATCHED_MODULES
from csplade_pyserini.registration import GUARDED, patched_modules, patches, searcher


def test_the_hooks_literal_list_is_the_modules_that_have_patches():
    assert patched_modules() == PATCHED_MODULES


def test_every_patched_module_is_guarded():
    assert set(GUARDED) >= PATCHED_MODULES
    assert all(len(set(symbols)) == len(symbols) for symbols in GUARDED.values())


@pytest.fixture
def declared(monkeypatch):
    """Tables of declarations that a test may fill."""
    for table in ("GUARDED", "_REPLACEMENTS", "_AFTER_LOADING"):
        monkeypatch.setattr(patches, table, {})


def stock_module() -> types.ModuleType:
    class Thing:
        def method(self, number: int) -> int:
            """Stock's own words."""
            return number

        @staticmethod
        def static(number: int) -> int:
            return number

    module = types.ModuleType("stock_module")
    module.Thing = Thing
    module.function = lambda number: number
    return module


@pytest.mark.usefixtures("declared")
def test_a_replacement_takes_the_stock_function_first():
    for symbol in ("Thing.method", "Thing.static", "function"):

        @patches.replaces("stock_module", symbol)
        def doubled(stock, *args):
            return 2 * stock(*args)

    loaded = []
    patches.after_loading("stock_module")(loaded.append)
    module = stock_module()
    patches.patch_module(module)
    patches.patch_module(module)  # once is enough
    assert (module.Thing().method(3), module.Thing.static(3), module.Thing().static(3)) == (6, 6, 6)
    assert module.function(3) == 6
    assert module.Thing.method.__doc__ == "Stock's own words."
    assert loaded == [module]


@pytest.mark.usefixtures("declared")
def test_a_moved_symbol_costs_the_patches_of_its_module_and_is_named(capsys):
    patches.replaces("stock_module", "Thing.method")(lambda stock, *args: 0)
    patches.relies_on("stock_module", "Thing.gone", "function")
    module = stock_module()
    patches.patch_module(module)
    assert module.Thing().method(3) == 3
    assert "stock_module has no Thing.gone; encoders of ours may not work there" in capsys.readouterr().err


@pytest.mark.usefixtures("declared")
def test_a_module_that_is_loaded_again_is_patched_again():
    patches.replaces("stock_module", "Thing.method")(lambda stock, *args: 2 * stock(*args))
    module = stock_module()
    patches.patch_module(module, anew=True)
    vars(module)["Thing"] = stock_module().Thing  # as importlib.reload leaves the module's names
    patches.patch_module(module, anew=True)
    assert module.Thing().method(3) == 6


def test_a_patch_is_tested_alone():
    """The stock function is an argument: nothing of Pyserini's has to be there."""
    calls = []

    def stock(self, query):
        calls.append(query)
        return "vector"

    assert searcher.encode(stock, object(), "words") == "vector"
    assert calls == ["words"]
