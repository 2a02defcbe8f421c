"""Pyserini's own indexing commands, as subprocesses, and its own counts of what they made.

Anserini ends with exit code 0 whatever it loses: a broken line costs the rest of its file. So every caller
counts afterwards.
"""

import subprocess
import sys
from pathlib import Path

from csplade_pyserini.collections.vectors import read_docid
from csplade_pyserini.errors import CheckError
from csplade_pyserini.lucene.parts import collection_lines

SHOWN = 10
"""Number of docids that an error lists."""
LOG_TAIL_LINES = 15


def build_stock_index(
    collection: Path, index: Path, *, threads: int, optimize: bool = True, store_raw: bool = False
) -> None:
    """Build an impact index with Pyserini's own command, from repeated words. Raises CheckError."""
    command = _command("JsonVectorCollection", collection, index, threads)
    command += ["--impact", "--pretokenized"]
    if optimize:
        command.append("--optimize")
    if store_raw:
        command.append("--storeRaw")
    run_stock(command)
    if not index.is_dir():
        raise CheckError(f"Pyserini's indexer wrote no index at {index}")


def bm25_index_command(corpus: Path, index: Path, *, threads: int, store_raw: bool = False) -> list[str]:
    """Pyserini's own command that builds a BM25 index of a JsonCollection, with its defaults."""
    command = [*_command("JsonCollection", corpus, index, threads), "--optimize"]
    if store_raw:
        command.append("--storeRaw")
    return command


def _command(collection_class: str, source: Path, index: Path, threads: int) -> list[str]:
    return [
        sys.executable, "-m", "pyserini.index.lucene", "--collection", collection_class,
        "--input", str(source), "--index", str(index), "--generator", "DefaultLuceneDocumentGenerator",
        "--threads", str(threads),
    ]  # fmt: skip


def run_stock(command: list[str]) -> None:
    """Run a command of Pyserini's indexer. Raises CheckError, with its last lines, if it fails."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-LOG_TAIL_LINES:])
        raise CheckError(
            f"Pyserini's indexer ended with exit code {result.returncode}; its last lines:\n{tail}"
        )


def size_in_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def count_documents(index: Path) -> int:
    """Number of documents of an index, as Pyserini's reader counts them."""
    from pyserini.index.lucene import LuceneIndexReader

    return int(LuceneIndexReader(str(index)).stats()["documents"])


def missing_documents(collection: Path, index: Path) -> str:
    """Say which documents of its collection an index lacks."""
    from pyserini.index.lucene import LuceneIndexReader

    reader = LuceneIndexReader(str(index))
    missing = []
    for place, line in collection_lines(collection):
        docid = read_docid(line, place)
        if reader.doc(docid) is None:
            missing.append(docid)
    shown = missing[:SHOWN]
    if len(missing) > SHOWN:
        shown.append("...")
    return f"missing {len(missing)}: {', '.join(shown)}"
