"""Programs, run as a user runs them, and the Java they find."""

import importlib.util
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
import warm_client
from filelock import FileLock

SAMPLE = Path(importlib.util.find_spec("csplade_pyserini").origin).parent / "sample"


OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
SET_BY_LIBRARIES = re.compile(
    r"KMP_\w+|OPENBLAS_NUM_THREADS|RAY_CLIENT_MODE|TORCHINDUCTOR_CACHE_DIR|_RJEM_MALLOC_CONF"
)
"""Variables that libraries set while the tests import them; no program is given them."""


_servers: list[subprocess.Popen[bytes]] = []
"""The warm interpreter, if this process started it: a Popen object that goes before its process warns."""


class Fork:
    """A program that runs in a fork of the warm interpreter, with what is used of subprocess.Popen."""

    def __init__(
        self,
        words: list[str],
        *,
        cwd: Path | None,
        environment: dict[str, str],
        stdout: int,
        stderr: int,
        new_group: bool = False,
    ):
        with open(os.devnull) as nothing:
            streams = [nothing.fileno(), stdout, stderr]
            self._connection = warm_client.send(
                words, str(cwd or Path.cwd()), environment, streams, new_group=new_group
            )
        self._answer = self._connection.makefile("r")
        self.pid = int(self._answer.readline())
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. Raises TimeoutExpired."""
        if self.returncode is None:
            ready, _, _ = select.select([self._connection], [], [], timeout)
            if not ready:
                raise subprocess.TimeoutExpired("a fork", timeout)
            self.returncode = int(self._answer.readline())
            self._answer.close()
            self._connection.close()
        return self.returncode

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(timeout=0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.send_signal(signal.SIGKILL)


def run_python(
    *words: object, cwd: Path | None = None, seconds: float = 600, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `python WORDS...`, offline, and return what it printed: in a fork where a fork does the same.

    The fork comes from an interpreter that has imported torch, transformers and other libraries. It is a
    process of its own: no program leaves anything for the next one. `new_python` is how a user runs it.
    """
    command = [*map(str, words)]
    full_environment = environment_of_programs(**environment)
    if not start_server() or not warm_client.is_same_in_fork(command, full_environment):
        return new_python(*words, cwd=cwd, seconds=seconds, **environment)
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        fork = Fork(command, cwd=cwd, environment=full_environment, stdout=out.fileno(), stderr=err.fileno())
        try:
            code = fork.wait(seconds)
        except BaseException:
            fork.kill()
            fork.wait()
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), err.read())


def start_python(
    *words: object, log: Path | None = None, new_group: bool = False
) -> "Fork | subprocess.Popen[bytes]":
    """Start `python WORDS...`, offline, and let it run: in a fork where a fork does the same."""
    command = [*map(str, words)]
    environment = environment_of_programs()
    with open(log or os.devnull, "w") as output:
        if start_server() and warm_client.is_same_in_fork(command, environment):
            number = output.fileno()
            return Fork(
                command, cwd=None, environment=environment, stdout=number, stderr=number, new_group=new_group
            )
        return subprocess.Popen(
            [sys.executable, *command],
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=new_group,
        )


def new_python(
    *words: object, cwd: Path | None = None, seconds: float = 600, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `python WORDS...` in a new interpreter, as a user does, offline, and return what it printed."""
    return run_program(sys.executable, *words, cwd=cwd, seconds=seconds, **environment)


def environment_of_programs(**changes: str) -> dict[str, str]:
    """The variables of a program: those of the user, offline, and what a test changes."""
    users = {name: value for name, value in os.environ.items() if not SET_BY_LIBRARIES.fullmatch(name)}
    return users | OFFLINE | changes


def start_server() -> bool:
    """Start the warm interpreter, once for all of xdist's workers. False where there is none to start."""
    address = os.environ.get(warm_client.SERVER)
    if address is None:
        return False
    with FileLock(f"{address}.lock"):
        if Path(address).exists():
            return True
        environment = environment_of_programs()
        Path(f"{address}.environment").write_text(json.dumps(environment), encoding="utf-8")
        log = Path(f"{address}.log")
        owner = os.environ["CSPLADE_TESTS_OWNER"]
        with log.open("w") as output:
            server = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("warm_python.py"), address, owner],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
            )
        _servers.append(server)
        while not Path(address).exists():
            assert server.poll() is None, log.read_text()
            time.sleep(0.05)
    return True


def shim(folder: Path) -> dict[str, str]:
    """An environment whose `python` is a fork where a fork does the same, else a new interpreter."""
    found = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    if not start_server():
        return found
    command = folder / "bin" / "python"
    command.parent.mkdir(exist_ok=True)
    folder_of_client = str(Path(__file__).parent)
    program = f"sys.path.insert(0, {folder_of_client!r})\nimport warm_client\nwarm_client.main()"
    command.write_text(f"#!{sys.executable} -ISB\nimport sys\n{program}\n")
    command.chmod(0o755)
    return {"PATH": f"{command.parent}:{found['PATH']}", "CSPLADE_NEW_PYTHON": sys.executable}


def run_program(
    *words: object, cwd: Path | None = None, seconds: float = 600, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program, offline, and return what it printed."""
    return subprocess.run(
        [*map(str, words)],
        cwd=cwd,
        env=environment_of_programs(**environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


def fake_java(home: Path, version: str, modules: str = "java.base") -> Path:
    """A folder that looks like a Java of that version."""
    (home / "bin").mkdir(parents=True)
    command = home / "bin" / "java"
    command.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    command.chmod(0o755)
    (home / "release").write_text(f'JAVA_VERSION="{version}"\nMODULES="{modules}"\n')
    (home / "lib" / "server").mkdir(parents=True)
    (home / "lib" / "server" / "libjvm.so").touch()
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


PREBUILT_LISTS = """
import io, json, urllib.request
names = ("msmarco-v1-passage.unicoil", "msmarco-v2-passage.unicoil-0shot")
record = dict(description="", filename="", urls=[], md5="", size=0)
urllib.request.urlopen = lambda *_, **__: io.StringIO(json.dumps([record | dict(name=n) for n in names]))
"""
"""Start of a program without the hook: Pyserini 2.4.0 fetches these lists while it is imported."""
