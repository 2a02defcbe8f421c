"""Measure how much the .pth hook adds to the start of a Python interpreter.

    python experiments/bench/startup.py [--rounds 40]

The script builds a wheel of this checkout and installs it into its own environment. An editable install would
also time setuptools' finder. Both sides take turns: the interpreter with the hook, and with
CSPLADE_AUTOLOAD=0. The imports of the hook are also timed inside the interpreter (-X importtime).
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

LIMIT_MS = 1.0
REPOSITORY = Path(__file__).resolve().parents[2]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args(argv).rounds
    with tempfile.TemporaryDirectory() as folder:
        python = install(Path(folder))
        times: dict[str, list[float]] = {"1": [], "0": []}
        for _ in range(rounds):
            for autoload, seen in times.items():
                seen.append(start_ms(python, autoload))
        imports = statistics.median(import_ms(python) for _ in range(rounds))
    with_hook = statistics.median(times["1"])
    without = statistics.median(times["0"])
    print(
        f"median of {rounds} starts: {with_hook:.2f} ms with the hook, {without:.2f} ms without: "
        f"{with_hook - without:.2f} ms more, ratio {with_hook / without:.3f}"
    )
    print(f"imports of the hook: {imports:.2f} ms (at most {LIMIT_MS} wanted)")
    return 0


def install(folder: Path) -> Path:
    """Install this checkout's wheel into a new environment, and return its Python."""
    source = folder / "source"
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, source], check=True)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", build], cwd=source, capture_output=True, check=True)
    [wheel] = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "environment"], check=True)
    python = folder / "environment" / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(command, capture_output=True, check=True)
    return python


def start_ms(python: Path, autoload: str) -> float:
    """Return the milliseconds of one interpreter start."""
    start = time.perf_counter()
    subprocess.run([python, "-c", "pass"], env={"CSPLADE_AUTOLOAD": autoload}, check=True)
    return 1000 * (time.perf_counter() - start)


def import_ms(python: Path) -> float:
    """Return the milliseconds that importing the hook takes, its package included."""
    command = [str(python), "-X", "importtime", "-c", "pass"]
    report = subprocess.run(command, env={}, capture_output=True, text=True, check=True).stderr
    line = r"^import time:\s+\d+ \|\s+(\d+) \|\s+csplade_pyserini\.autoload$"
    [microseconds] = re.findall(line, report, re.M)
    return int(microseconds) / 1000


if __name__ == "__main__":
    raise SystemExit(main())
