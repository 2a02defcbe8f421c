"""Pyserini's tables of prebuilt indexes are fetched when they are asked for, and not before."""

import importlib.util
import urllib.error
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
from programs import run_python

from csplade_pyserini.registration import prebuilt, prepare_loader, server

EAGER = """
from urllib.request import urlopen

class Fetched:
    fetches = 0
    def __getitem__(self, name):
        Fetched.fetches += 1
        return {"filename": f"{name}.tar.gz"}

TABLE = Fetched()
ALIASES = {"old-name": TABLE["name"], "older-name": TABLE["name"], "described": {"filename": "here.tar.gz"}}
MORE: dict = {"another-name": TABLE["another"]}
PLAIN = {"a": {"b": 1}}
BOTH = {**PLAIN, "c": 2}
"""
"""A module in the form of Pyserini 2.4.0's, which looks other names up while it is imported."""


def loaded(source: str, folder: Path, *, rewritten: bool) -> dict[str, object]:
    """Names that a module of that source defines, loaded as the hook loads it or as Python does."""
    file = folder / "tables.py"
    if not file.exists():
        file.write_text(source)
    loader = SourceFileLoader(prebuilt.MODULE, str(file))
    if rewritten:
        prepare_loader(prebuilt.MODULE, loader)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(prebuilt.MODULE, loader))
    loader.exec_module(module)
    return vars(module)


def test_other_names_are_looked_up_on_first_use(tmp_path):
    names = loaded(EAGER, tmp_path, rewritten=True)
    assert names["Fetched"].fetches == 0
    aliases = names["ALIASES"]
    assert list(aliases) == ["old-name", "older-name", "described"]
    assert "old-name" in aliases
    assert "unknown" not in aliases
    assert names["Fetched"].fetches == 0
    assert aliases["old-name"] == {"filename": "name.tar.gz"}
    assert names["MORE"]["another-name"] == {"filename": "another.tar.gz"}
    assert {**aliases}["described"] == {"filename": "here.tar.gz"}
    assert aliases.get("unknown") is None
    assert (names["PLAIN"], names["BOTH"]) == ({"a": {"b": 1}}, {"a": {"b": 1}, "c": 2})


def test_the_rewritten_module_leaves_no_bytecode_for_an_interpreter_without_the_hook(tmp_path):
    assert loaded(EAGER, tmp_path, rewritten=True)["Fetched"].fetches == 0
    assert loaded(EAGER, tmp_path, rewritten=False)["Fetched"].fetches == 3
    assert loaded(EAGER, tmp_path, rewritten=True)["Fetched"].fetches == 0


@pytest.mark.parametrize(
    "source",
    [
        "TABLE = {'name': 1}\nALIASES = {'old-name': TABLE['name']}\n",
        "from urllib.request import urlopen\nALIASES = {'old-name': 'name'}\n",
    ],
    ids=["tables-that-are-not-fetched", "aliases-that-are-strings"],
)
def test_a_pyserini_that_looks_nothing_up_runs_as_it_is(source):
    assert prebuilt.look_up_later(source) is None


@pytest.mark.jvm
def test_pyserini_and_its_servers_load_without_a_network():
    program = """
import importlib.util, socket

def refuse(*_, **__):
    raise AssertionError("a host was looked up")

socket.getaddrinfo = refuse
import pyserini.encode, pyserini.index.lucene, pyserini.search.lucene
from pyserini.prebuilt_index_info import IMPACT_INDEX_INFO
if importlib.util.find_spec("faiss"):
    import pyserini.server.backend
print(type(IMPACT_INDEX_INFO).__name__)
"""
    done = run_python("-c", program)
    assert done.returncode == 0, done.stderr[-2000:]


class Unreachable(Mapping):
    """A table that has to be fetched, where there is no network."""

    asked = 0

    def __getitem__(self, *name: str) -> object:
        self.asked += 1
        raise urllib.error.URLError("no network")

    __contains__ = __iter__ = __len__ = __getitem__


@pytest.fixture
def tables(monkeypatch):
    """The tables of two kinds that cannot be fetched, in a server with the local index `mine`."""
    monkeypatch.setattr(server, "_local_names", {"mine"})
    monkeypatch.setattr(server.PrebuiltIndexes, "_unreachable", False)
    return server.PrebuiltIndexes(Unreachable()), server.ImpactIndexes(Unreachable())


def test_a_server_without_a_network_takes_local_indexes_for_what_they_are(tables, capsys):
    dense, impact = tables
    assert "mine" not in dense
    assert impact["mine"] == {}
    assert impact["mine"].get("texts") is None
    assert (dense._stock.asked, impact._stock.asked) == (1, 0)  # one failure is enough for a local index
    assert "other" not in impact
    assert impact._stock.asked == 1  # the network may be there by now
    assert capsys.readouterr().err.count("cannot fetch Pyserini's list of prebuilt indexes") == 1


def test_a_table_that_is_asked_for_is_fetched_or_says_that_it_cannot_be(tables):
    dense, impact = tables
    for table in tables:
        with pytest.raises(urllib.error.URLError):
            list(table)
    with pytest.raises(urllib.error.URLError):
        dense["mine"]
    with pytest.raises(urllib.error.URLError):
        impact["theirs"]


def test_prebuilt_indexes_are_described_as_pyserini_does(monkeypatch):
    monkeypatch.setattr(server, "_local_names", {"mine", "both"})
    table = server.ImpactIndexes({"theirs": {"texts": "t"}, "both": {"texts": "u"}})
    assert (table["theirs"], table["both"], table["mine"]) == ({"texts": "t"}, {"texts": "u"}, {})
    assert list(table) == ["theirs", "both"]
    with pytest.raises(KeyError):
        table["unknown"]
