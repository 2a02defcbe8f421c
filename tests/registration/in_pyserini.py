"""Use Pyserini in one process of Python, and write as JSON what came of it.

Run by test_in_pyserini.py in a fork: `in_pyserini.py INDEX TEXTS TOPICS FOLDER`.
"""

import contextlib
import cProfile
import importlib
import io
import json
import os
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

INDEX, TEXTS, TOPICS, FOLDER = sys.argv[1:5]
PROGRAM = "pyserini.search.lucene"
OUTPUT = ("--output", f"{FOLDER}/run.txt")
QUERY = "heart attack symptoms"


def run_module(*words: str) -> None:
    sys.argv = list(words)
    runpy.run_module(words[0], run_name="__main__")


def profile(*words: str) -> None:
    sys.argv = ["cProfile", "-o", os.devnull, "-m", *words]
    cProfile.main()


def execute(*words: str) -> None:
    """Run a module's code, as trace does, and other programs that watch it line by line."""
    sys.argv = list(words)
    _, spec, code = runpy._get_module_details(words[0])  # type: ignore[attr-defined]
    exec(code, {"__name__": "__main__", "__file__": spec.origin, "__package__": spec.parent})


LAUNCHERS: dict[str, Callable[..., None]] = {
    "runpy": run_module,
    "__main__": lambda first, *words: run_module(f"{first}.__main__", *words),
    "cProfile": profile,
    "trace": execute,
}


def launched(launch: Callable[..., None], program: str, *words: str) -> dict[str, Any]:
    """Run a program, and tell its error output, and what it wrote into `run.txt`."""
    output = Path(FOLDER, "run.txt")
    output.unlink(missing_ok=True)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            launch(program, *words)
        except SystemExit as error:
            errors.write(f"exit {error.code}\n")
    found: dict[str, Any] = {"errors": errors.getvalue()}
    if output.exists():
        found["run"] = output.read_text()
    return found


def search(launch: Callable[..., None], *words: str) -> dict[str, Any]:
    return launched(launch, PROGRAM, "--index", INDEX, "--topics", TOPICS, "--hits", "3", *OUTPUT, *words)


def launchers() -> dict[str, Any]:
    """A search by BM25, one without an encoder and one with ours, by each launcher."""
    return {
        name: {
            "bm25": search(launch, "--bm25"),
            "none": search(launch),
            "ours": search(launch, "--encoder", "csplade-tiny"),
        }
        for name, launch in LAUNCHERS.items()
    }


def command_lines() -> dict[str, Any]:
    """Searches that name an encoder in other ways."""
    os.chdir(FOLDER)
    Path("csplade-tiny").write_text("a file of the encoder's name\n")
    Path("other").mkdir(exist_ok=True)
    texts = ("--index", TEXTS)  # argparse takes the last value
    found = {
        "beside a file": search(run_module, "--encoder", "csplade-tiny"),
        "twice": search(run_module, "--encoder", "naver/splade-v3", "--encoder=csplade-tiny"),
        "mistyped": search(run_module, "--encoder", "csplade-tinny", *texts),
        "mistyped impact": search(run_module, "--impact", "--encoder", "csplade-tinny:device=cpu", *texts),
        "foreign": search(run_module, "--encoder", "someone/offline"),
        "onnx": search(run_module, "--onnx-encoder", "csplade-tiny", *texts),
        "dense": search(run_module, "--dense", "--flat", "--encoder", "csplade-tiny"),
        "another index": search(run_module, "--encoder", "someone/offline", *texts),
    }
    for option in ("--qld", "--bm25qs", "--k1=1.2", "--b=0.4"):
        found[option] = search(run_module, option)
    found["impact"] = search(run_module, "--impact")
    Path("terms.tsv").write_text("1\t" + "heart " * 90 + "attack " * 80 + "\n", encoding="utf-8")
    found["terms"] = search(run_module, "--impact", "--topics", "terms.tsv")
    copy = shutil.copytree(INDEX, Path(FOLDER, "copy", "index"))
    found["copy"] = search(run_module, "--index", str(copy))
    found["copy by bm25"] = search(run_module, "--index", str(copy), "--bm25")
    found["copy by another"] = search(
        run_module, "--index", str(copy), "--encoder", "naver/splade-v3", "--impact"
    )
    found["texts"] = search(run_module, *texts)
    os.environ["CSPLADE_ALLOW_MISMATCH"] = "1"
    found["meant"] = search(run_module)
    del os.environ["CSPLADE_ALLOW_MISMATCH"]
    for name, words in {
        "abbreviated": ("--enc", "csplade-tiny", "--weight-r", "5", "--quant", "256"),
        "given twice": ("--encoder", "csplade-tiny", "--weight-range", "1", "--weight-range", "5"),
    }.items():
        found[name] = launched(run_module, "pyserini.encode.query", "--topics", TOPICS, *OUTPUT, *words)
    corpus = Path(FOLDER, "corpus.jsonl")
    corpus.write_text('{"id": "1", "contents": "a text"}\n')
    words = ("input", "--corpus", str(corpus), "encoder", "--encoder", "csplade-tiny", "output", "--to-f")
    found["to faiss"] = launched(run_module, "pyserini.encode", *words, "--embeddings", "litter")
    found["litter"] = Path("litter").exists()
    words = ("input", "--corpus", str(corpus), "encoder", "--encoder", "csplade-tiny", "output")
    found["encoded"] = launched(profile, "pyserini.encode", *words, "--emb", "vectors")
    words = ("--collection", "JsonVectorCollection", "--input", f"{FOLDER}/vectors")
    words += ("--index", f"{FOLDER}/built")  # Java stays in the folder where it was started
    words += ("--generator", "DefaultLuceneDocumentGenerator", "--threads", "1", "--impact", "--pretokenized")
    launched(profile, "pyserini.index.lucene", *words)
    for output in ("vectors", "built"):
        found[f"encoder of {output}"] = json.loads(Path(f"{output}.manifest.json").read_text())["encoder"]
    return found


def refused(call: Callable[[], Any]) -> str:
    """The error of a call, as `Type: text`."""
    try:
        return f"no error, but {call()!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def bm25_in_python() -> dict[str, Any]:
    """Searches by Pyserini's classes on an index of ours, and what else they do with it."""
    from pyserini.fusion import FusionMethod
    from pyserini.search.lucene import LuceneFusionSearcher, LuceneSearcher

    link = Path(FOLDER, "link")
    link.symlink_to(INDEX)
    searcher = LuceneSearcher(INDEX)
    found = {
        "search": refused(lambda: searcher.search("heart")),
        "fields": refused(lambda: searcher.search("heart", fields={"contents": 1.0})),
        "search_raw": refused(lambda: searcher.search_raw("heart")),
        "batch_search": refused(lambda: searcher.batch_search(["heart"], ["1"])),
        "Java": refused(lambda: searcher.object.search("heart", 3)),
        "fusion": refused(lambda: LuceneFusionSearcher([INDEX, TEXTS], FusionMethod.RRF).search("heart")),
        "a link": refused(lambda: LuceneSearcher(str(link)).search("heart")),
        "a slash": refused(lambda: LuceneSearcher(f"{INDEX}/").search("heart")),
        "docid": searcher.doc(0).docid(),
        "other index": len(LuceneSearcher(TEXTS).search("heart")),
    }
    os.environ["CSPLADE_ALLOW_MISMATCH"] = "1"
    found["meant"] = refused(lambda: searcher.search("a"))
    del os.environ["CSPLADE_ALLOW_MISMATCH"]
    return found


def encoders() -> dict[str, Any]:
    """Encoders of users' own classes, and objects that look like ours."""
    from pyserini.encode import AutoQueryEncoder, DocumentEncoder, QueryEncoder, SpladeQueryEncoder
    from pyserini.search.lucene import LuceneImpactSearcher

    from csplade_pyserini import load_encoder

    ours = load_encoder("csplade-tiny")
    vector = ours.encode(QUERY)

    class Logged(QueryEncoder):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    class Mixin:
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            made = super().__new__(cls)
            made.mixed = True
            return made

    class Mixed(Mixin, SpladeQueryEncoder):
        pass

    class Table(QueryEncoder, dict):  # type: ignore[type-arg]
        pass

    class Halved(SpladeQueryEncoder):
        def encode(self, text: str, **kwargs: Any) -> Any:
            return {term: (impact + 1) // 2 for term, impact in super().encode(text).items()}

    class Lookalike:
        identity = "mine"

        def encode_queries(self) -> None:
            """Take no argument."""

        def encode(self, query: str) -> Any:
            return ours.encode(query)

    class Doubling(LuceneImpactSearcher):
        calls = 0

        def encode(self, query: str) -> Any:
            self.calls += 1
            return {term: 2 * impact for term, impact in super().encode(query).items()}

    def scores(encoder: Any, searcher_class: Any = LuceneImpactSearcher) -> list[list[float]]:
        return scores_of(searcher_class(INDEX, encoder))

    def scores_of(searcher: Any) -> list[list[float]]:
        batch = searcher.batch_search([QUERY, QUERY], ["1", "2"], k=3)
        return [[hit.score for hit in hits] for hits in (searcher.search(QUERY, 3), batch["1"], batch["2"])]

    auto = AutoQueryEncoder("csplade-tiny", device="cpu")
    mocked = mock.MagicMock(spec=ours)
    mocked.encode.side_effect = ours.encode
    doubling = Doubling(INDEX, "csplade-tiny")
    doubling.batch_search([QUERY, "solar panels"], ["1", "2"])
    return {
        "init": vars(Logged("csplade-tiny")).get("name"),
        "mixin": Mixed("csplade-tiny").mixed and Mixed("csplade-tiny").encode(QUERY) == vector,
        "dict": len(Table()),
        "junk": refused(lambda: DocumentEncoder("junk")),
        "mistyped": refused(lambda: SpladeQueryEncoder("csplade-tinny")),
        "mistyped searcher": refused(lambda: LuceneImpactSearcher(INDEX, "csplade-tinny")),
        "isinstance": isinstance(auto, QueryEncoder) and isinstance(auto, AutoQueryEncoder),
        "encode": auto.encode(QUERY) == vector,
        "index's own": scores_of(LuceneImpactSearcher(INDEX)),
        "none": refused(lambda: LuceneImpactSearcher(TEXTS)),
        "terms": type(LuceneImpactSearcher(INDEX, None).query_encoder).__name__,
        "min_idf": [LuceneImpactSearcher(INDEX, encoder).min_idf for encoder in (auto, Lookalike(), mocked)],
        "ours": scores(ours),
        "auto": scores(auto),
        "halved": scores(Halved("csplade-tiny")),
        "lookalike": scores(Lookalike()),
        "mocked": scores(mocked),
        "doubled": scores("csplade-tiny", Doubling),
        "calls": doubling.calls,
    }


def reloaded() -> dict[str, Any]:
    """Modules that are loaded again have their patches again."""
    import pyserini.encode._base as base
    import pyserini.search.lucene._impact_searcher as impact
    import pyserini.search.lucene._searcher as bm25

    for module in (base, impact, bm25):
        importlib.reload(module)
    return {
        "impact": type(impact.LuceneImpactSearcher(INDEX, "csplade-tiny").query_encoder).__name__,
        "bm25": refused(lambda: bm25.LuceneSearcher(INDEX).search("heart")),
        "encoder": len(base.QueryEncoder("csplade-tiny").encode(QUERY)),
    }


LOOKS = (bm25_in_python, encoders, command_lines, launchers, reloaded)

if __name__ == "__main__":
    findings: dict[str, Any] = {}
    for look in LOOKS:
        findings[look.__name__] = look()
    Path(FOLDER, "findings.json").write_text(json.dumps(findings))
