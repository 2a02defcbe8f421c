"""The inputs of csplade-tiny's recipe are those that its model card names."""

import hashlib
import re
from pathlib import Path

from programs import run_python

ROOT = Path(__file__).parents[2]
PREPARE = ROOT / "run_scripts" / "train" / "data" / "prepare.py"
CARD = ROOT / "encoders" / "csplade-tiny" / "README.md"


def test_the_texts_are_those_of_the_model_card(data_folder: Path, tmp_path: Path) -> None:
    named = dict(re.findall(r"^\| `data/(\w+\.jsonl)` \| `([0-9a-f]{64})` \|$", CARD.read_text(), re.M))
    assert set(named) == {"passages.jsonl", "queries.jsonl", "pairs.jsonl"}
    done = run_python(PREPARE, "collect", "--data", data_folder, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    found = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in named}
    assert found == named
