"""`csplade_pyserini.train` where neither the package nor Pyserini is installed.

    torchrun --nproc_per_node 1 experiments/gpu_parts/train_verb.py contrast --config FILE.toml

The verb records versions of both. Once the package itself leaves out what is missing, this file can go,
and `-m csplade_pyserini.train` takes its place.
"""

import importlib.metadata
from collections.abc import Sequence

OURS = ("csplade_pyserini", "pyserini")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb."""
    from csplade_pyserini.train import main as train

    allow_missing_packages()
    return train(argv)


def allow_missing_packages() -> None:
    """Let importlib.metadata answer for both packages."""
    known = importlib.metadata.version

    def version(name: str) -> str:
        try:
            return known(name)
        except importlib.metadata.PackageNotFoundError:
            if name in OURS:
                return "not installed"
            raise

    importlib.metadata.version = version


if __name__ == "__main__":
    raise SystemExit(main())
