"""Terms to dimensions: a term's dimension is its token id, or its fold's, in the encoder's vocabulary."""

from collections.abc import Sequence
from typing import Any

from csplade_pyserini.cards import Checkpoint
from csplade_pyserini.errors import InputError
from csplade_pyserini.impacts import empty_term


class Dimensions:
    """Dimensions of an encoder's terms."""

    def __init__(self, terms: Sequence[str | None], encoder: str) -> None:
        """terms: the term of each id; the reserved term of empty documents gets the next id."""
        self._encoder = encoder
        self._ids: dict[str, int] = {}
        for number, term in enumerate(terms):
            if term is not None:
                self._ids.setdefault(term, number)
        self._ids[empty_term(terms)] = len(terms)

    def of(self, vector: dict[str, Any], place: object) -> list[tuple[int, Any]]:
        """Dimension and value of each term, by dimension.

        Raises InputError on a term of another vocabulary.
        """
        try:
            return sorted([(self._ids[term], value) for term, value in vector.items()])
        except KeyError as error:
            raise InputError(
                f"{place}: the term {error.args[0]!r} is not in the vocabulary of {self._encoder}; "
                f"--encoder names the encoder of these vectors"
            ) from error


def dimensions_of(checkpoint: Checkpoint) -> Dimensions:
    """Read the vocabulary of an encoder; its model is not loaded. Raises InputError."""
    from csplade_pyserini.model.encoder import checkpoint_terms

    return Dimensions(checkpoint_terms(checkpoint), checkpoint.stored_card.name)
