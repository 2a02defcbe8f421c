"""The tests that skip without CUDA."""

import importlib.util
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from gpu_parts.record import ERROR, SKIPPED, Record
from gpu_parts.scale import Scale

ROOT = Path(__file__).resolve().parents[2]
FILES = ("tests/test_cuda.py", "tests/model/test_attention.py")
"""All test files that look for CUDA. tests/test_gpu.py compares this with the files themselves."""


def run(scale: Scale, folder: Path, record: Record) -> None:
    """Run them in one process of pytest."""
    if importlib.util.find_spec("pytest") is None:
        record.add("pytest", **{SKIPPED: "pytest is not installed"})
        return
    record.measure(("pytest",), run_pytest, folder / "tests.xml")


def run_pytest(report: Path) -> dict[str, Any]:
    """Counts, and the text of each failure and skip. Warnings of other library versions fail no test."""
    import pytest

    report.parent.mkdir(parents=True, exist_ok=True)
    options = ("-q", "-p", "no:cacheprovider", "-o", "filterwarnings=default", f"--junit-xml={report}")
    code = int(pytest.main([f"--rootdir={ROOT}", *options, *(str(ROOT / file) for file in FILES)]))
    found = outcomes(report)
    if code and not found["failures"]:
        found[ERROR] = f"pytest ended with exit code {code}"
    return found


def outcomes(report: Path) -> dict[str, Any]:
    """Read a JUnit file. A failure is an error of the part."""
    found: dict[str, Any] = {"passed": 0, "failures": {}, "skips": {}}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        bad = next((case.find(kind) for kind in ("failure", "error") if case.find(kind) is not None), None)
        skip = case.find("skipped")
        if bad is not None:
            found["failures"][name] = f"{bad.get('message')}\n{(bad.text or '')[-2000:]}"
        elif skip is not None:
            reason = str(skip.get("message"))
            found["skips"][reason] = found["skips"].get(reason, 0) + 1
        else:
            found["passed"] += 1
    if found["failures"]:
        found[ERROR] = f"{len(found['failures'])} tests failed"
    return found
