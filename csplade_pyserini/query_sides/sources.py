"""Sources of queries: the query side that an encoder's name means, before anything is loaded."""

import functools
from dataclasses import dataclass
from pathlib import Path

from csplade_pyserini.cards import (
    TABLE_FILE,
    Checkpoint,
    EncoderCard,
    EncoderOptions,
    Queries,
    canonical_name,
    find_checkpoint,
    find_stored_card,
    find_table,
    parse_encoder_name,
    table_folders,
)
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.stamps import file_hash
from csplade_pyserini.query_sides.table import table_encoder

NOTHING_MAKES = "the queries of {name} have neither a table, nor another encoder, nor a model"
_DIGITS = 16


@dataclass(frozen=True)
class QuerySource:
    """The query side of one encoder's name."""

    text: str
    """Name with its options, as the user gave it."""
    card: EncoderCard
    """Card with the options applied."""
    options: EncoderOptions
    kind: Queries
    checkpoint: Checkpoint | None
    """The encoder whose documents are searched; None if its weights are not here and not needed."""
    table: Path | None = None
    """Table of a lookup."""
    other: "QuerySource | None" = None
    """Query side of the encoder that the card names as `query_encoder`."""

    @property
    def name(self) -> str:
        """Name without options, as the card writes it."""
        name, _ = parse_encoder_name(canonical_name(self.text))
        return name

    @functools.cached_property
    def identity(self) -> str:
        """Identity of the encoder whose documents these queries find. Reads no weights for a lookup.

        Without the encoder's weights it is that of the other encoder, which the index may accept.
        """
        if self.table is not None:
            return table_encoder(self.table)
        if self.checkpoint is not None:
            return self.checkpoint.identity
        if self.other is not None:
            return self.other.identity
        raise ValueError(NOTHING_MAKES.format(name=self.text))

    @property
    def maker(self) -> str:
        """Maker of the queries, for manifests: empty for the model itself."""
        if self.table is not None:
            return f"lookup {file_hash(self.table)[:_DIGITS]}"
        if self.other is not None:
            return f"encoder {self.other.identity} {self.other.maker}".strip()
        return ""


def find_queries(text: str, **overrides: str | int | None) -> QuerySource:
    """Find what makes the queries of `NAME[:key=value,...]`.

    overrides: options that win over those in the name, unless None. Raises InputError on a bad option, an
    unknown name, missing weights where they are needed, and a missing table; it says how to make the table.
    """
    return _find(text, overrides, ())


def _find(text: str, overrides: dict[str, str | int | None], seen: tuple[str, ...]) -> QuerySource:
    if text in seen:
        raise InputError(f"query_encoder goes in a circle: {' -> '.join((*seen, text))}")
    name, options = parse_encoder_name(text)
    options = options.override(**overrides)
    checkpoint = None
    problem: InputError | None = None
    try:
        checkpoint = find_checkpoint(text, **overrides)
        stored = checkpoint.stored_card
    except InputError as error:  # missing weights are an error of the model's queries only
        problem = error
        stored = find_stored_card(name, options.revision or "")
    card = options.apply_queries(options.apply_to(stored))
    kind = card.queries
    if kind == "lookup":
        return QuerySource(
            text, card, options, kind, checkpoint, table=_table(name, card, options.revision or "")
        )
    if kind == "encoder":
        other = _find(card.query_encoder, _for_other(options), (*seen, text))
        return QuerySource(text, card, options, kind, checkpoint, other=other)
    if problem is not None:
        raise problem
    return QuerySource(text, card, options, kind, checkpoint)


def _for_other(options: EncoderOptions) -> dict[str, str | int | None]:
    """Options of an encoder's name that its query encoder takes, too."""
    keys = ("device", "dtype", "quantization", "max_length", "top_terms", "query_prefix")
    return {key: getattr(options, key) for key in keys}


def _table(name: str, card: EncoderCard, revision: str) -> Path:
    table = find_table(name, revision)
    if table is not None:
        return table
    looked = " and ".join(table_folders(name)) or "no folder"
    raise InputError(
        f"encoder {card.name!r} has no table of query weights here, so there is no lookup: make it by "
        f"python -m csplade_pyserini.train lookup --encoder {name} --texts CORPUS --output FOLDER. "
        f"Looked for {TABLE_FILE} in {looked}."
    )
