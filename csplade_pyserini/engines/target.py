"""The one shape that all engines have here: what a target takes, what it answers, and what it cannot hold.

A target is a collection in an engine, an embedded one, or a folder of files for an engine.
"""

import dataclasses
import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.tables import parse_table

FIELD = "v"
"""Name of the field that holds the vector, in every engine."""
DOCID_FIELD = "docid"
META_KEY = "csplade_pyserini"
"""Key of the identity in a target's metadata."""
FLOAT_BITS = 24
"""Significant bits of a 32-bit float."""
INT_BITS = 31
UINT32_MAX = 2**32 - 1


class Document(NamedTuple):
    """A document as engines take it."""

    docid: str
    dimensions: list[int]
    """Token ids of its terms, ascending."""
    impacts: list[int]
    file: str
    """Name of its vector file."""
    line: int
    """Number of its record in the file, from 1."""


class Query(NamedTuple):
    """A query's vector as engines take it."""

    dimensions: list[int]
    weights: list[float]


Hit = tuple[str, float]
"""Docid and score."""


class Failure(NamedTuple):
    """A document that an engine did not take."""

    document: Document
    status: str
    reason: str
    is_busy: bool
    """Whether the engine asked to come again later: 429, 503 or a time-out."""


class EngineBusyError(Exception):
    """The engine asked to come again later: 429, 503, or a time-out."""

    def __init__(self, reason: object, seconds: float = 0.0) -> None:
        """seconds: time that the engine asked for; 0 if it did not say."""
        super().__init__(str(reason))
        self.seconds = seconds


class BatchRefusedError(Exception):
    """The engine refused a batch for what is in it."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Largest vectors, docids and queries that an engine keeps as they are."""

    engine: str
    significant_bits: int
    """Bits of an impact that are kept; an engine rounds what has more, and says nothing."""
    docid_bytes: int
    most_hits: int
    dimensions: int = UINT32_MAX
    """Number of dimensions."""
    terms: int = 0
    """Number of terms in a document; 0: as many as there are."""
    query_terms: int = 0
    """Number of terms in a query; 0: as many as there are."""
    query_weight: float = 0.0
    """Largest weight in a query; 0: any."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Identity of a target's vectors: stored in the target itself, and beside it."""

    encoder: str
    """Identity of the documents' encoder."""
    card: str
    """Hash of the encoder's card."""
    collection: str
    """SHA-256 of the collection's manifest."""
    scale: float = 1.0
    """Factor that impacts were multiplied by before they were rounded."""

    def to_json(self) -> str:
        """Format it as one line of JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def parse(cls, text: str, origin: str) -> "Identity":
        """Parse to_json's line. Raises InputError."""
        try:
            table = json.loads(text)
        except ValueError as error:
            raise InputError(f"{origin}: its metadata is {text!r}, which is not of ours") from error
        return parse_table(cls, table, origin)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a target is: a server's collection, or a folder."""

    url: str = ""
    name: str = ""
    folder: Path | None = None
    timeout: float = 60.0
    """Seconds that a request may take."""
    key: str = dataclasses.field(default="", repr=False)
    """API key or token; never printed or stored."""

    def __str__(self) -> str:
        if self.folder is not None:
            return str(self.folder)
        return f"{self.shown_url} {self.name}"

    @property
    def directory(self) -> Path:
        """The folder. Raises InputError on a server's place."""
        if self.folder is None:
            raise InputError(f"{self} is a server's; wanted a folder")
        return self.folder

    @property
    def shown_url(self) -> str:
        """The URL without a password."""
        scheme, mark, rest = self.url.rpartition("://")
        return f"{scheme}{mark}{rest.rpartition('@')[2]}"


class Target(ABC):
    """A collection in an engine."""

    limits: ClassVar[Limits]
    resumes: ClassVar[Literal["line", "file", "never"]] = "line"
    """Where a stopped load goes on: behind the last line, with the file that was begun, or from the start."""

    def __init__(self, place: Place) -> None:
        self.place = place

    @staticmethod
    @abstractmethod
    def schema(identity: Identity) -> str:
        """Format what `create` makes, as the engine's own tools take it."""

    @abstractmethod
    def identity(self) -> Identity | None:
        """Read what it holds; None if it does not exist. Raises InputError if it is not ours."""

    @abstractmethod
    def create(self, identity: Identity) -> None:
        """Make it."""

    @abstractmethod
    def write(self, documents: Sequence[Document]) -> list[Failure]:
        """Put documents in, in place of older ones with the same docids; return those not taken.

        Raises EngineBusyError, or BatchRefusedError without telling which document is to blame.
        """

    @abstractmethod
    def count(self) -> int:
        """Number of its documents, by the engine's own count."""

    def search(self, queries: Sequence[Query], hits: int) -> list[list[Hit]]:
        """Best documents of each query, best first. Raises EngineBusyError."""
        raise InputError(f"{self.limits.engine} is reached by files alone: search in the engine itself")

    def begin_file(self, file: str) -> None:  # noqa: B027  (few engines need it)
        """Take note that documents of another vector file follow."""

    def end_file(self) -> None:  # noqa: B027  (few engines need it)
        """Take note that the file is complete."""

    def flush(self) -> None:  # noqa: B027  (few engines need it)
        """Make sure that documents survive the end of this process."""

    def finish(self) -> None:  # noqa: B027  (few engines need it)
        """Make documents searchable, once all are in."""

    def close(self) -> None:  # noqa: B027  (few engines need it)
        """Let go of it."""


def import_client(module: str, engine: str) -> Any:
    """Import an engine's client. Raises InputError that says how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise InputError(
            f"{engine} needs the Python package of {module}: pip install 'csplade_pyserini[{engine}]'"
        ) from error


def refusal(status: int, reason: str) -> Exception:
    """Make the error of a request that was answered with another status than 429 or 503.

    400, 413 and 422 are about the documents; others, such as 401 and 404, end the command.
    """
    if status in (400, 413, 422):
        return BatchRefusedError(reason)
    return InputError(reason)
