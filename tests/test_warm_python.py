"""A fork of the warm interpreter runs a program as a new interpreter does; all other tests rely on it."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import SET_BY_LIBRARIES, new_python, run_program, run_python, shim, start_python, start_server
from warm_client import READ_LATE

SEEN = """
import atexit, json, os, sys
atexit.register(print, "at exit", flush=True)
print(json.dumps({
    "argv": sys.argv,
    "original": sys.orig_argv[1:],
    "path": sys.path,
    "folder": os.getcwd(),
    "environment": {key: os.environ[key] for key in os.environ if key not in ("_", "SHLVL", "PWD", "OLDPWD")},
    "executable": sys.executable,
    "names": [__name__, sys.modules["__main__"].__dict__.get("__file__"), getattr(__spec__, "name", None)],
    "input": sys.stdin.read(),
    "flags": list(sys.flags),
    "ours": [name for name in sys.modules if name.startswith(("csplade_pyserini", "pyserini", "jnius"))],
    "hooked": sum(type(finder).__name__ == "PatchingFinder" for finder in sys.meta_path),
}), flush=True)
print("talk", file=sys.stderr)
"""
needs_server = pytest.mark.skipif(
    "CSPLADE_WARM_PYTHON" not in os.environ, reason="needs Linux, not CSPLADE_COLD=1"
)


def told(done: subprocess.CompletedProcess[str]) -> tuple[int, dict, str, str]:
    """Exit code, what the program saw, what it printed behind that, and the last line of its talk."""
    first, _, rest = done.stdout.partition("\n")
    return done.returncode, json.loads(first), rest, done.stderr.splitlines()[-1]


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "seen.py").write_text(SEEN)
    (tmp_path / "failing.py").write_text(f"{SEEN}\nraise SystemExit('no')")
    (tmp_path / "broken.py").write_text(f"{SEEN}\n1 / 0")
    return tmp_path


@needs_server
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("-m", "seen", "--flag", "a b"), 0),
        (("-c", SEEN, "x"), 0),
        (("seen.py", "x"), 0),
        (("-c", f"{SEEN}\nsys.exit(3)"), 3),
        (("-m", "failing"), 1),
        (("-m", "broken"), 1),
        (("-W", "error", "-m", "seen"), 0),
    ],
    ids=["module", "code", "file", "exit code", "message", "exception", "option"],
)
def test_a_fork_sees_and_returns_what_a_new_interpreter_does(folder, words, code):
    variables = {"CSPLADE_HOME": str(folder), "PATH": "/usr/bin"}
    fork, new = (told(run(*words, cwd=folder, **variables)) for run in (run_python, new_python))
    assert fork[0] == new[0] == code
    assert fork == new


@needs_server
def test_the_shim_runs_a_command_of_a_shell_in_the_same_way(folder):
    environment = shim(folder)
    command = (
        "cd / && CSPLADE_HOME=there python {}/seen.py 'a  b' < {}/failing.py | cat; exit ${{PIPESTATUS[0]}}"
    )
    words = ("bash", "-c", command.format(folder, folder))
    without = environment | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    shimmed, plain = (told(run_program(*words, **variables)) for variables in (environment, without))
    assert shimmed[1].pop("executable") == str(folder / "bin" / "python"), "its own commands are forks too"
    assert plain[1].pop("executable") == sys.executable
    for _, seen, _, _ in (shimmed, plain):
        del seen["environment"]["PATH"]
    assert shimmed == plain
    assert shimmed[1]["input"] == (folder / "failing.py").read_text()


@needs_server
def test_a_variable_that_libraries_read_while_they_load_gets_a_new_interpreter():
    program = "import sys; print('torch' in sys.modules)"
    assert start_server()
    assert run_python("-c", program).stdout == "True\n"
    assert run_python("-c", program, HF_HOME="/elsewhere").stdout == "False\n"
    assert run_python("-c", program, CSPLADE_AUTOLOAD="0").stdout == "False\n"


LIBRARIES_OF_TESTS = ("mteb", "pymilvus", "pyserini.encode", "qdrant_client", "ray")
"""Those that import most of the others; mteb imports sentence-transformers."""


def test_libraries_that_tests_import_leave_no_variable_that_a_program_sees():
    """Otherwise every program behind such a test has a new interpreter: the suite took twice as long."""
    program = (
        "import contextlib, importlib, json, os; before = dict(os.environ)\n"
        f"for name in {LIBRARIES_OF_TESTS!r}:\n"
        "    with contextlib.suppress(ImportError): importlib.import_module(name)\n"
        "print(json.dumps([name for name in os.environ if os.environ[name] != before.get(name)]))"
    )
    done = new_python("-W", "ignore", "-c", program)
    changed = json.loads(done.stdout.splitlines()[-1])
    assert "RAY_CLIENT_MODE" in changed or not importlib.util.find_spec("ray")
    kept = [name for name in changed if not SET_BY_LIBRARIES.fullmatch(name)]
    assert not [name for name in kept if not READ_LATE.fullmatch(name)]


@needs_server
def test_what_a_program_leaves_is_not_there_for_the_next_one():
    start = "import os, sys, torch; "
    spoilt = start + "torch.set_num_threads(7); os.environ['X'] = '1'; os.chdir('/'); sys.path.clear()"
    asks = start + "print(torch.get_num_threads(), 'X' in os.environ, os.getcwd(), len(sys.path) > 1)"
    before = run_python("-c", asks).stdout
    assert run_python("-c", spoilt).returncode == 0
    assert run_python("-c", asks).stdout == before


@needs_server
def test_a_program_that_takes_too_long_is_killed_and_a_signal_is_its_exit_code(tmp_path):
    mark = tmp_path / "pid"
    program = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(subprocess.TimeoutExpired):
        run_python("-c", program, seconds=2)
    deadline = time.monotonic() + 30
    while is_running(int(mark.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(int(mark.read_text()))
    process = start_python("-c", program)
    assert process.poll() is None
    process.kill()
    assert process.wait(timeout=30) == -9


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    status = Path(f"/proc/{pid}/status")
    return status.is_file() and "State:\tZ" not in status.read_text()
