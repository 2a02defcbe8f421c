"""Check what a run needs: Java, Pyserini, torch and its devices, the hook, the cards and their weights.

python -m csplade_pyserini.doctor
"""

import argparse
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence

from csplade_pyserini.autoload import PatchingFinder
from csplade_pyserini.cards import find_checkpoint, shipped_cards
from csplade_pyserini.command_line import run
from csplade_pyserini.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    argparse.ArgumentParser(prog="python -m csplade_pyserini.doctor", description=__doc__.splitlines()[0]).parse_args(argv)
    failures = 0
    for name, check in CHECKS.items():
        try:
            print(f"ok    {name}: {check()}")
        except Exception as error:  # whatever is wrong with a part is this part's finding
            failures += 1
            print(f"FAIL  {name}: {error}")
    return 1 if failures else 0


def check_python() -> str:
    return f"{sys.version.split()[0]} at {sys.executable}"


def check_java() -> str:
    from csplade_pyserini.lucene.java import prepare_java

    return str(prepare_java())


def check_pyserini() -> str:
    """Does it import, and are the symbols in it that we patch? Its servers and hybrid search need faiss."""
    from csplade_pyserini.registration import GUARDED, missing_symbols

    version, without = importlib.metadata.version("pyserini"), ""
    for name in GUARDED:
        try:
            missing = missing_symbols(importlib.import_module(name))
        except ModuleNotFoundError as error:
            if error.name != "faiss":
                raise
            without = " (no servers and no hybrid search: pip install faiss-cpu)"
            continue
        if missing:
            raise InputError(f"{version} has no {', '.join(missing)} in {name}; see constraints.txt for one that we know")
    return version + without


def check_torch() -> str:
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{torch.__version__}, {', '.join(devices) or f'no CUDA device, {torch.get_num_threads()} CPU threads'}"


def check_transformers() -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("transformers", "peft", "ir_datasets", "pyjnius"))


def check_hook() -> str:
    if any(isinstance(finder, PatchingFinder) for finder in sys.meta_path):
        found = importlib.metadata.files("csplade_pyserini") or []
        if os.environ.get("CSPLADE_AUTOLOAD") == "0" or not any(file.name == "csplade_pyserini.pth" for file in found):
            raise InputError("off; Python programs have to call csplade_pyserini.register(), `python -m pyserini...` cannot")
        return "csplade_pyserini.pth is in place"
    raise InputError("not installed; run: pip install csplade_pyserini")


def check_encoders() -> str:
    """Our cards parse, and the encoder that ships is there; others may be missing."""
    here = []
    for name in shipped_cards():
        try:
            if find_checkpoint(name).folder is not None:
                here.append(name)
        except InputError:
            continue
    find_checkpoint("csplade-tiny")
    return f"{len(shipped_cards())} cards; weights here: {', '.join(here)}"


CHECKS: dict[str, Callable[[], str]] = {
    "Python": check_python,
    "Java": check_java,
    "Pyserini": check_pyserini,
    "torch": check_torch,
    "libraries": check_transformers,
    "hook": check_hook,
    "encoders": check_encoders,
}

if __name__ == "__main__":
    run(main)
