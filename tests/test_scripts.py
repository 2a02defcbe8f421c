"""The scripts under run_scripts import what is there; most run too long for a test."""

from pathlib import Path

import pytest
from programs import run_python

SCRIPTS = Path(__file__).parents[1] / "run_scripts"
LOAD = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
for script in sys.argv[2:]:
    runpy.run_path(script, run_name="loaded")
"""


@pytest.mark.parametrize(
    "folder", [SCRIPTS, SCRIPTS / "bench", SCRIPTS / "train"], ids=lambda folder: folder.name
)
def test_every_script_loads(folder):
    scripts = sorted(map(str, folder.glob("*.py")))
    assert scripts
    result = run_python("-c", LOAD, folder, *scripts)
    assert result.returncode == 0, result.stderr
