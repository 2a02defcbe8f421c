"""An encoder card: everything that defines an encoder but its weights, as one flat TOML table.

The card is the input contract of a model (BOS, prefixes, lengths, attention) and what turns its
weights into impacts. Two encoders with equal cards and equal weights give equal vectors; the
card's hash stands in every manifest.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal

from csplade_pyserini.errors import InputError
from csplade_pyserini.tables import parse_table, read_toml

Attention = Literal["causal", "bidirectional"]
Weights = Literal["folder", "hub"]


@dataclass(frozen=True, kw_only=True)
class EncoderCard:
    """One encoder. Field names are the TOML keys; only `name` is required."""

    name: str
    aliases: tuple[str, ...] = ()
    summary: str = ""

    # Where the weights come from.
    weights: Weights = "folder"
    """`hub`: `base` and `adapter` are public, transformers fetches them. `folder`: a checkpoint
    folder of ours, beside the card or in $CSPLADE_HOME/encoders/NAME."""
    base: str = ""
    """Backbone: Hugging Face id, or a folder; empty where the folder holds full weights."""
    base_file: str = ""
    """A GGUF file inside `base`, where the backbone comes as one."""
    layers: int = 0
    """Use only so many of the base's first layers; 0: all of them."""
    adapter: str = ""
    """peft adapter over `base`: Hugging Face id, or a folder relative to the card."""
    revision: str = ""
    """Commit of the Hugging Face repository that holds the weights."""
    tokenizer: str = ""
    """Hugging Face id or folder; empty: the one beside the weights."""
    install: str = ""
    """One sentence for a user who has the card but not the weights."""

    # What the model does with a text (arXiv 2504.10816, sections 3.1 and 3.2).
    attention: Attention = "causal"
    echo: bool = False
    logit_scale: float = 1.0
    lowercase: bool = False
    """Texts are lower-cased before they are tokenized: for a cased vocabulary and little training."""
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
    """Keep only so many terms, the heaviest; 0: all of them."""
    exclude_special_tokens: bool = False

    quantize_head: bool = False
    """Where weights are quantized, the LM head's are too. Embeddings never are."""

    source: str = ""
    licence: str = ""
    paper_scores: dict[str, float] = field(default_factory=dict)
    """Scores that the source prints, by `collection metric`; never measured by us."""

    def hash(self) -> str:
        """SHA-256 over the fields that change a vector (not name, summary, scores and the like)."""
        fields = {f: value for f in VECTOR_FIELDS if (value := getattr(self, f)) or f not in _ADDED_LATER}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


VECTOR_FIELDS = (
    "base", "base_file", "layers", "adapter", "revision", "tokenizer", "attention", "echo", "logit_scale",
    "lowercase", "add_bos", "add_eos", "query_prefix", "document_prefix", "query_max_length",
    "document_max_length", "impact_scale", "query_top_terms", "document_top_terms",
    "exclude_special_tokens", "quantize_head",
)  # fmt: skip
_ADDED_LATER = ("layers", "lowercase", "quantize_head")
"""Off, they are left out of the hash: manifests that are older than these keys keep naming the same card."""

_AT_LEAST: dict[str, float] = {
    "layers": 0,
    "query_max_length": 1,
    "document_max_length": 1,
    "query_top_terms": 0,
    "document_top_terms": 0,
}


def read_card(path: Path) -> EncoderCard:
    """Read a card from a TOML file. Raises InputError that names the file and the key."""
    return parse_card(read_toml(path, "card"), str(path))


def parse_card(table: dict[str, Any], origin: str) -> EncoderCard:
    """Make a card of a table; `origin` is what errors call it. Raises InputError."""
    card = parse_table(EncoderCard, table, origin)
    _check_values(card, origin)
    return card


def write_card(card: EncoderCard, path: Path) -> None:
    """Write a card as TOML, defaults left out; read_card gives the same card back."""
    path.write_text(to_toml(card), encoding="utf-8")


def to_toml(card: EncoderCard, *, with_defaults: bool = False) -> str:
    """The card as TOML text; with_defaults: every key, else only those that differ from theirs."""
    lines, scores = [], ""
    for f in dataclasses.fields(card):
        value = getattr(card, f.name)
        if f.name == "paper_scores":
            if value:
                scores = "\n[paper_scores]\n" + "".join(
                    f"{_toml(key)} = {score}\n" for key, score in value.items()
                )
        elif with_defaults or f.name == "name" or value != f.default:
            lines.append(f"{f.name} = {_toml(value)}\n")
    return "".join(lines) + scores


def _toml(value: Any) -> str:
    """A string, number or list of strings: JSON is TOML there, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _check_values(card: EncoderCard, origin: str) -> None:
    for key, least in _AT_LEAST.items():
        if getattr(card, key) < least:
            raise InputError(f"{origin}: {key} is {getattr(card, key)}; wanted at least {least:g}")
    for key in ("impact_scale", "logit_scale"):
        if not getattr(card, key) > 0:
            raise InputError(f"{origin}: {key} is {getattr(card, key)}; wanted a finite number above 0")
    if PurePath(card.adapter).is_absolute() or ".." in PurePath(card.adapter).parts:
        raise InputError(
            f"{origin}: adapter is {card.adapter!r}; wanted a folder inside that of the card, or a Hugging Face id"
        )
    if PurePath(card.base_file).name != card.base_file:
        raise InputError(
            f"{origin}: base_file is {card.base_file!r}; wanted the name of a file in the base's folder"
        )
    if not card.name.strip():
        raise InputError(f"{origin}: name is {card.name!r}; wanted a name")
