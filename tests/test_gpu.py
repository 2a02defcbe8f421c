"""experiments/gpu.sh --toy: every part of the GPU run, on a CPU, and the rows for the pages."""

import json
import math
import re
import sys
from pathlib import Path

import pytest
from programs import run_program, run_python

ROOT = Path(__file__).parents[1]
PARTS = ["tests", "encode", "head", "quantization", "training", "equal-runs", "back-off"]
BARE = """
import sys
for missing in ("pyserini", "jnius", "jnius_config", "ir_datasets", "torchao", "bitsandbytes"):
    sys.modules[missing] = None
sys.argv = ["gpu.py", "--toy", "--help"]
sys.path.insert(0, sys.argv.pop(0) and {folder!r})
import gpu
loaded = [name for name in sys.modules if name.startswith("csplade_pyserini.lucene")]
assert not loaded, loaded
import torch
assert not torch.cuda.is_initialized()
"""


@pytest.fixture(scope="module")
def report_file(tmp_path_factory) -> Path:
    """The file of a toy run."""
    file = tmp_path_factory.mktemp("gpu") / "gpu.json"
    words = ("bash", ROOT / "experiments" / "gpu.sh", "--toy", "--output", file)
    done = run_program(*words, PYTHON=sys.executable, OMP_NUM_THREADS="1", seconds=900)
    assert done.returncode == 0, done.stderr[-3000:] + file.read_text()[-3000:]
    assert done.stdout == "", "stdout is for data"
    return file


@pytest.fixture(scope="module")
def report(report_file) -> dict:
    return json.loads(report_file.read_text())


@pytest.fixture(scope="module")
def results(report) -> dict:
    return {name: part["results"] for name, part in report["parts"].items()}


def leaves(values, keys=()):
    """(keys, value) of everything that is no table."""
    if not isinstance(values, dict):
        yield keys, values
        return
    for key, value in values.items():
        yield from leaves(value, (*keys, key))


def test_every_part_is_there_and_none_failed(report):
    assert list(report["parts"]) == PARTS
    for name, part in report["parts"].items():
        assert part["state"] == "done", (name, part)
        assert part["seconds"] > 0
    skipped = {keys: value for keys, value in leaves(report["parts"]) if keys[-1] == "skipped"}
    reasons = r"no CUDA|does not run here: (torchao|bitsandbytes) is not installed"
    assert all(re.match(reasons, reason) for reason in skipped.values()), skipped
    numbers = [value for _, value in leaves(report["parts"]) if isinstance(value, float)]
    assert all(map(math.isfinite, numbers))


def test_it_says_what_was_measured_on_what(report):
    assert report["toy"] is True
    assert report["command"].startswith("bash experiments/gpu.sh --toy")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", report["date"])
    assert {"python", "torch", "transformers", "peft", "accelerate"} <= report["versions"].keys()
    assert report["device"]["name"] == "CPU"


def test_tests_that_need_cuda_skip_with_that_reason(results):
    found = results["tests"]["pytest"]
    assert not found["failures"]
    assert found["skips"]["needs a CUDA device"] > 50


def test_all_test_files_that_look_for_cuda_run():
    looking = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "tests").rglob("test_*.py")
        if re.search(r"skipif\([^\n]*(\n[^\n]*){0,2}cuda\.is_available", file.read_text())
    }
    listed = re.search(
        r"FILES = \((.*?)\)", (ROOT / "experiments" / "gpu_parts" / "tests.py").read_text(), re.S
    )
    assert looking == set(re.findall(r'"(.*?)"', listed.group(1)))


def test_every_side_encodes_every_passage(results):
    [(shape, found)] = results["encode"].items()
    assert shape == "toy"
    assert found["sides"].keys() == {"ours", "plain", "authors"}
    assert all(side["passages_per_second"] > 0 for side in found["sides"].values())
    assert found["times_as_fast"]["ours"] == 1
    assert found["share_of_matrix_peak"] > 0


def test_both_heads_are_measured(results):
    assert {"naive", "streamed"} == results["head"]["inference"]["float32"].keys()
    assert results["head"]["training"]["float32"].keys() == {"frozen head", "trained head"}
    assert len(results["head"]["slices"]) == 3


def test_every_quantization_has_a_number_or_a_reason(results):
    methods = results["quantization"]["toy"]["methods"]
    assert methods.keys() == {"float32", "int8", "int4", "int8-dynamic", "bnb-int8", "bnb-nf4"}
    assert all("model_bytes" in method or "skipped" in method for method in methods.values())
    assert methods["float32"]["model_bytes"] > max(row.get("model_bytes", 0) for row in methods.values()) - 1


def test_training_has_speed_and_losses(results):
    found = results["training"]["run"]
    assert found["steps"] == 12
    assert found["steps_per_second"] > 0
    assert found["tokens_per_second"] > 0
    assert len(found["losses"]) == 12
    assert found["last_log_line"]["empty_documents"] == 0


def test_resumed_and_distributed_runs_have_the_losses_of_a_plain_one(results):
    runs = results["equal-runs"]
    for name in ("resumed", "ddp"):
        assert len(runs[name]["losses"]) == len(runs["plain"]["losses"]) == 4
        assert runs[name]["largest_difference"] < 1e-5
    assert runs["ddp"]["files"] == runs["plain"]["files"]


def test_vectors_are_the_same_after_the_back_off(results):
    [found] = results["back-off"].values()
    assert found["limit"].startswith("injected: torch.OutOfMemoryError"), "the file says that it is simulated"
    assert found["budget_at_end"] < found["budget"] < found["tokens"]
    assert found["equal_vectors"] == 1
    assert found["largest_impact_difference"] == 0
    assert found["terms_per_text"] > 50


def test_the_rows_of_the_pages(report_file, results):
    done = run_python(ROOT / "tools" / "gpu_rows.py", report_file)
    assert done.returncode == 0, done.stderr
    pages = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", done.stdout, re.S | re.M))
    assert list(pages) == ["docs/speed.md", "docs/training.md", "docs/efficiency.md", "Errors"]
    assert done.stdout.startswith("TOY SHAPES, no measurement. CPU; python")
    assert pages["Errors"].strip() == "None."
    assert (
        f"| {results['encode']['toy']['times_as_fast']['authors']:.2f} | `bash experiments/gpu.sh` |"
        in done.stdout
    )
    assert "| plain |" in pages["docs/training.md"]
    assert "| float32 | " in pages["docs/efficiency.md"]
    for line in done.stdout.splitlines():
        assert "has not run" not in line
    for block in re.findall(r"(?:^\|.*\n)+", done.stdout, re.M):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block


def test_a_run_that_was_cut_short_has_rows_too(report_file, tmp_path):
    """Each part stops after its first number, and one before it."""
    table = json.loads(report_file.read_text())
    for part in table["parts"].values():
        part["results"] = dict(list(part["results"].items())[:1])
    table["parts"]["quantization"] = {"state": "failed", "results": {}, "error": "stopped after 9 s"}
    del table["parts"]["back-off"]
    file = tmp_path / "gpu.json"
    file.write_text(json.dumps(table))
    done = run_python(ROOT / "tools" / "gpu_rows.py", file)
    assert done.returncode == 0, done.stderr
    assert "- quantization: has not run" in done.stdout
    assert "- back-off: has not run" in done.stdout
    assert "- quantization: stopped after 9 s" in done.stdout


def test_it_goes_on_with_the_parts_that_have_not_run(report_file, tmp_path):
    table = json.loads(report_file.read_text())
    del table["parts"]["head"]
    copy = tmp_path / "gpu.json"
    copy.write_text(json.dumps(table))
    words = ("bash", ROOT / "experiments" / "gpu.sh", "--toy", "--output", copy)
    done = run_program(*words, PYTHON=sys.executable, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stderr.splitlines() if " s" in line][-1] == ["head", "done"]
    again = json.loads(copy.read_text())
    assert again["parts"]["encode"] == table["parts"]["encode"]
    assert again["parts"]["head"]["state"] == "done"


def test_it_imports_without_pyserini_java_and_quantization(tmp_path):
    program = BARE.format(folder=str(ROOT / "experiments"))
    done = run_python("-c", program, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr


def test_without_cuda_the_real_run_says_so_and_ends(tmp_path):
    words = ("bash", ROOT / "experiments" / "gpu.sh", "--output", tmp_path / "gpu.json")
    done = run_program(*words, PYTHON=sys.executable, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert "torch finds no CUDA device here; --toy runs on a CPU" in done.stderr
    assert json.loads((tmp_path / "gpu.json").read_text())["parts"] == {}


def test_the_shapes_of_a_real_run_are_those_of_real_models(monkeypatch):
    """The toy run never loads them; a GPU's time is too dear to find a wrong name."""
    for folder in ("experiments", "experiments/bench"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    from encode import SHAPES
    from gpu_parts.scale import GPU, TOY

    for scale in (GPU, TOY):
        assert {*scale.shapes, scale.training_shape} <= set(SHAPES)
    assert {SHAPES[name]["vocab_size"] for name in GPU.shapes} == {128_256}
