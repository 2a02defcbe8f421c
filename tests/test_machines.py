"""Machines that lack something: a home folder, docstrings, a Unicode terminal, a stdout, a device."""

import ast
import io
import json
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from programs import SAMPLE, new_python, run_python

import csplade_pyserini
from csplade_pyserini import command_line, optimized
from csplade_pyserini.cards import find_checkpoint, is_ours, weight_folders
from csplade_pyserini.collections.corpus import load_ir_dataset
from csplade_pyserini.command_line import VERBS
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.stamps import file_hash
from csplade_pyserini.model import backbone
from csplade_pyserini.model.encoder import _device

PACKAGE = Path(csplade_pyserini.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
CARDS = ("-m", "csplade_pyserini.cards")


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command in which $PYTHON is this Python."""
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"PYTHON": sys.executable} | environment,
    )  # fmt: skip


# Verbs


def test_the_bare_package_lists_every_verb_with_a_line():
    done = new_python("-m", "csplade_pyserini")
    assert (done.returncode, done.stderr) == (0, "")
    listed = [line.split(maxsplit=1) for line in done.stdout.splitlines()[2:]]
    assert [tuple(line) for line in listed] == list(VERBS.items())


def test_every_program_of_the_package_is_a_listed_verb():
    programs = {
        ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__main__")
        for file in FILES
        if "run(main)" in file.read_text(encoding="utf-8")
    }
    assert programs - {"__main__"} == set(VERBS)


def test_no_module_hides_what_the_package_exports():
    """An import of `package.name` sets the package's attribute `name`, in place of the function."""
    modules = {module.name for module in pkgutil.iter_modules(csplade_pyserini.__path__)}
    assert not modules.intersection(csplade_pyserini.__all__)


def test_a_verb_runs_behind_the_package_and_an_unknown_one_is_wrong_use():
    behind = new_python("-m", "csplade_pyserini", "cards", "--encoder", "csplade-tiny")
    assert behind.returncode == 0
    assert behind.stdout == new_python(*CARDS, "--encoder", "csplade-tiny").stdout
    unknown = new_python("-m", "csplade_pyserini", "encod")
    assert unknown.returncode == 2
    assert unknown.stderr == f"error: unknown verb 'encod'; known: {', '.join(VERBS)}\n"
    assert new_python("-m", "csplade_pyserini", "index", "--no-such-flag").returncode == 2


# No docstrings


def test_every_verbs_help_says_what_it_does_without_docstrings():
    program = """
import contextlib, importlib, io
from csplade_pyserini.command_line import VERBS
assert not importlib.import_module("csplade_pyserini.command_line").__doc__
for verb, purpose in VERBS.items():
    module = importlib.import_module("csplade_pyserini." + verb.replace("cards", "cards.__main__"))
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        module.parse_args(["--help"])
    print(" ".join(purpose.split()) in " ".join(out.getvalue().split()))
"""
    done = new_python("-OO", "-c", program)
    assert done.stdout.splitlines() == ["True"] * len(VERBS), done.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_code_needs_docstrings_or_assertions(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}"
        assert not (isinstance(node, ast.Attribute) and node.attr == "__doc__"), f"line {node.lineno}"
        assert not (isinstance(node, ast.Name) and node.id == "__doc__"), f"line {node.lineno}"


def test_transformers_makes_no_docstrings_where_there_are_none(monkeypatch):
    import transformers.utils

    stock = transformers.utils.auto_docstring
    optimized.make_no_docstrings()
    assert transformers.utils.auto_docstring is stock
    monkeypatch.setattr(transformers.utils, "auto_docstring", stock)  # so that it is put back
    monkeypatch.setattr(optimized, "REMOVES_DOCSTRINGS", sys.flags.optimize)
    optimized.make_no_docstrings()

    @transformers.utils.auto_docstring
    def plain() -> int:
        return 1

    @transformers.utils.auto_docstring(custom_intro="words")
    def with_words() -> int:
        return 2

    assert (plain(), with_words(), plain.__doc__) == (1, 2, None)


# No home folder


@pytest.fixture
def _homeless(monkeypatch):
    """A user whom the system does not know, without HOME and CSPLADE_HOME."""
    for name in ("HOME", "CSPLADE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", unknown)


@pytest.mark.usefixtures("_homeless")
def test_without_a_home_folder_encoders_are_found_that_need_none():
    with pytest.raises(RuntimeError):
        Path.home()
    assert find_checkpoint("csplade-tiny").folder.name == "csplade-tiny"
    assert not is_ours("naver/splade-v3")
    with pytest.raises(InputError, match=r"no weights here: .* there is no home folder and no CSPLADE_HOME"):
        find_checkpoint("csplade-8b")
    with pytest.raises(
        InputError, match=r"no home folder to keep a converted base in; set CSPLADE_HOME to a"
    ):
        backbone._folder_of_bases()


@pytest.mark.usefixtures("_homeless")
def test_without_a_home_folder_a_data_set_says_what_is_missing(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "ir_datasets"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(InputError, match="ir_datasets wants a home folder .*: set HOME to a folder"):
        load_ir_dataset("ir_datasets:vaswani")


@pytest.mark.usefixtures("_homeless")
def test_csplade_home_stands_in_for_a_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("CSPLADE_HOME", str(tmp_path))
    assert backbone._folder_of_bases() == tmp_path / "bases"
    [home, _] = weight_folders(find_checkpoint("csplade-tiny").stored_card)
    assert home == tmp_path / "encoders" / "csplade-tiny"


@pytest.fixture
def unknown_user() -> str:
    """Words before a command that run it as a user without a name and a home folder."""
    unknown = "unshare --map-user=12345 --map-group=12345 env -u HOME -u CSPLADE_HOME"
    if shutil.which("unshare") is None or shell(f"{unknown} true").returncode:
        pytest.skip("this machine lets nobody make a user namespace, by unshare")
    return unknown


def test_a_verb_works_for_an_unknown_user(unknown_user):
    done = shell(f"{unknown_user} $PYTHON -m csplade_pyserini.cards")
    assert done.returncode == 0, done.stderr
    assert "csplade-tiny" in done.stdout


@pytest.mark.jvm
@pytest.mark.parametrize("optimised", ["", "-OO"])
def test_a_stock_search_works_for_an_unknown_user_and_without_docstrings(
    optimised, unknown_user, sample_index, tmp_path
):
    words = f"--index {sample_index} --topics {SAMPLE / 'topics.tsv'} --encoder csplade-tiny-lookup"
    done = shell(
        f"{unknown_user} $PYTHON {optimised} -m pyserini.search.lucene {words} --output {tmp_path / 'run'}"
    )
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "run").read_text().splitlines()) > 1000


def test_a_home_that_cannot_be_written_is_named_with_what_to_do(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", Path("/proc/none")):
        monkeypatch.setenv("CSPLADE_HOME", str(place))
        (tmp_path / "base.gguf").write_bytes(b"GGUF")
        with pytest.raises(
            InputError, match=r"cannot be kept in \S+/bases \(.+\); set CSPLADE_HOME to a folder"
        ):
            backbone._converted(str(tmp_path), "base.gguf")


def test_a_converted_base_is_read_from_a_home_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "base.gguf").write_bytes(b"GGUF")
    done = tmp_path / "bases" / f"base-{file_hash(tmp_path / 'base.gguf')[:16]}"
    done.mkdir(parents=True)
    (done / "model.safetensors").touch()
    monkeypatch.setenv("CSPLADE_HOME", str(tmp_path))
    monkeypatch.setattr(backbone, "_check_writable", lambda _: pytest.fail("it was written to"))
    assert backbone._converted(str(tmp_path), "base.gguf") == str(done)


# Devices


@pytest.mark.parametrize(
    "name", ["mps", "xpu", "meta", "hpu", "vulkan", "cuda:99", "nonsense", "cuda:", "cpu:-1", "0", " ", "CPU"]
)
def test_a_device_that_torch_cannot_use_is_one_sentence(name):
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("there is one here")
    with pytest.raises(InputError, match=rf"device is '{name}'[;,] (wanted|but torch) ") as error:
        _device(name)
    assert "\n" not in str(error.value)


def test_a_device_that_torch_can_use_is_taken():
    assert _device("cpu").type == "cpu"
    assert _device(None).type in ("cpu", "cuda")


def test_a_missing_device_ends_a_verb_and_pyserinis_command_with_a_sentence(tmp_path):
    (tmp_path / "topics.tsv").write_text("1\ta query\n")
    words = (
        "--topics",
        "topics.tsv",
        "--output",
        "out.jsonl",
        "--encoder",
        "csplade-tiny",
        "--device",
        "meta",
    )
    for program in ("csplade_pyserini.encode_queries", "pyserini.encode.query"):
        done = run_python("-m", program, *words, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert done.stderr.splitlines()[-1].startswith(
            "error: device is 'meta', but torch cannot use it here ("
        )
        assert "Traceback" not in done.stderr


# Streams


def test_what_an_ascii_terminal_cannot_show_is_escaped_as_json(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", errors="strict"))
    command_line._mend_streams()
    text = "Ġheart é 心 \U0001f600 \udcff"
    print(json.dumps({"text": text}, ensure_ascii=False), flush=True)
    assert json.loads(raw.getvalue().decode("ascii")) == {"text": text}


@pytest.mark.parametrize("utf8", ["0", "1"])
def test_a_program_on_an_ascii_terminal_ends_well_or_in_a_sentence(utf8, tmp_path):
    ascii_only = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": utf8}
    program = (
        "from csplade_pyserini.command_line import run\n"
        "from csplade_pyserini.files.whole import whole_file\n"
        "from pathlib import Path\n"
        "def main(_):\n"
        r"    print('\u0120')"
        "\n"
        f"    with whole_file(Path({str(tmp_path / 'out.txt')!r})) as file:\n"
        r"        file.write('\u0120')"
        "\n"
        "    return 0\n"
        "run(main)\n"
    )
    done = new_python("-c", program, **ascii_only)
    assert (done.returncode, done.stdout) == (0, "\\u0120\n"), done.stderr
    assert (tmp_path / "out.txt").read_bytes() == "Ġ".encode()
    named = new_python(*CARDS, "--encoder", "é", **ascii_only)
    assert named.returncode == 2
    assert "Traceback" not in named.stderr
    assert ("export PYTHONUTF8=1" in named.stderr) is (utf8 == "0")


def test_a_reader_that_leaves_and_a_stdout_that_is_closed_are_no_errors():
    for command in ("$PYTHON -m csplade_pyserini.cards | true", "$PYTHON -m csplade_pyserini.cards >&-"):
        done = shell(f"{{ {command}; }}; echo $? >&2")
        assert done.stderr.splitlines() == ["0"], command


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a disk that is full")
def test_a_stdout_that_takes_nothing_is_a_sentence():
    done = shell("$PYTHON -m csplade_pyserini.cards >/dev/full")
    assert (done.returncode, done.stderr) == (2, "error: No space left on device; the same command resumes\n")


def test_talk_does_not_land_in_the_data_or_in_files_where_streams_are_closed(tmp_path):
    program = (
        "import sys, subprocess\n"
        "from csplade_pyserini.command_line import run\n"
        "def main(_):\n"
        f"    with open({str(tmp_path / 'data.txt')!r}, 'w') as file:\n"
        "        file.write('data')\n"
        "        file.flush()\n"
        "        print('talk', file=sys.stderr)\n"
        "        subprocess.run([sys.executable, '-S', '-c', 'print(1)'])\n"
        "    return 0\n"
        "run(main)\n"
    )
    (tmp_path / "program.py").write_text(program)
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        done = shell(f"$PYTHON {tmp_path}/program.py {closed}")
        assert done.returncode == 0
        assert "talk" not in done.stdout
        assert (tmp_path / "data.txt").read_text() == "data", closed
