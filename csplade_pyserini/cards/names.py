"""Encoder names: `NAME[:key=value,...]`, and the card that a name means.

NAME is a card, an alias, a checkpoint folder with its own card.toml, or a Hugging Face id whose
repository has a card.toml. `NAME-lookup` is short for `NAME:query=lookup`.
"""

import dataclasses
import difflib
import functools
import importlib.resources
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from csplade_pyserini.cards import hub
from csplade_pyserini.cards.card import EncoderCard, is_revision, read_card
from csplade_pyserini.cards.sparse_encoders import derived_card, is_readable_folder, is_sparse_encoder_folder
from csplade_pyserini.errors import InputError

CARD_FILE = "card.toml"
PREFIXES = ("query_prefix", "document_prefix")
DTYPES = ("float32", "bfloat16", "float16")
QUANTIZATIONS = ("none", "int8", "int4", "int8-dynamic", "bnb-int8", "bnb-nf4")
QUERIES = ("model", "lookup", "encoder")
LOOKUP_SUFFIX = "-lookup"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_MOST_DIGITS = 9
_NEAR = 0.75
"""Least likeness of a mistyped name and a card's, from 0 to 1."""
_MOST_NEAR = 3
"""Number of names that a question offers."""


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """Options behind an encoder's name: `NAME:device=cpu,max_length=128`. None means as the card says."""

    device: str | None = None
    """`cpu`, `cuda`, `cuda:1`, ...; default: CUDA if there is one, else CPU."""
    dtype: str | None = None
    """`float32`, `bfloat16` or `float16`; default: float16 on CUDA (bfloat16 with int4), float32 on CPU."""
    quantization: str | None = None
    """`none`; by torchao `int8`, `int4` (weights only) or `int8-dynamic` (activations too); by
    bitsandbytes `bnb-int8`, `bnb-nf4`."""
    max_length: int | None = None
    """Tokens of prefix and text, for queries and documents alike."""
    top_terms: int | None = None
    """Number of terms kept, for queries and documents alike; 0 keeps all."""
    query_prefix: str | None = None
    """Text before each query; it may hold no comma. Empty for none."""
    document_prefix: str | None = None
    """Text before each document; it may hold no comma. Empty for none."""
    query: str | None = None
    """How queries are made: by the `model`, by a `lookup` in the table beside its card, or by the `encoder`
    that the card names as `query_encoder`."""
    revision: str | None = None
    """Commit, tag or branch of the encoder's repository on the hub; it wins over the card's."""

    def apply_to(self, card: EncoderCard) -> EncoderCard:
        """Return the card with the lengths, top terms and prefixes of these options."""
        changes: dict[str, str | int] = {}
        for key in ("max_length", "top_terms"):
            value = getattr(self, key)
            if value is not None:
                changes |= {f"query_{key}": value, f"document_{key}": value}
        for key in PREFIXES:
            value = getattr(self, key)
            if value is not None:
                changes[key] = value
        return dataclasses.replace(card, **changes)  # type: ignore[arg-type]

    def apply_queries(self, card: EncoderCard) -> EncoderCard:
        """Return the card with the query side of these options. Documents do not depend on it.

        Raises InputError if queries are to be made by an encoder, and the card names none.
        """
        if self.query is None:
            return card
        if self.query == "encoder":
            if not card.query_encoder:
                raise InputError(f"query is 'encoder', but the card {card.name} names no query_encoder")
            return dataclasses.replace(card, query="model")
        return dataclasses.replace(card, query=self.query, query_encoder="")  # type: ignore[arg-type]

    def override(self, **given: str | int | None) -> "EncoderOptions":
        """Return the options with those given (not None) in place of these."""
        changes = {key: value for key, value in given.items() if value is not None}
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def parse_encoder_name(text: str) -> tuple[str, EncoderOptions]:
    """Split `NAME[:key=value,...]` into name and options. Raises InputError on a bad key or value.

    `NAME-lookup` has the name NAME and the option `query=lookup`.
    """
    name, *tail = _parts(text)
    pairs: list[tuple[str, str | int]] = []
    if tail:
        pairs = [_parse_option(pair, text) for pair in tail[0].split(",")]
    if _is_lookup(name):
        name = name[: -len(LOOKUP_SUFFIX)]
        pairs.append(("query", "lookup"))
    options = dict(pairs)
    if len(options) < len(pairs):
        raise InputError(f"encoder {text!r}: a key stands twice")
    return name, EncoderOptions(**options)  # type: ignore[arg-type]


def _parts(text: str) -> list[str]:
    """Name, and options if there are any, as they stand in the text. Raises InputError on a stray `=`."""
    if os.path.isdir(text) or "=" not in text:
        return [text]
    parts = re.split(r":(?=\w+=)", text, maxsplit=1)  # not the colon of device=cuda:1
    if len(parts) == 1 or not parts[0]:
        raise InputError(f"encoder {text!r}: wanted NAME or NAME:key=value,...")
    return parts


def _is_lookup(name: str) -> bool:
    """Whether a name is that of an encoder of ours with LOOKUP_SUFFIX behind it. Asks no hub.

    A card, a folder or a repository whose own name ends so comes first.
    """
    stem = name[: -len(LOOKUP_SUFFIX)]
    if not name.lower().endswith(LOOKUP_SUFFIX) or _is_known(name) or os.path.isfile(name):
        return False
    return _is_known(stem)


def _is_known(name: str) -> bool:
    """Whether a name is a card's, a checkpoint folder's, or a repository's whose card is in the cache."""
    if name.lower() in _card_names() or _folder_card(name) is not None:
        return True
    return _may_be_on_hub(name) and hub.cached_file(name, CARD_FILE) is not None


def _parse_option(pair: str, text: str) -> tuple[str, str | int]:
    key, _, value = pair.partition("=")
    known = [field.name for field in dataclasses.fields(EncoderOptions)]
    if key not in known:
        raise InputError(f"encoder {text!r}: unknown key {key!r}; known: {', '.join(known)}")
    if key in ("max_length", "top_terms"):
        least = int(key == "max_length")
        if not value.isdecimal() or len(value) > _MOST_DIGITS or int(value) < least:
            raise InputError(f"encoder {text!r}: {key} is {value!r}; wanted a whole number, at least {least}")
        return key, int(value)
    if key in PREFIXES:
        return key, value
    if not value:
        raise InputError(f"encoder {text!r}: {key} has no value")
    if key == "revision" and not is_revision(value):
        raise InputError(f"encoder {text!r}: revision is {value!r}; wanted a commit, tag or branch")
    for checked, allowed in (("dtype", DTYPES), ("quantization", QUANTIZATIONS), ("query", QUERIES)):
        if key == checked and value not in allowed:
            raise InputError(f"encoder {text!r}: {key} is {value!r}; wanted one of {', '.join(allowed)}")
    return key, value


def csplade_home() -> Path | None:
    """Folder of checkpoints that do not ship with the package, and of what is computed once.

    None without CSPLADE_HOME where the user has no home folder, as in some containers.
    """
    given = os.environ.get("CSPLADE_HOME")
    if given:
        return Path(given)
    try:
        return Path.home() / ".cache" / "csplade_pyserini"
    except RuntimeError:  # HOME is unset, and the system knows no such user
        return None


def cards_folder() -> Path:
    """Folder of the shipped cards (`encoders/` in the repository)."""
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
def _card_names() -> dict[str, str]:
    """Card name of every name and alias in lower case."""
    names: dict[str, str] = {}
    for card in shipped_cards().values():
        names |= {name.lower(): card.name for name in (card.name, *card.aliases)}
    return names


def is_card(name: str) -> bool:
    """Whether a name is a shipped card's, or an alias; with LOOKUP_SUFFIX, too."""
    known = _card_names()
    return name.lower() in known or name.lower().removesuffix(LOOKUP_SUFFIX) in known


def near_misses(name: str) -> list[str]:
    """Cards whose name or alias is close to a name, the closest first; none for a name of ours.

    A card's name that goes on where `name` ends is close, too: `csplade-bi` is close to `csplade-bi-8b`.
    """
    known = _card_names()
    wanted = name.lower()
    if not wanted or is_card(wanted):
        return []
    if wanted.endswith(LOOKUP_SUFFIX):
        return [f"{near}{LOOKUP_SUFFIX}" for near in near_misses(wanted.removesuffix(LOOKUP_SUFFIX))]
    longer = [found for found in known if found.startswith(f"{wanted}-")]
    near = longer or difflib.get_close_matches(wanted, known, n=_MOST_NEAR, cutoff=_NEAR)
    return list(dict.fromkeys(known[found] for found in near))


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a Hugging Face id, `OWNER/REPOSITORY`."""
    return _HUB_ID.fullmatch(name) is not None


def is_ours(text: str) -> bool:
    """Whether an `--encoder` value names one of our encoders. Never raises, for names that are Pyserini's."""
    revision = ""
    try:
        name, options = parse_encoder_name(text)
        revision = options.revision or ""
    except InputError:
        name, _, _ = text.partition(":")
    if is_card(name):  # even where a file has the same name
        return True
    if os.path.isfile(name):
        return False
    return _folder_card(name) is not None or is_readable_folder(name) or _is_ours_on_hub(name, revision)


def canonical_name(text: str) -> str:
    """Return an encoder name with aliases and capitals of a card replaced by the card's own name."""
    name, _ = parse_encoder_name(text)
    if not is_card(name):
        return text
    return _card_names()[name.lower()] + text.removeprefix(name)


def find_card(text: str) -> EncoderCard:
    """Find the card of `NAME[:key=value,...]`, its options applied.

    Raises InputError on a bad option and, listing the known names, on an unknown name.
    """
    name, options = parse_encoder_name(text)
    card = find_stored_card(name, options.revision or "")
    return options.apply_queries(options.apply_to(card))


def with_options(text: str, options: Mapping[str, str | int]) -> str:
    """Return an encoder's name with more options, except for those that it has already. Raises InputError."""
    _, given = parse_encoder_name(text)
    added = [f"{key}={value}" for key, value in options.items() if getattr(given, key) is None]
    if not added:
        return text
    if len(_parts(text)) == 1:
        return f"{text}:{','.join(added)}"
    return ",".join([text, *added])


def find_stored_card(name: str, revision: str = "") -> EncoderCard:
    """Find the card of a name without options. Raises InputError that lists the known ones.

    revision: commit, tag or branch of its repository on the hub. A folder has none.
    """
    if name.lower() in _card_names():
        return shipped_cards()[_card_names()[name.lower()]]
    if revision and os.path.isdir(name):
        raise InputError(no_revision(name, revision))
    try:
        file = _folder_card(name) or _hub_card(name, revision)
    except hub.NoAnswerError as error:
        unknown = _unknown(name, revision)
        raise InputError(f"{unknown} (the hub could not be asked for it: {error})") from error
    if file is None and is_sparse_encoder_folder(name):
        return derived_card(Path(name))
    if file is None:
        raise InputError(_unknown(name, revision))
    return read_card(file)


def no_revision(folder: str | Path, revision: str) -> str:
    """Return the sentence for a revision that is wanted of a folder."""
    return (
        f"the revision {revision!r} is wanted, but the weights are those of the folder {folder}: "
        f"only repositories on the hub have revisions"
    )


def _unknown(name: str, revision: str) -> str:
    if os.path.isdir(name):
        return f"the folder {name} has no {CARD_FILE}: it is not a checkpoint folder of ours"
    known = ", ".join(shipped_cards())
    near = near_misses(name)
    question = ""
    if near:
        question = f"; did you mean {' or '.join(near)}?"
    where = ""
    if revision:
        where = f" at revision {revision!r}"
    return (
        f"unknown encoder {name!r}{where}; known: {known}; or a folder or Hugging Face id that holds a "
        f"{CARD_FILE}{question}"
    )


def _folder_card(name: str) -> Path | None:
    card = os.path.join(name, CARD_FILE)  # os.path takes any string, Path raises on some
    if not os.path.isfile(card):
        return None
    return Path(card)


@functools.cache
def _hub_card(name: str, revision: str) -> Path | None:
    """Find the card.toml of a Hugging Face repository, in the cache or on the hub; None if there is none.

    Raises hub.NoAnswerError if it is not in the cache and the hub cannot be asked.
    """
    if not _may_be_on_hub(name):
        return None
    cached = hub.cached_file(name, CARD_FILE, revision)
    if cached is not None:
        return cached
    if not hub.has_file(name, CARD_FILE, revision, anonymous=False):
        return None
    return hub.download(name, CARD_FILE, revision)


def _is_ours_on_hub(name: str, revision: str) -> bool:
    """Whether a Hugging Face repository holds a card of ours. Most names are Pyserini's own.

    The user's token is not sent, and a `no` of the hub is kept for a day.
    """
    if not _may_be_on_hub(name):
        return False
    if hub.cached_file(name, CARD_FILE, revision) is not None:
        return True
    if hub.is_known_foreign(_asked(name, revision), csplade_home()):
        return False
    return _hub_says_ours(name, revision)


@functools.cache
def _hub_says_ours(name: str, revision: str) -> bool:
    """Ask the hub, once per process. Without an answer the name is taken for Pyserini's, and that is said."""
    try:
        is_ours_there = hub.has_file(name, CARD_FILE, revision, anonymous=True)
    except hub.OfflineError:
        return False
    except hub.NoAnswerError as error:
        print(
            f"csplade_pyserini: the hub did not say whether {name} is an encoder of ours ({error}); "
            f"it is taken for one of Pyserini's",
            file=sys.stderr,
        )
        return False
    if not is_ours_there:
        hub.keep_foreign(_asked(name, revision), csplade_home())
    return is_ours_there


def _asked(name: str, revision: str) -> str:
    """Return the question to the hub that an answer is kept for."""
    return f"{name}@{revision}" if revision else name


def _may_be_on_hub(name: str) -> bool:
    """Whether a name is a valid Hugging Face id, and no folder or file here."""
    if not is_hub_id(name) or os.path.exists(name):
        return False
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
