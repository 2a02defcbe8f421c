"""An encoder card: everything that defines an encoder except its weights, as one flat TOML table.

A card is a model's input contract (BOS, prefixes, lengths, attention) and how weights become impacts.
Two encoders with equal cards and equal weights give equal vectors. Every manifest holds the card's hash.
"""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.tables import parse_table, read_toml

Attention = Literal["causal", "bidirectional"]
Side = Literal["query", "document"]
Weights = Literal["folder", "hub"]
Pool = Literal["tokens", "words", "distinct"]
Fold = Literal["none", "case"]
Queries = Literal["model", "lookup", "encoder"]
"""How queries are made: by the model, by a table of token weights, or by another encoder."""


class SideSettings(NamedTuple):
    """Settings of one side of an encoder, queries or documents."""

    prefix: str
    max_length: int
    """Tokens of prefix and text together, before BOS, EOS and echo are added."""
    top_terms: int
    """Number of terms kept, heaviest first; 0 keeps all."""
    lexical_weight: float
    """Factor of the lexical weights; 0 adds none."""


@dataclass(frozen=True, kw_only=True)
class EncoderCard:
    """One encoder. Field names are the TOML keys; only `name` is required."""

    name: str
    aliases: tuple[str, ...] = ()
    summary: str = ""

    # Source of the weights.
    weights: Weights = "folder"
    """`hub`: `base` and `adapter` are public, and transformers fetches them. `folder`: a checkpoint folder
    beside the card or in $CSPLADE_HOME/encoders/NAME."""
    base: str = ""
    """Backbone: Hugging Face id or folder; empty if the folder holds full weights."""
    base_file: str = ""
    """GGUF file inside `base`, if the backbone comes as one."""
    layers: int = 0
    """Number of the base's first layers to use; 0 uses all."""
    adapter: str = ""
    """peft adapter over `base`: Hugging Face id, or a folder relative to the card."""
    revision: str = ""
    """Commit, tag or branch of the Hugging Face repository that holds the weights."""
    tokenizer: str = ""
    """Hugging Face id or folder; empty uses the one beside the weights."""
    install: str = ""
    """One sentence for a user who has the card but not the weights."""

    # From text to logits (arXiv 2504.10816, sections 3.1 and 3.2).
    attention: Attention = "causal"
    echo: bool = False
    logit_scale: float = 1.0
    logit_shift: float = 0.0
    """Subtracted from the scaled logits before the ReLU; at least 0."""
    lowercase: bool = False
    """Lower-case texts before tokenizing: for a cased vocabulary and little training."""
    add_bos: bool = False
    add_eos: bool = False
    query_prefix: str = ""
    document_prefix: str = ""
    query_max_length: int = 64
    document_max_length: int = 256
    """Tokens of prefix and text together, before BOS, EOS and echo are added."""

    # From weights to impacts.
    impact_scale: float = 100.0
    query_top_terms: int = 0
    document_top_terms: int = 0
    """Number of terms kept, heaviest first; 0 keeps all."""
    exclude_special_tokens: bool = False
    fold: Fold = "none"
    """`case`: tokens that differ in case or in the space before them are one term, with their maximum."""
    position_top_terms: int = 0
    """Number of terms that each position keeps before the maximum, heaviest first; 0 keeps all."""

    least_weight: float = 0.0
    """Lighter weights of the model are left out."""

    # Lexical weights, added to those of the model: BM25's, of the tokens that the text itself has.
    query_lexical_weight: float = 0.0
    document_lexical_weight: float = 0.0
    """Factor of the lexical weights; 0 adds none. Their idf is in lexical.safetensors, beside the weights."""

    # Tokens whose logits are left out of the maximum. The model still attends to them.
    pool: Pool = "tokens"
    """`words`: the first token of each word counts, not its `##` pieces (WordPiece only). `distinct`: a token
    that a text has twice counts the first time only."""
    unpooled_terms: tuple[str, ...] = ()
    """Tokens that never count, such as punctuation, and have no lexical weights. A text that has no other
    tokens counts them all."""
    pool_prefix: bool = True
    """Whether the tokens of the prefix count."""

    # How queries are made. Documents, and so indexes, do not depend on it.
    query: Queries = "model"
    """`lookup`: by the table of token weights beside the card (train lookup); no model is loaded."""
    query_encoder: str = ""
    """Encoder over the same vocabulary that makes the queries: a smaller one, by any name."""

    quantize_head: bool = False
    """Quantize the LM head too, if weights are quantized. Embeddings never are."""

    source: str = ""
    licence: str = ""
    paper_scores: dict[str, float] = field(default_factory=dict)
    """Scores that the source prints, by `collection metric`; never measured by us."""

    def hash(self) -> str:
        """SHA-256 over the fields that change a vector (not name, summary, scores and the like)."""
        values = {key: getattr(self, key) for key in VECTOR_FIELDS}
        fields = {key: value for key, value in values.items() if value != _ADDED_LATER.get(key)}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def side(self, side: Side) -> SideSettings:
        """Settings of queries or of documents."""
        return SideSettings(*(getattr(self, f"{side}_{key}") for key in SideSettings._fields))

    @property
    def queries(self) -> Queries:
        """How queries are made: as `query` says, unless `query_encoder` names another encoder."""
        if self.query_encoder and self.query == "model":
            return "encoder"
        return self.query

    def as_read(self, text: str, side: Side) -> str:
        """Return a text as the tokenizer reads it: with its prefix, in lower case if the card says so."""
        if self.lowercase:
            text = text.lower()
        return self.side(side).prefix + text

    @property
    def is_lexical(self) -> bool:
        """Whether lexical weights are added to those of the model."""
        return bool(self.query_lexical_weight or self.document_lexical_weight)

    @property
    def copies(self) -> int:
        """Number of times that the model reads a text: 2 with echo."""
        return 1 + self.echo


VECTOR_FIELDS = (
    "base", "base_file", "layers", "adapter", "revision", "tokenizer", "attention", "echo", "logit_scale",
    "lowercase", "add_bos", "add_eos", "query_prefix", "document_prefix", "query_max_length",
    "document_max_length", "impact_scale", "query_top_terms", "document_top_terms",
    "exclude_special_tokens", "quantize_head", "pool", "unpooled_terms", "pool_prefix",
    "fold", "logit_shift", "position_top_terms", "least_weight", "query_lexical_weight",
    "document_lexical_weight",
)  # fmt: skip
"""Fields of a card that change a vector."""
_ADDED_LATER = {
    "layers": 0, "lowercase": False, "quantize_head": False, "pool": "tokens", "unpooled_terms": (),
    "pool_prefix": True, "fold": "none", "logit_shift": 0.0, "position_top_terms": 0,
    "least_weight": 0.0, "query_lexical_weight": 0.0, "document_lexical_weight": 0.0,
}  # fmt: skip
"""Fields left out of the hash while they have these defaults: older manifests keep naming the same card."""

_REVISION = re.compile(r"\w[\w.+-]*(/\w[\w.+-]*)*")

_AT_LEAST: dict[str, float] = {
    "layers": 0,
    "query_max_length": 1,
    "document_max_length": 1,
    "query_top_terms": 0,
    "document_top_terms": 0,
    "position_top_terms": 0,
    "logit_shift": 0,
    "least_weight": 0,
    "query_lexical_weight": 0,
    "document_lexical_weight": 0,
}


def read_card(path: Path) -> EncoderCard:
    """Read a card from a TOML file. Raises InputError that names the file and the key."""
    return parse_card(read_toml(path, "card"), str(path))


def parse_card(table: dict[str, Any], origin: str) -> EncoderCard:
    """Make a card from a table; `origin` is what errors call it. Raises InputError."""
    card = parse_table(EncoderCard, table, origin)
    _check_values(card, origin)
    return card


def write_card(card: EncoderCard, path: Path) -> None:
    """Write a card as TOML without its defaults; read_card gives the same card back."""
    path.write_text(to_toml(card), encoding="utf-8")


def to_toml(card: EncoderCard, *, with_defaults: bool = False) -> str:
    """Format a card as TOML: every key, or only those that differ from their defaults."""
    lines = []
    for known in dataclasses.fields(card):
        value = getattr(card, known.name)
        is_needed = with_defaults or known.name == "name" or value != known.default
        if is_needed and known.name != "paper_scores":
            lines.append(f"{known.name} = {_toml(value)}\n")
    if card.paper_scores:
        lines.append("\n[paper_scores]\n")
        lines += [f"{_toml(key)} = {score}\n" for key, score in card.paper_scores.items()]
    return "".join(lines)


def is_revision(text: str) -> bool:
    """Whether a text may be a commit, tag or branch. Paths out of a folder of references are none."""
    return _REVISION.fullmatch(text) is not None and ".." not in text


def card_table(card: EncoderCard) -> dict[str, Any]:
    """Return a card as a plain table, as manifests hold it."""
    return json.loads(json.dumps(dataclasses.asdict(card)))  # type: ignore[no-any-return]


def _toml(value: Any) -> str:
    """Format a string, number or list of strings: JSON is TOML there, except for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _check_values(card: EncoderCard, origin: str) -> None:
    for key, least in _AT_LEAST.items():
        if getattr(card, key) < least:
            raise InputError(f"{origin}: {key} is {getattr(card, key)}; wanted at least {least:g}")
    for key in ("impact_scale", "logit_scale"):
        if not getattr(card, key) > 0:
            raise InputError(f"{origin}: {key} is {getattr(card, key)}; wanted a finite number above 0")
    adapter = PurePath(card.adapter)
    if adapter.is_absolute() or ".." in adapter.parts:
        raise InputError(
            f"{origin}: adapter is {card.adapter!r}; wanted a folder inside that of the card, "
            f"or a Hugging Face id"
        )
    if card.revision and not is_revision(card.revision):
        raise InputError(f"{origin}: revision is {card.revision!r}; wanted a commit, tag or branch")
    if PurePath(card.base_file).name != card.base_file:
        raise InputError(
            f"{origin}: base_file is {card.base_file!r}; wanted the name of a file in the base's folder"
        )
    if card.is_lexical and (card.fold != "none" or card.query_prefix or card.document_prefix):
        raise InputError(
            f"{origin}: fold is {card.fold!r}, and the prefixes are {card.query_prefix!r} and "
            f"{card.document_prefix!r}; wanted no fold and no prefix with lexical weights"
        )
    if card.query == "lookup" and card.query_encoder:
        raise InputError(
            f"{origin}: query is 'lookup' and query_encoder is {card.query_encoder!r}; wanted one of the two"
        )
    if card.query == "encoder" and not card.query_encoder:
        raise InputError(f"{origin}: query is 'encoder'; wanted the encoder's name as query_encoder, too")
    if not card.name.strip():
        raise InputError(f"{origin}: name is {card.name!r}; wanted a name")
