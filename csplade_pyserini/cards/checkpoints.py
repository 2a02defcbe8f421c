"""The object that an encoder's name becomes: its card, its options, and the folder of its weights."""

import dataclasses
import functools
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from csplade_pyserini.cards import hub
from csplade_pyserini.cards.card import EncoderCard, read_card
from csplade_pyserini.cards.hashes import cached_hash
from csplade_pyserini.cards.names import (
    CARD_FILE,
    EncoderOptions,
    canonical_name,
    cards_folder,
    csplade_home,
    find_stored_card,
    is_card,
    is_hub_id,
    no_revision,
    parse_encoder_name,
)
from csplade_pyserini.cards.sources import (
    LEXICAL_FILE,
    PACKAGE_PREFIX,
    TABLE_FILE,
    Sources,
    find_sources,
    has_weights,
)
from csplade_pyserini.errors import InputError

_END_BYTES = 2**20
"""Bytes at each end of a weights file that fingerprints of older manifests are made of."""
_DIGITS = 16
"""Hex digits of hashes in an identity."""


@dataclass(frozen=True)
class Checkpoint:
    """An encoder before it is loaded: made once from a name, then passed on."""

    stored_card: EncoderCard
    """The card as it is stored, without options."""
    folder: Path | None
    """Folder of the weights; None if they are on the hub."""
    options: EncoderOptions = EncoderOptions()
    is_own: bool = field(default=True, compare=False)
    """Whether the card is the user's: beside the weights, or in a configuration.

    Others ship or are on the hub. They name no folders here, and a tokenizer beside the weights
    wins over theirs.
    """

    @functools.cached_property
    def card(self) -> EncoderCard:
        """The card with the options' lengths and top terms."""
        return self.options.apply_to(self.stored_card)

    @functools.cached_property
    def sources(self) -> Sources:
        """Where its base, adapter and tokenizer come from. Raises InputError, as find_sources does."""
        self.refuse_local_sources()
        return find_sources(self.stored_card, self.folder, own_card=self.is_own)

    def check_sources(self) -> None:
        """Raise InputError unless all weights at hand can be read: at once, before any work."""
        if not self.sources.base:
            raise InputError(
                f"encoder {self.stored_card.name!r}: no weights in {self.folder}, and its card names no "
                f"base; wanted model.safetensors there, or 'base' in the card (pickle is never loaded)"
            )

    @functools.cached_property
    def identity(self) -> str:
        """Name, card hash and two fingerprints: manifests hold it, searches compare it by same_encoder.

        The first fingerprint is the one of older manifests, so that they still name the same encoder.
        """
        old = f"{self.stored_card.name}@{self.stored_card.hash()[:_DIGITS]}-{self._ends_fingerprint()}"
        return f"{old}-{self.fingerprint}"

    @property
    def source(self) -> str:
        """Where the weights come from, for people."""
        where = "on the hub"
        if self.folder is not None:
            where = f"at {self.folder}"
        return "; ".join([where, *self.sources.notices])

    @functools.cached_property
    def commits(self) -> dict[str, str]:
        """Commit of each part on the hub, by id; empty where nobody knows it. Loads take these commits.

        A revision, of the options or the card, is that of the repository with the encoder's own weights.
        """
        found = {}
        for part in self.sources.on_hub:
            revision = ""
            if part == self._own_part:
                revision = self.options.revision or self.stored_card.revision
            found[part] = hub.commit_of(part, revision) or revision
        return found

    @functools.cached_property
    def lexical_file(self) -> Path | None:
        """File of its tokens' idf, beside its own weights; None if there is none."""
        if self.folder is not None:
            file = self.folder / LEXICAL_FILE
            return file if file.is_file() else None
        if not self.commits:
            return None
        return _hub_file(self._own_part, LEXICAL_FILE, self.commits.get(self._own_part, ""))

    def lasting_name(self, text: str) -> str:
        """Return this encoder's name of `--encoder`, as it is found from any working directory and later.

        The name keeps no option but the revision. It names the commit of weights on the hub where that is
        known, since the main branch may move on.
        """
        name, _ = parse_encoder_name(canonical_name(text))
        if not is_card(name) and os.path.isdir(name):
            return os.path.abspath(name)
        revision = self.options.revision
        is_pinned = bool(self.stored_card.revision) and not revision
        if not is_pinned and (is_card(name) or name == self._own_part):
            revision = self.commits.get(self._own_part) or revision
        if not revision:
            return name
        return f"{name}:revision={revision}"

    @property
    def _own_part(self) -> str:
        """Adapter or base whose repository a revision is of."""
        return self.sources.adapter or self.sources.base

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits that tell weights apart: all bytes of weights, adapter, tokenizer and configuration.

        For parts on the hub: their names, revision and commit.
        """
        card = self.stored_card
        digest = hashlib.sha256(f"{card.base}@{card.revision}+{card.adapter}\n".encode())
        for part, commit in self.commits.items():
            digest.update(f"{part} {commit}\n".encode())
        for file in self.sources.files:
            digest.update(f"{file.name} {cached_hash(file, csplade_home())}\n".encode())
        return digest.hexdigest()[:_DIGITS]

    def refuse_local_sources(self) -> None:
        """Raise InputError if a card that is not the user's own names a folder or file of this machine.

        Installed packages are allowed, except as adapters. A folder here whose path has the form of a Hugging
        Face id, OWNER/REPOSITORY, counts as a folder.
        """
        if self.is_own:
            return
        for key in ("base", "adapter", "tokenizer"):
            source = getattr(self.stored_card, key)
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
                f"the card of {self.stored_card.name}: {key} is {source!r}, {problem}; a card that ships or "
                f"is on the hub may name Hugging Face ids alone (a {CARD_FILE} of your own may name folders)"
            )

    def _ends_fingerprint(self) -> str:
        """Fingerprint of older manifests: sizes, heads and tails of the folder's weights."""
        card = self.stored_card
        digest = hashlib.sha256(f"{card.base}@{card.revision}+{card.adapter}".encode())
        files: list[Path] = []
        if self.folder is not None:
            files = sorted(self.folder.glob("*.safetensors"))
            files = [file for file in files if file.name != TABLE_FILE]
        for path in files:
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode())
            with path.open("rb") as file:
                digest.update(file.read(_END_BYTES))
                file.seek(max(0, size - _END_BYTES))
                digest.update(file.read())
        return digest.hexdigest()[:_DIGITS]


def same_encoder(one: str, other: str) -> bool:
    """Whether two identities name one encoder. One of an older manifest lacks the second fingerprint."""
    return one == other or one.startswith(f"{other}-") or other.startswith(f"{one}-")


def find_checkpoint(text: str, **overrides: str | int | None) -> Checkpoint:
    """Find the encoder of `NAME[:key=value,...]`: its card and where its weights are.

    overrides: options that win over those in the name, unless None. Raises InputError on a bad option,
    an unknown name or missing weights.
    """
    name, options = parse_encoder_name(text)
    options = options.override(**overrides)
    checkpoint = _checkpoint(name, options.revision or "")
    if options.revision and checkpoint.folder is not None:
        raise InputError(no_revision(checkpoint.folder, options.revision))
    return dataclasses.replace(checkpoint, options=options)


def find_maker(identity: str, origin: object, name: str = "") -> tuple[str, Checkpoint]:
    """Find the encoder of an identity, and the name that leads to it here.

    origin: what it encoded, for errors. name: what `--encoder` was then; else its card's name is all there
    is. If only another encoder has its name here, that one is returned: callers compare identities. Raises
    InputError if there is none.
    """
    card_name, _, _ = identity.partition("@")
    others: list[tuple[str, Checkpoint]] = []
    problem = ""
    for candidate in dict.fromkeys(filter(None, (name, card_name))):
        try:
            checkpoint = find_checkpoint(candidate)
            found = checkpoint.identity
        except InputError as error:
            problem = str(error)
            continue
        if same_encoder(found, identity):
            return candidate, checkpoint
        others.append((candidate, checkpoint))
    if not others:
        raise InputError(
            f"{origin} was encoded by {identity}, which is not here: --encoder names its folder ({problem})"
        )
    return others[0]


def weights_state(name: str) -> str:
    """Where a shipped card's weights are: `here`, `on the hub`, `not here`, or `unread` if they cannot be."""
    try:
        checkpoint = find_checkpoint(name)
        checkpoint.check_sources()
    except InputError:
        if any(has_weights(folder) for folder in weight_folders(find_stored_card(name))):
            return "unread"
        return "not here"
    if checkpoint.folder is None:
        return "on the hub"
    return "here"


def weight_folders(card: EncoderCard) -> list[Path]:
    """Folders where a shipped card's weights are looked for, in order."""
    folders = [cards_folder() / card.name]
    home = csplade_home()
    if home is not None:
        folders.insert(0, home / "encoders" / card.name)
    return folders


def find_table(name: str, revision: str = "") -> Path | None:
    """Find the table of token weights of a name without options: beside its weights, or in its repository.

    revision: that of the repository. None if there is none. The weights themselves may be missing.
    """
    for folder in table_folders(name):
        table = Path(folder) / TABLE_FILE
        if table.is_file():
            return table
    if is_card(name) or os.path.isdir(name) or not is_hub_id(name):
        return None
    commit = hub.commit_of(name, revision) or revision
    return _hub_file(name, TABLE_FILE, commit)


def _hub_file(name: str, file: str, commit: str) -> Path | None:
    """File of a repository, from the cache or the hub; None if there is none, or no answer."""
    cached = hub.cached_file(name, file, commit)
    if cached is not None:
        return cached
    try:
        if hub.has_file(name, file, commit, anonymous=False):
            return hub.download(name, file, commit)
    except hub.NoAnswerError:
        pass
    return None


def table_folders(name: str) -> list[str]:
    """Folders where the table of a name without options is looked for, in order."""
    if is_card(name):
        return [str(folder) for folder in weight_folders(find_stored_card(name))]
    return [name]


def _checkpoint(name: str, revision: str) -> Checkpoint:
    card = find_stored_card(name, revision)
    if is_card(name):
        return _shipped(card)
    if os.path.isdir(name):
        return Checkpoint(card, Path(name))
    Checkpoint(card, None, is_own=False).refuse_local_sources()
    return Checkpoint(_hub_card_with_source(card, name), None, is_own=False)


def _shipped(card: EncoderCard) -> Checkpoint:
    """Find the weights of a shipped card. A card beside the weights replaces it."""
    for folder in weight_folders(card):
        if not has_weights(folder):
            continue
        own_card = folder / CARD_FILE
        if own_card.is_file():
            return Checkpoint(read_card(own_card), folder)
        return Checkpoint(card, folder, is_own=False)
    if card.weights == "hub":
        return Checkpoint(card, None, is_own=False)
    looked = " and ".join(str(folder) for folder in weight_folders(card))
    if csplade_home() is None:
        looked += "; there is no home folder and no CSPLADE_HOME"
    raise InputError(f"encoder {card.name!r} has no weights here: {card.install} Looked in {looked}.")


def _hub_card_with_source(card: EncoderCard, name: str) -> EncoderCard:
    """Fill in the repository `name` as the card's base or adapter."""
    if card.base in ("", name):
        return dataclasses.replace(card, base=name)
    # A repository with weights of its own over another base can only hold an adapter.
    return dataclasses.replace(card, adapter=card.adapter or name)
