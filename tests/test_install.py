"""The hook comes with the package, leaves with it, can be switched off, and never stops an interpreter."""

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from programs import run_python

REPOSITORY = Path(__file__).resolve().parents[1]
PARTS = (
    "setup.py", "setup.cfg", "pyproject.toml", "csplade_pyserini.pth", "MANIFEST.in", "README.md", "LICENSE",
    "csplade_pyserini", "encoders",
)  # fmt: skip
IS_HOOKED = "import sys; print(any(type(finder).__name__ == 'PatchingFinder' for finder in sys.meta_path))"
HOOK = "csplade_pyserini.pth"

pytestmark = pytest.mark.skipif(
    not (REPOSITORY / "setup.py").is_file(), reason="needs the repository's setup.py"
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of what is built from, so that a build leaves nothing in the repository."""
    folder = tmp_path_factory.mktemp("checkout")
    for part in PARTS:
        source = REPOSITORY / part
        shutil.copytree(source, folder / part) if source.is_dir() else shutil.copy(source, folder / part)
    return folder


@pytest.fixture(scope="module")
def build(checkout, tmp_path_factory):
    """build("wheel"), build("editable") or build("sdist"): the file that pip installs or unpacks."""

    def make(kind: str) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        program = f"from setuptools import build_meta; build_meta.build_{kind}({str(folder)!r})"
        result = run_python("-W", "ignore", "-c", program, cwd=checkout)
        assert result.returncode == 0, result.stderr
        [made] = folder.iterdir()
        return made

    return make


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """The Python of an empty virtual environment."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder / "bin" / "python"


def ask(python: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *words],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", **variables},
    )


def test_the_wheel_carries_hook_cards_weights_and_sample_and_no_tests(build):
    names = set(zipfile.ZipFile(build("wheel")).namelist())
    assert HOOK in names
    for name in (
        "encoders/csplade-8b.toml", "encoders/csplade-tiny.toml", "encoders/csplade-tiny/model.safetensors",
        "encoders/csplade-tiny/lookup.safetensors",
        "encoders/csplade-tiny/tokenizer.json", "sample/corpus.jsonl", "sample/topics.tsv",
        "sample/qrels.txt", "py.typed",
        "reproduction/expected/measured.toml", "reproduction/catalogue.toml",
    ):  # fmt: skip
        assert f"csplade_pyserini/{name}" in names
    assert not [
        name for name in names if "tests/" in name or "/test_" in name or name.endswith((".pyc", ".log"))
    ]


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_installing_hooks_in_and_uninstalling_leaves_nothing(build, environment, kind):
    assert ask(environment, "-c", IS_HOOKED).stdout == "False\n"
    installed = ask(environment, "-m", "pip", "install", "--no-deps", "--no-index", str(build(kind)))
    assert installed.returncode == 0, installed.stderr
    [site] = environment.parents[1].glob("lib/python*/site-packages")
    assert (site / HOOK).is_file()
    assert ask(environment, "-c", IS_HOOKED).stdout == "True\n"
    assert ask(environment, "-c", IS_HOOKED, CSPLADE_AUTOLOAD="0").stdout == "False\n"
    assert ask(environment, "-m", "pip", "uninstall", "--yes", "csplade_pyserini").returncode == 0
    assert not list(site.glob("*csplade*"))
    assert ask(environment, "-c", IS_HOOKED).stdout == "False\n"


@pytest.mark.jvm
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_what_is_released_installs_in_an_empty_environment_and_proves_itself(build, tmp_path, kind):
    """Dependencies are those of this environment, by path: its installation of the package is not seen."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "empty"], check=True)
    python = tmp_path / "empty" / "bin" / "python"
    [site] = (tmp_path / "empty").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    words = (
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--force-reinstall",
        str(build(kind)),
    )
    installed = ask(python, *words)
    assert installed.returncode == 0, installed.stderr
    proved = ask(
        python, "-m", "csplade_pyserini.doctor", HF_HUB_OFFLINE="1", CSPLADE_HOME=str(tmp_path / "home")
    )
    assert proved.returncode == 0, proved.stdout + proved.stderr[-2000:]
    assert f"at {site / 'csplade_pyserini' / 'encoders' / 'csplade-tiny'}" in proved.stdout
    assert "scores are the inner products" in proved.stdout


@pytest.mark.parametrize("broken", ["", "raise RuntimeError('broken')", "syntax error("])
def test_a_broken_package_never_stops_an_interpreter(environment, broken):
    [site] = environment.parents[1].glob("lib/python*/site-packages")
    shutil.copy(REPOSITORY / HOOK, site / HOOK)
    package = site / "csplade_pyserini"
    try:
        if broken:
            package.mkdir()
            (package / "__init__.py").write_text(broken)
        result = ask(environment, "-c", "print('alive')")
        assert (result.returncode, result.stdout, result.stderr) == (0, "alive\n", "")
    finally:
        (site / HOOK).unlink()
        shutil.rmtree(package, ignore_errors=True)


def test_importing_the_package_loads_nothing_heavy():
    heavy = ("torch", "transformers", "pyserini", "jnius", "peft", "typing")
    program = f"import sys, csplade_pyserini; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
