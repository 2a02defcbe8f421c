"""The hook that the .pth file runs at every interpreter start: one finder on sys.meta_path.

The finder lets Pyserini's own modules load and patches a few right afterwards, one while it loads; the
folder registration/ declares the patches. Nothing heavy is imported here: start-up has to stay below 1 ms.
CSPLADE_AUTOLOAD=0 switches the hook off.
"""

import sys

PATCHED_MODULES = frozenset(
    (
        "jnius",
        "jnius_config",
        "pyserini",
        "pyserini.encode._base",
        "pyserini.index.lucene._base",
        "pyserini.output_writer",
        "pyserini.prebuilt_index_info",
        "pyserini.pyclass",
        "pyserini.query_iterator",
        "pyserini.search.lucene._impact_searcher",
        "pyserini.search.lucene._searcher",
        "pyserini.server.backend",
    )
)
"""Modules with patches. A literal list, because the declarations are too slow to load at every start."""


class PatchingFinder:
    """Finder of PATCHED_MODULES: lets the other finders find a module, and patches it once it has loaded."""

    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]
        """Find a module as the other finders do, and plan its patches."""
        if name not in PATCHED_MODULES:
            return None
        for finder in sys.meta_path:
            find_spec = getattr(finder, "find_spec", None)
            if finder is self or find_spec is None:
                continue
            spec = find_spec(name, path, target)
            if spec is not None:
                _patch_after_loading(spec)
                return spec
        return None


def _patch_after_loading(spec) -> None:  # type: ignore[no-untyped-def]
    exec_module = getattr(spec.loader, "exec_module", None)
    if exec_module is None:
        return

    def exec_and_patch(module) -> None:  # type: ignore[no-untyped-def]
        from csplade_pyserini.registration import patch_module, prepare_loader

        prepare_loader(module.__name__, spec.loader)
        exec_module(module)
        patch_module(module, anew=True)

    spec.loader.exec_module = exec_and_patch


def install() -> None:
    """Put the finder in place; a second call does nothing."""
    if not any(isinstance(finder, PatchingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, PatchingFinder())


install()
