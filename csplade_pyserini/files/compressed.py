"""Compressed files: those that are read, known by their names, and others, known by their first bytes."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from csplade_pyserini.errors import InputError

UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError)
"""Errors of a file that is damaged, cut off or not UTF-8."""
ARCHIVES = (
    ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z", ".rar",
)  # fmt: skip
"""Endings of files that hold other files."""
OTHER_COMPRESSIONS = (".br", ".lz", ".lz4", ".lzo", ".snappy", ".sz", ".z")
"""Endings of compressed files that nothing here reads."""
_FIRST_BYTES = {
    b"\x1f\x8b": ".gz",
    b"\xfd7zXZ\x00": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"PK\x03\x04": ".zip",
    b"7z\xbc\xaf\x27\x1c": ".7z",
    b"Rar!\x1a\x07": ".rar",
    b"\x04\x22\x4d\x18": ".lz4",
    b"\x1f\x9d": ".z",
    b"\xff\x06\x00\x00sNaPpY": ".snappy",
    b"PAR1\x15": ".parquet",
    b"ARROW1\x00\x00": ".arrow",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_FIRST_BYTES |= {f"BZh{level}1AY&SY".encode(): ".bz2" for level in range(1, 10)}
MOST_FIRST_BYTES = max(map(len, _FIRST_BYTES))
_BLOCK_BYTES = 1 << 20
_LONGEST_WINDOW = 31
"""Power of two of the window that `zstd --long=31` asks for."""


def compression_of(name: str | Path) -> str:
    """Ending of a file's name that says how it is compressed, in lower case; empty if it is plain."""
    ending = Path(name).suffix.lower()
    return ending if ending in _OPENERS else ""


def is_compressed(file: Path) -> bool:
    """Whether a file is compressed, by its name."""
    return bool(compression_of(file))


def kind_of(start: bytes) -> str:
    """Kind of a file that begins with these bytes: an ending or `UTF-16`; empty if it may be plain text."""
    for first, kind in _FIRST_BYTES.items():
        if start.startswith(first):
            return kind
    return ""


def open_bytes(file: Path) -> IO[bytes]:
    """Open a plain or compressed file for reading, decompressed.

    Raises InputError if its name or its first bytes say that it is something else. Raises one of UNREADABLE.
    """
    if file.name.lower().endswith(ARCHIVES):
        raise InputError(f"{file}:1: cannot be read: it is an archive; unpack it")
    if compression := compression_of(file):
        if file.is_file() and not file.stat().st_size:
            raise EOFError(f"it has no byte, so it is no {compression} file")  # gzip reads it as empty
        opened: IO[bytes] = _OPENERS[compression](file)
        return opened
    plain = file.open("rb")
    kind = kind_of(plain.peek(MOST_FIRST_BYTES))
    if kind:
        plain.close()
        raise InputError(f"{file}:1: cannot be read: {_complaint(kind)}")
    return plain


def _complaint(kind: str) -> str:
    if kind in _OPENERS:
        return f"it is compressed; give it a name that ends in {kind}"
    return f"by its first bytes it is {kind}; wanted UTF-8 text, plain or as {', '.join(_OPENERS)}"


class _Frames(io.RawIOBase):
    """A file of compressed frames, decompressed.

    Raises EOFError if it is cut off, and OSError on what is no frame: the libraries' own files leave such
    ends out without a word.
    """

    def __init__(self, file: Path, new_frame: Callable[[], Any], error: type[Exception]) -> None:
        """new_frame: makes a decompressor (decompress, eof, unused_data); error: what it raises."""
        self._source = file.open("rb")
        self._new_frame = new_frame
        self._error = error
        self._frame = new_frame()
        self._is_inside = False
        self._compressed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            chunk = self._compressed or self._source.read(_BLOCK_BYTES)
            self._compressed = b""
            if not chunk:
                break
            self._decompress(chunk)
        if not self._ready and self._is_inside:
            raise EOFError("it is cut off")
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _decompress(self, chunk: bytes) -> None:
        if not self._is_inside:
            chunk = chunk.lstrip(b"\0")  # padding between the frames of an .xz file
        try:
            self._ready = memoryview(self._frame.decompress(chunk))
        except self._error as error:
            raise OSError(str(error)) from error
        self._is_inside = bool(chunk) and not self._frame.eof
        if self._frame.eof:
            self._compressed = self._frame.unused_data
            self._frame = self._new_frame()

    def close(self) -> None:
        self._source.close()
        super().close()


def _open_bzip2(file: Path) -> io.BufferedReader:
    return io.BufferedReader(_Frames(file, bz2.BZ2Decompressor, OSError), _BLOCK_BYTES)


def _open_xz(file: Path) -> io.BufferedReader:
    return io.BufferedReader(_Frames(file, lzma.LZMADecompressor, lzma.LZMAError), _BLOCK_BYTES)


def _open_zstd(file: Path) -> io.BufferedReader:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # since Python 3.14
    except ImportError:
        return _open_zstandard(file)
    options = {zstd.DecompressionParameter.window_log_max: _LONGEST_WINDOW}
    frames = _Frames(file, lambda: zstd.ZstdDecompressor(options=options), zstd.ZstdError)
    return io.BufferedReader(frames, _BLOCK_BYTES)


def _open_zstandard(file: Path) -> io.BufferedReader:
    try:
        import zstandard
    except ImportError as error:
        raise InputError(
            f"{file}:1: cannot be read: .zst needs Python 3.14 or the package zstandard; "
            f"pip install zstandard, or decompress it"
        ) from error
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << _LONGEST_WINDOW)
    frames = _Frames(file, decompressor.decompressobj, zstandard.ZstdError)
    return io.BufferedReader(frames, _BLOCK_BYTES)


_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": _open_bzip2,
    ".xz": _open_xz,
    ".lzma": _open_xz,
    ".zst": _open_zstd,
}
COMPRESSIONS = tuple(_OPENERS)
"""Endings of compressed files that are read."""
