"""Corpus folders: which files hold the documents, which do not, and which look like data that nobody reads.

Every JSONL file below the folder is read. In BEIR's layout that is corpus.jsonl alone: its queries look like
documents. Data that would not be read stops the command, because a corpus without it is another corpus.
"""

import os
from pathlib import Path

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.compressed import ARCHIVES, COMPRESSIONS, OTHER_COMPRESSIONS, kind_of
from csplade_pyserini.files.lines import BYTE_ORDER_MARK, is_jsonl, jsonl_endings, plain_name
from csplade_pyserini.files.notes import listed, say_once

DATA_ENDINGS = (
    ".csv", ".tsv", ".xml", ".sgml", ".trec", ".warc", ".parquet", ".arrow", ".feather", ".avro", ".orc",
    ".pkl", ".npy", ".npz", ".db", ".sqlite", ".part", ".partial", ".tmp", ".crdownload", ".download",
    ".incomplete",
)  # fmt: skip
"""Endings of data that is not read, and of downloads that are not whole."""
BEIR_CORPUS = "corpus.jsonl"
QUERY_NAMES = ("queries", "topics", "qrels")
"""Beginnings of the names of files that go with a corpus and hold no documents."""
_FIRST_BYTES = 64


def document_files(folder: Path) -> tuple[Path, ...]:
    """Files of a folder, and below it, that hold documents, in order of name; says which are left out.

    Raises InputError if there are none, and on data that would not be read.
    """
    documents = []
    left_out = []
    unread = []
    is_beir = _has_beir_layout(folder)
    for file in _files_below(folder):
        if _is_hidden(file, folder) or (is_beir and _goes_with_beir(file, folder)):
            left_out.append(file)
        elif not file.is_file():  # a broken link
            unread.append(file)
        elif is_jsonl(file.name) and not file.name.lower().startswith(QUERY_NAMES):
            documents.append(file)
        elif _looks_like_data(file):
            unread.append(file)
        else:
            left_out.append(file)
    if unread:
        raise InputError(
            f"the corpus {folder} holds data that is not read: {_named(unread, folder)}; "
            f"wanted files that end in {jsonl_endings()}, and are not named like queries or qrels; "
            f"convert them or move them away, or name one file as the corpus"
        )
    if not documents:
        raise InputError(f"the corpus {folder} has no file that ends in {jsonl_endings()}")
    note = f"the corpus {folder}: reading {_named(documents, folder)}"
    if left_out:
        note += f"; leaving out {_named(left_out, folder)}"
    say_once(note)
    return tuple(documents)


def _files_below(folder: Path) -> list[Path]:
    """Files in a folder and below it, by their paths. Linked folders are followed, each once."""
    files = []
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(place))
        folders[:] = [name for name in folders if os.path.realpath(Path(place) / name) not in seen]
        files += [Path(place) / name for name in names]
    return sorted(files)


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _has_beir_layout(folder: Path) -> bool:
    names = [path.name.lower() for path in folder.iterdir()]
    has_corpus = any(plain_name(name) == BEIR_CORPUS for name in names)
    return has_corpus and any(name.startswith(QUERY_NAMES) for name in names)


def _goes_with_beir(file: Path, folder: Path) -> bool:
    """Whether a file holds queries or qrels: by its name, or by that of its folder."""
    return file.relative_to(folder).parts[0].lower().startswith(QUERY_NAMES)


def _looks_like_data(file: Path) -> bool:
    """Whether a file is data by its name, or by its first bytes."""
    name = file.name.lower()
    if plain_name(name).endswith(DATA_ENDINGS) or name.startswith(QUERY_NAMES):
        return True
    if name.endswith((*COMPRESSIONS, *ARCHIVES, *OTHER_COMPRESSIONS)):
        return True
    with file.open("rb") as source:
        start = source.read(_FIRST_BYTES)
    text = start.removeprefix(BYTE_ORDER_MARK.encode()).lstrip()
    return bool(kind_of(start)) or text.startswith((b"{", b"["))


def _named(files: list[Path], folder: Path) -> str:
    return listed([file.relative_to(folder) for file in files])
