"""Pyserini's own indexing commands, as subprocesses, and its own counts of what they made.

Anserini ends with exit code 0 whatever it loses: a broken line costs the rest of its file. Whoever runs these commands
counts afterwards.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from csplade_pyserini.errors import CheckError
from csplade_pyserini.files.lines import parse_record
from csplade_pyserini.lucene.parts import collection_lines

SHOWN = 10
"""Docids that an error lists."""
LOG_TAIL_LINES = 15


def build_stock_index(
    collection: Path, index: Path, *, threads: int, optimize: bool = True, store_raw: bool = False
) -> None:
    """An impact index by Pyserini's own command: terms repeated as words. Raises CheckError where it fails."""
    options = (["--optimize"] if optimize else []) + (["--storeRaw"] if store_raw else [])
    command = [
        sys.executable, "-m", "pyserini.index.lucene", "--collection", "JsonVectorCollection",
        "--input", str(collection), "--index", str(index), "--generator", "DefaultLuceneDocumentGenerator",
        "--threads", str(threads), "--impact", "--pretokenized", *options,
    ]  # fmt: skip
    run_stock(command)
    if not index.is_dir():
        raise CheckError(f"Pyserini's indexer wrote no index at {index}")


def bm25_index_command(corpus: Path, index: Path, *, threads: int, store_raw: bool = False) -> list[str]:
    """Pyserini's own command that builds a BM25 index of a JsonCollection, with its defaults."""
    return [
        sys.executable, "-m", "pyserini.index.lucene", "--collection", "JsonCollection",
        "--input", str(corpus), "--index", str(index), "--generator", "DefaultLuceneDocumentGenerator",
        "--threads", str(threads), "--optimize", *(["--storeRaw"] if store_raw else []),
    ]  # fmt: skip


def size_in_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def run_stock(command: list[str]) -> None:
    """Run a command of Pyserini's indexer. Raises CheckError, with its last lines, where it fails."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-LOG_TAIL_LINES:])
        raise CheckError(
            f"Pyserini's indexer ended with exit code {result.returncode}; its last lines:\n{tail}"
        )


def count_documents(index: Path) -> int:
    """Documents of an index, as Pyserini's reader counts them."""
    from pyserini.index.lucene import LuceneIndexReader

    return int(LuceneIndexReader(str(index)).stats()["documents"])


def missing_documents(collection: Path, index: Path) -> str:
    """Which documents of its collection an index lacks, in words."""
    from pyserini.index.lucene import LuceneIndexReader

    reader = LuceneIndexReader(str(index))
    missing = [docid for docid in _docids(collection) if reader.doc(docid) is None]
    return f"missing {len(missing)}: {', '.join(missing[:SHOWN])}{', ...' if len(missing) > SHOWN else ''}"


def _docids(collection: Path) -> Iterator[str]:
    for place, line in collection_lines(collection):
        yield str(parse_record(line, place)["id"])
