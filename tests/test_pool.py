"""30,000 pooled MS MARCO passages, not the full corpus, have the pinned scores on TREC DL 2019 and 2020."""

import os
from pathlib import Path

import pytest
from programs import run_python

POOL = Path(__file__).parents[1] / "run_scripts" / "collections" / "msmarco-pool.toml"


@pytest.mark.jvm
@pytest.mark.data
@pytest.mark.skipif(
    os.environ.get("CSPLADE_REPRODUCE_ALL") != "1",
    reason="takes minutes: make reproduce-all, or CSPLADE_REPRODUCE_ALL=1",
)
def test_the_pool_has_the_expected_scores(data_folder, tmp_path):
    """BM25's on it are those that the data's own description gives: nDCG@10 0.463 and 0.462."""
    words = ("--collection", POOL, "--encoder", "csplade-tiny", "--output", tmp_path)
    result = run_python("-m", "csplade_pyserini.reproduce", *words, seconds=1800)
    assert result.returncode == 0, result.stderr
    for system in ("BM25", "csplade-tiny"):
        for topics in ("dl19", "dl20"):
            assert f"{system} on msmarco-pool/{topics}: as expected (measured: " in result.stderr
