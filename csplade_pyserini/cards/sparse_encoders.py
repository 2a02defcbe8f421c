"""Cards of folders that `sentence_transformers.SparseEncoder.save_pretrained` wrote.

A causal language model with SPLADE pooling is an encoder of ours. Anything that a card cannot say is refused
with the reason. Nothing of a folder is run, and only its JSON files are read.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from csplade_pyserini.cards.card import Attention, EncoderCard
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.json_text import parse_json
from csplade_pyserini.files.tables import read_json

MODULES_FILE = "modules.json"
_MODEL_FILE = "config_sentence_transformers.json"
_TRANSFORMER_FILES = ("sentence_bert_config.json", "transformer_config.json")
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
"""Prompts that encode_document takes, the first one that there is."""
_LONGEST = 1_000_000
"""Lengths above mean that a tokenizer has none."""
_MASKED = "fill-mask"


def is_sparse_encoder_folder(name: str) -> bool:
    """Whether a name is a folder that sentence-transformers wrote."""
    return os.path.isfile(os.path.join(name, MODULES_FILE))


def is_readable_folder(name: str) -> bool:
    """Whether a name is such a folder, and an encoder of ours can be made of it."""
    if not is_sparse_encoder_folder(name):
        return False
    try:
        derived_card(Path(name))
    except InputError:
        return False
    return True


def derived_card(folder: Path) -> EncoderCard:
    """Make the card of a folder. Raises InputError that says what a card cannot express."""
    try:
        return _derived(folder)
    except (AttributeError, TypeError) as error:  # a table where another type was wanted
        raise InputError(f"the configuration in {folder} is broken: {error}") from error


def _derived(folder: Path) -> EncoderCard:
    transformer, pooling = _modules(folder)
    model = _read(folder / _MODEL_FILE)
    _check_transformer(folder, transformer)
    _check_pooling(folder, pooling)
    if model.get("similarity_fn_name") not in (None, "dot"):
        raise _refusal(
            folder, f"its similarity is {model['similarity_fn_name']!r}; Lucene has inner products"
        )
    base = _adapter_base(folder)
    config = _read(Path(base) / "config.json") if base else _read(folder / "config.json")
    kind = str(config.get("model_type") or "model")
    add_bos, add_eos = _special_tokens(folder)
    length = _length(folder, transformer, config) - add_bos - add_eos
    lowercase = bool(transformer.get("do_lower_case"))
    query_prefix, document_prefix = _prompts(folder, model)
    if lowercase:
        query_prefix = query_prefix.lower()
        document_prefix = document_prefix.lower()
    top_terms = model.get("max_active_dims") or 0
    if length < 1 or type(top_terms) is not int or top_terms < 0:
        raise _refusal(folder, f"its length is {length} and its max_active_dims {top_terms!r}")
    return EncoderCard(
        name=f"sentence-transformers-{kind}",
        summary="made of a folder of sentence-transformers",
        base=base,
        attention=_attention(config),
        lowercase=lowercase,
        add_bos=add_bos,
        add_eos=add_eos,
        query_prefix=query_prefix,
        document_prefix=document_prefix,
        query_max_length=length,
        document_max_length=length,
        query_top_terms=top_terms,
        document_top_terms=top_terms,
    )


def _refusal(folder: Path, reason: str) -> InputError:
    return InputError(
        f"{folder} was written by sentence-transformers, and {reason}: no card can say that; "
        f"write a card.toml beside it if you know what it means"
    )


def _modules(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configurations of the folder's transformer and pooling. Raises InputError on any other module."""
    file = folder / MODULES_FILE
    try:
        modules = parse_json(file.read_text(encoding="utf-8-sig"))
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
        paths = [str(module["path"]) for module in modules]
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise InputError(f"{file} is no list of modules: {error!r}") from error
    if any(Path(path).is_absolute() or ".." in Path(path).parts for path in paths):
        raise InputError(f"{file} names a folder that is not below its own")
    if len(kinds) != 2 or kinds[0] not in ("Transformer", "MLMTransformer") or kinds[1] != "SpladePooling":
        raise _refusal(folder, f"its modules are {', '.join(kinds)}; wanted Transformer, SpladePooling")
    if paths[0]:
        raise _refusal(folder, f"its weights lie in {paths[0]}; wanted them in the folder itself")
    transformer = _transformer(folder)
    if kinds[0] == "MLMTransformer":
        transformer = {"transformer_task": _MASKED, **transformer}
    return transformer, _read(folder / paths[1] / "config.json")


def _transformer(folder: Path) -> dict[str, Any]:
    for name in _TRANSFORMER_FILES:
        if (folder / name).is_file():
            return _read(folder / name)
    return {}


def _read(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}


def _check_transformer(folder: Path, transformer: Mapping[str, Any]) -> None:
    task = transformer.get("transformer_task", "feature-extraction")
    architectures = _read(folder / "config.json").get("architectures") or []
    if task == _MASKED or any(str(name).endswith("ForMaskedLM") for name in architectures):
        raise InputError(
            f"{folder} is a SPLADE encoder over a masked language model, which Pyserini reads by itself: "
            f"give it to Pyserini's own commands as --encoder {folder}; cards are for causal language models"
        )
    if task != "text-generation":
        raise _refusal(folder, f"its transformer_task is {task!r}; wanted 'text-generation', a causal LM")
    text = (transformer.get("modality_config") or {}).get("text") or {}
    output = text.get("method_output_name")
    if output != "logits" or transformer.get("module_output_name") != "token_embeddings":
        raise _refusal(
            folder,
            f"it pools {output!r} as {transformer.get('module_output_name')!r}; "
            f"wanted 'logits' as 'token_embeddings'",
        )
    kept = _text_options(transformer).get("logits_to_keep", 1)
    if kept != 0:
        raise _refusal(
            folder,
            f"it pools the logits of the last {kept} tokens; wanted those of all, which it keeps with "
            f'processing_kwargs={{"text": {{"logits_to_keep": 0}}}}',
        )
    if transformer.get("query_expansion"):
        raise _refusal(folder, "it expands queries by special tokens")


def _check_pooling(folder: Path, pooling: Mapping[str, Any]) -> None:
    for key, wanted in (("pooling_strategy", "max"), ("activation_function", "relu")):
        found = pooling.get(key, wanted)
        if found != wanted:
            raise _refusal(folder, f"its {key} is {found!r}; wanted {wanted!r}")


def _text_options(transformer: Mapping[str, Any]) -> dict[str, Any]:
    return (transformer.get("processing_kwargs") or {}).get("text") or {}


def _adapter_base(folder: Path) -> str:
    """Base of a folder's adapter; empty if it has none."""
    file = folder / "adapter_config.json"
    if not file.is_file():
        return ""
    return str(read_json(file).get("base_model_name_or_path") or "")


def _attention(config: Mapping[str, Any]) -> Attention:
    if config.get("is_causal") is False or config.get("use_bidirectional_attention") is True:
        return "bidirectional"
    return "causal"


def _prompts(folder: Path, model: Mapping[str, Any]) -> tuple[str, str]:
    """Prompts of queries and documents, as encode_query and encode_document choose them."""
    prompts = model.get("prompts") or {}
    default = prompts.get(model.get("default_prompt_name")) or ""
    query = prompts.get("query", default)
    document = next((prompts[name] for name in _DOCUMENT_PROMPTS if name in prompts), default)
    if not isinstance(query, str) or not isinstance(document, str):
        raise _refusal(folder, f"its prompts are {prompts!r}")
    return query, document


def _length(folder: Path, transformer: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """Tokens of a text, BOS and EOS included: the first length that is set anywhere."""
    text = _text_options(transformer)
    tokenizer = _read(folder / "tokenizer_config.json")
    lengths = (
        transformer.get("max_seq_length"),
        text.get("max_length"),
        tokenizer.get("model_max_length"),
        config.get("max_position_embeddings"),
    )
    for length in lengths:
        if type(length) is int and 0 < length < _LONGEST:
            return length
    raise _refusal(folder, "it names no length")


def _special_tokens(folder: Path) -> tuple[bool, bool]:
    """Whether its tokenizer puts BOS before and EOS behind a text."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise _refusal(folder, "it has no tokenizer.json")
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library has no class of its own
        raise InputError(f"{file} is no tokenizer: {error}") from error
    tokens = tokenizer.encode("a").tokens
    plain = tokenizer.encode("a", add_special_tokens=False).tokens
    names = _read(folder / "tokenizer_config.json")
    bos, eos = (_token(names.get(key)) for key in ("bos_token", "eos_token"))
    for add_bos in (False, True):
        for add_eos in (False, True):
            if tokens == [bos] * add_bos + plain + [eos] * add_eos:
                return add_bos, add_eos
    raise _refusal(folder, f"its tokenizer makes {' '.join(tokens)} of a text 'a'")


def _token(value: object) -> str:
    if isinstance(value, dict):
        value = value.get("content")
    return str(value)
