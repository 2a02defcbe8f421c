"""Programs, run as a user runs them, and the Java they find."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(importlib.util.find_spec("csplade_pyserini").origin).parent / "sample"


def run_python(
    *words: object, cwd: Path | None = None, seconds: float = 600, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `python WORDS...` with this interpreter, offline, and return what it printed."""
    return run_program(sys.executable, *words, cwd=cwd, seconds=seconds, **environment)


def run_program(
    *words: object, cwd: Path | None = None, seconds: float = 600, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program, offline, and return what it printed."""
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.run(
        [*map(str, words)],
        cwd=cwd, env=os.environ | offline | environment, capture_output=True, text=True, check=False, timeout=seconds,
    )  # fmt: skip


def fake_java(home: Path, version: str, modules: str = "java.base") -> Path:
    """A folder that looks like a Java of that version."""
    (home / "bin").mkdir(parents=True)
    command = home / "bin" / "java"
    command.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    command.chmod(0o755)
    (home / "release").write_text(f'JAVA_VERSION="{version}"\nMODULES="{modules}"\n')
    return home


def shown_by_browser(page: Path, profile: Path) -> str:
    """The page's elements after a browser has loaded it and run what it runs; skips without a browser."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("install chromium or google-chrome to run this")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={profile}",
        "--dump-dom",
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
