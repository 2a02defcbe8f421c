"""What the .pth hook adds to the start of a Python interpreter, in a normal install of this checkout.

    python run_scripts/bench/startup.py [--rounds 40]

A wheel is built and put into an environment of its own (an editable install would time setuptools' finder as
well). Both sides alternate in one call: the interpreter with the hook, and with CSPLADE_AUTOLOAD=0. The imports of
the hook are timed apart, inside the interpreter (-X importtime).
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_MS = 1.0
REPOSITORY = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        python = install(Path(folder))
        times: dict[str, list[float]] = {"1": [], "0": []}
        for _ in range(rounds):
            for autoload, seen in times.items():
                seen.append(start_ms(python, autoload))
        imports = statistics.median(import_ms(python) for _ in range(rounds))
    with_hook, without = (statistics.median(times[autoload]) for autoload in ("1", "0"))
    print(
        f"median of {rounds} starts: {with_hook:.2f} ms with the hook, {without:.2f} ms without: "
        f"{with_hook - without:.2f} ms more, ratio {with_hook / without:.3f}"
    )
    print(f"imports of the hook: {imports:.2f} ms (at most {LIMIT_MS} wanted)")
    return 0 if imports <= LIMIT_MS else 1


def install(folder: Path) -> Path:
    """The Python of a new environment with this checkout's wheel in it."""
    source = folder / "source"
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, source], check=True)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", build], cwd=source, capture_output=True, check=True)
    [wheel] = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "environment"], check=True)
    python = folder / "environment" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel],
        capture_output=True,
        check=True,
    )
    return python


def start_ms(python: Path, autoload: str) -> float:
    start = time.perf_counter()
    subprocess.run([python, "-c", "pass"], env={"CSPLADE_AUTOLOAD": autoload}, check=True)
    return 1000 * (time.perf_counter() - start)


def import_ms(python: Path) -> float:
    """Milliseconds of importing the hook with all that it imports, its package included."""
    command = [python, "-X", "importtime", "-c", "pass"]
    report = subprocess.run(command, env={}, capture_output=True, text=True, check=True).stderr
    [microseconds] = re.findall(
        r"^import time:\s+\d+ \|\s+(\d+) \|\s+csplade_pyserini\.autoload$", report, re.M
    )
    return int(microseconds) / 1000


if __name__ == "__main__":
    raise SystemExit(main())
