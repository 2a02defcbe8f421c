"""What the .pth hook adds to the start of a Python interpreter.

    python run_scripts/bench/startup.py [--rounds 40]

Both sides alternate in one call: the interpreter with the hook, and with CSPLADE_AUTOLOAD=0. Both run the .pth line
itself; its two imports are timed apart, inside the interpreter (-X importtime).
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time

LIMIT_MS = 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {"1": [], "0": []}
    for _ in range(rounds):
        for autoload, seen in times.items():
            seen.append(start_ms(autoload))
    with_hook, without = (statistics.median(times[autoload]) for autoload in ("1", "0"))
    imports = statistics.median(import_ms() for _ in range(rounds))
    print(f"median of {rounds} starts: {with_hook:.2f} ms with the hook, {without:.2f} ms without (ratio {with_hook / without:.3f})")
    print(f"imports of the hook alone: {imports:.3f} ms (at most {LIMIT_MS} wanted)")
    return 0 if imports <= LIMIT_MS else 1


def start_ms(autoload: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], env=os.environ | {"CSPLADE_AUTOLOAD": autoload}, check=True)
    return 1000 * (time.perf_counter() - start)


def import_ms() -> float:
    """Milliseconds of the modules of ours that a bare interpreter imports, with all that they import."""
    command = [sys.executable, "-X", "importtime", "-c", "pass"]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    own = re.findall(r"^import time:\s+\d+ \|\s+(\d+) \|\s+csplade_pyserini\S*$", report, re.M)
    if not own:
        raise SystemExit("the hook is not installed in this environment")
    return sum(map(int, own)) / 1000


if __name__ == "__main__":
    raise SystemExit(main())
