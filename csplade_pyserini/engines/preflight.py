"""Preflight: vectors, docids and queries that an engine would damage are found before the first is sent."""

from collections.abc import Iterable, Iterator, Sequence

from csplade_pyserini.engines.target import Document, Limits, Query
from csplade_pyserini.errors import InputError


class Preflight:
    """Check of documents against an engine's limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._largest = 0
        self._first: dict[str, str] = {}
        """First document of each kind of problem."""
        self._found: dict[str, int] = {}
        """Number of documents with each kind of problem."""

    def check(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Take note of each document, and pass it on."""
        limits = self._limits
        limit = 1 << limits.significant_bits
        for document in documents:
            if not document.impacts:
                self._note("empty", document, "its vector is empty")
                continue
            largest = max(document.impacts)
            self._largest = max(self._largest, largest)
            if largest > limit:
                worst = max(document.impacts, key=lambda impact: significant_bits(impact))
                if significant_bits(worst) > limits.significant_bits:
                    self._note("impact", document, f"the impact {worst}")
            if document.dimensions[-1] >= limits.dimensions:
                self._note("dimension", document, f"the dimension {document.dimensions[-1]}")
            if limits.terms and len(document.impacts) > limits.terms:
                self._note("terms", document, f"{len(document.impacts)} terms")
            size = len(document.docid.encode())
            if size > limits.docid_bytes:
                self._note("docid", document, f"a docid of {size} bytes")
            yield document

    def refuse(self) -> None:
        """Raise InputError, with the cure of each problem, if the engine would damage a document."""
        if not self._found:
            return
        sentences = [
            f"{self._found[kind]} documents, first {first}: {self._cure(kind)}"
            for kind, first in self._first.items()
        ]
        raise InputError(f"{self._limits.engine} would damage these vectors: {'; '.join(sentences)}")

    def _note(self, kind: str, document: Document, seen: str) -> None:
        self._found[kind] = self._found.get(kind, 0) + 1
        if kind not in self._first:
            self._first[kind] = f"{document.file}:{document.line} ({document.docid[:100]}) with {seen}"

    def _cure(self, kind: str) -> str:
        limits = self._limits
        if kind == "impact":
            factor = fitting_scale(self._largest, limits.significant_bits)
            return (
                f"it keeps {limits.significant_bits} significant bits, all integers up to "
                f"{1 << limits.significant_bits}, and rounds larger ones in silence; --scale {factor} makes "
                f"all fit (the largest impact is {self._largest})"
            )
        return {
            "empty": "no query would find it, and the count would not be right; leave it out, or encode with "
            "csplade_pyserini.encode, which gives it a reserved term",
            "dimension": f"it has {limits.dimensions} dimensions; take another engine, or an encoder with a "
            f"smaller vocabulary",
            "terms": f"it takes {limits.terms}; encode with :top_terms={limits.terms} behind the "
            f"encoder's name",
            "docid": f"it takes {limits.docid_bytes} bytes; give these documents shorter docids",
        }[kind]


def significant_bits(number: int) -> int:
    """Bits from a number's first 1 to its last: what a float needs to hold it exactly."""
    return (number // (number & -number)).bit_length() if number else 0


def fitting_scale(largest: int, bits: int) -> float:
    """Largest factor of four decimal digits that brings an impact to 2**bits at most."""
    limit = 1 << bits
    digits = 4
    while True:
        step: float = 10**digits
        factor = (limit * step // largest) / step
        if factor:
            return factor
        digits += 4


def refuse_hits(limits: Limits, hits: int) -> None:
    """Raise InputError if an engine does not give so many hits."""
    if hits > limits.most_hits:
        raise InputError(f"--hits is {hits}; {limits.engine} gives at most {limits.most_hits} for a query")


def fit_queries(limits: Limits, queries: Sequence[Query], names: Sequence[str]) -> tuple[list[Query], float]:
    """Scale queries into an engine's range by one power of two; return them and the factor of scores.

    A power of two changes no digit of a float, so scores are exact. Raises InputError on a query with more
    terms than the engine takes.
    """
    factor = 1.0
    for name, query in zip(names, queries, strict=True):
        if limits.query_terms and len(query.weights) > limits.query_terms:
            raise InputError(
                f"query {name!r} has {len(query.weights)} terms; {limits.engine} takes {limits.query_terms} "
                f"by default: encode queries with :top_terms={limits.query_terms} behind the encoder's name"
            )
        heaviest = max(query.weights, default=0.0)
        while limits.query_weight and heaviest / factor > limits.query_weight:
            factor *= 2
    if factor == 1:
        return list(queries), factor
    scaled = [Query(query.dimensions, [weight / factor for weight in query.weights]) for query in queries]
    return scaled, factor
