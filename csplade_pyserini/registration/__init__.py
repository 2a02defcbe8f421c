"""Patches of Pyserini, applied to its modules right after they load. No other folder changes Pyserini.

Pyserini has no plugin mechanism: every path picks an encoder class by a substring of its name, and
`csplade-8b` contains `splade`. Each module here declares its patches with `@replaces` and `@after_loading`;
GUARDED is made of these declarations. Encoder names that are not ours reach Pyserini's code untouched.
"""

import sys

from csplade_pyserini.registration import (
    bm25,
    command_lines,
    encoders,
    java,
    manifests,
    prebuilt,
    receivers,
    searcher,
    server,
    shards,
    topics,
)
from csplade_pyserini.registration.patches import (
    GUARDED,
    missing_symbols,
    patch_module,
    patched_modules,
    prepare_loader,
)

__all__ = [
    "GUARDED",
    "bm25",
    "command_lines",
    "encoders",
    "java",
    "manifests",
    "missing_symbols",
    "patch_module",
    "patched_modules",
    "prebuilt",
    "prepare_loader",
    "receivers",
    "register",
    "searcher",
    "server",
    "shards",
    "topics",
]


def register() -> None:
    """Do by hand what the .pth hook does at start-up. Safe to call twice, and after Pyserini's import."""
    from csplade_pyserini import autoload  # importing it puts the finder in place

    autoload.install()
    for name in autoload.PATCHED_MODULES:
        if name in sys.modules:
            patch_module(sys.modules[name])
