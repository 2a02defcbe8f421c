"""Files are read however they are compressed; what cannot be read is called by its name."""

import bz2
import gzip
import lzma
import sys

import pytest

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import is_jsonl, read_lines

TEXT = "".join(f"Zürich {number}\n" for number in range(2000))
COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": None, "": bytes}


def zstd(content: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard", reason="needs the package zstandard: pip install zstandard")
    return zstandard.compress(content)


def written(path, content: bytes):
    path.write_bytes(content)
    return path


def error_of(path) -> str:
    with pytest.raises(InputError) as error:
        list(read_lines(path))
    return str(error.value)


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("upper", [False, True], ids=["lower case", "upper case"])
def test_a_compressed_file_has_the_lines_of_the_plain_one(tmp_path, ending, upper):
    compress = COMPRESS[ending] or zstd
    name = f"part.jsonl{ending}"
    half = len(TEXT) // 2
    parts = compress(TEXT[:half].encode()) + compress(TEXT[half:].encode())  # as `cat` joins files
    file = written(tmp_path / (name.upper() if upper else name), parts)
    assert "".join(read_lines(file)) == TEXT
    assert is_jsonl(file.name)


@pytest.mark.parametrize("ending", [ending for ending in COMPRESS if ending])
def test_a_compressed_file_that_is_cut_off_or_damaged_is_named(tmp_path, ending):
    whole = (COMPRESS[ending] or zstd)(TEXT.encode())
    file = tmp_path / f"a.jsonl{ending}"
    for content in (b"", whole[:-1], whole[: len(whole) // 2], b"no such thing" * 9, whole + b"garbage" * 9):
        assert error_of(written(file, content)).startswith(f"{file}:")


def test_zstd_without_a_package_says_which_one(tmp_path, monkeypatch):
    if sys.version_info >= (3, 14):
        pytest.skip("Python 3.14 reads zstd by itself")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    file = written(tmp_path / "a.jsonl.zst", b"\x28\xb5\x2f\xfd")
    assert "pip install zstandard" in error_of(file)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl.lz4", b"\x04\x22\x4d\x18....", "it is .lz4"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c", "archive"),
        ("a.zip", b"PK\x03\x04", "archive"),
        ("a.tar.gz", gzip.compress(b"x", mtime=0), "archive"),
        ("a.jsonl", b"PK\x03\x04", "it is .zip"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), "a name that ends in .gz"),
        ("a.jsonl", bz2.compress(b"{}"), "a name that ends in .bz2"),
        ("a.jsonl", lzma.compress(b"{}"), "a name that ends in .xz"),
        ("a.jsonl", b"\x28\xb5\x2f\xfd", "a name that ends in .zst"),
        ("a.parquet", b"PAR1\x15\x04", "it is .parquet"),
        ("a.jsonl", '{"id": 1}'.encode("utf-16"), "it is UTF-16"),
    ],
)
def test_what_is_no_text_is_called_by_its_name(tmp_path, name, content, said):
    message = error_of(written(tmp_path / name, content))
    assert message.startswith(f"{tmp_path / name}:1: cannot be read: ")
    assert said in message
    assert "decode" not in message


@pytest.mark.parametrize("text", ["BZh is no bzip2\n", "PAR1\ta question\n", "Rar!\n", ""])
def test_a_text_that_begins_like_something_else_is_a_text(tmp_path, text):
    assert "".join(read_lines(written(tmp_path / "a.tsv", text.encode()))) == text
