"""Python programs, run as a user runs them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

SAMPLE = Path(importlib.util.find_spec("csplade_pyserini").origin).parent / "sample"


def run_python(*words: object, cwd: Path | None = None, seconds: float = 600, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python WORDS...` with this interpreter, offline, and return what it printed."""
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd, env=os.environ | offline | environment, capture_output=True, text=True, check=False, timeout=seconds,
    )  # fmt: skip
