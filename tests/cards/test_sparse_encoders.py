"""Cards of sentence-transformers' folders, from their files alone."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, processors

from csplade_pyserini.cards import find_card, is_ours
from csplade_pyserini.errors import InputError

ROOT = "sentence_transformers.base.modules.transformer.Transformer"
SPLADE = "sentence_transformers.sparse_encoder.modules.splade_pooling.SpladePooling"
TASK = {
    "transformer_task": "text-generation",
    "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
    "module_output_name": "token_embeddings",
    "max_seq_length": 32,
    "processing_kwargs": {"text": {"logits_to_keep": 0}},
}


@pytest.fixture
def folder(tmp_path, byte_tokenizer) -> Path:
    files = {
        "modules.json": [{"type": ROOT, "path": ""}, {"type": SPLADE, "path": "1_SpladePooling"}],
        "sentence_bert_config.json": TASK,
        "config_sentence_transformers.json": {"prompts": {}},
        "config.json": {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
        "1_SpladePooling/config.json": {"pooling_strategy": "max", "activation_function": "relu"},
    }
    byte_tokenizer.save_pretrained(tmp_path)
    for name, table in files.items():
        write(tmp_path / name, table)
    return tmp_path


def write(file: Path, table: object) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(table))


def test_an_older_form_has_its_length_in_the_transformers_file(folder):
    card = find_card(str(folder))
    assert (card.attention, card.query_max_length, card.add_bos, card.add_eos) == ("causal", 32, False, False)
    assert is_ours(str(folder))


@pytest.mark.parametrize(
    ("template", "added"),
    [("<s> $A", (True, False)), ("$A </s>", (False, True)), ("<s> $A </s>", (True, True))],
)
def test_tokens_that_the_tokenizer_adds_are_on_the_card_and_not_in_the_length(folder, template, added):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    tokenizer.save(str(folder / "tokenizer.json"))
    card = find_card(str(folder))
    assert (card.add_bos, card.add_eos) == added
    assert card.document_max_length == 32 - sum(added)


def test_a_tokenizer_that_adds_something_else_is_refused(folder):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> <s> $A", special_tokens=ids)
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(InputError, match="its tokenizer makes <s> <s> a of a text"):
        find_card(str(folder))


@pytest.mark.parametrize(
    ("prompts", "query", "document"),
    [
        ({"query": "q: ", "document": "d: "}, "q: ", "d: "),
        ({"query": "q: ", "passage": "p: ", "corpus": "c: "}, "q: ", "p: "),
        ({"corpus": "c: "}, "", "c: "),
        ({"default": "x: "}, "", ""),
    ],
)
def test_prompts_are_those_that_its_encode_methods_choose(folder, prompts, query, document):
    write(folder / "config_sentence_transformers.json", {"prompts": prompts})
    card = find_card(str(folder))
    assert (card.query_prefix, card.document_prefix) == (query, document)


def test_a_default_prompt_is_that_of_both_sides(folder):
    table = {"prompts": {"x": "x: "}, "default_prompt_name": "x"}
    write(folder / "config_sentence_transformers.json", table)
    assert find_card(str(folder)).query_prefix == find_card(str(folder)).document_prefix == "x: "


def test_is_causal_is_read_and_so_is_lower_case(folder):
    write(folder / "config.json", {"model_type": "qwen3", "is_causal": False})
    write(folder / "sentence_bert_config.json", TASK | {"do_lower_case": True})
    write(folder / "config_sentence_transformers.json", {"prompts": {"query": "Query: "}})
    card = find_card(str(folder))
    assert (card.attention, card.lowercase, card.query_prefix) == ("bidirectional", True, "query: ")


def test_an_adapter_names_its_base(folder, tmp_path):
    write(folder / "adapter_config.json", {"base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M"})
    assert find_card(str(folder)).base == "HuggingFaceTB/SmolLM2-135M"


@pytest.mark.parametrize("task", ["fill-mask", "text-generation"])
def test_splade_over_bert_is_pyserinis_own_business(folder, task):
    write(folder / "config.json", {"model_type": "bert", "architectures": ["BertForMaskedLM"]})
    write(folder / "sentence_bert_config.json", TASK | {"transformer_task": task})
    with pytest.raises(InputError, match="masked language model, which Pyserini reads by itself"):
        find_card(str(folder))
    assert not is_ours(str(folder))


def test_an_old_folder_over_bert_has_a_module_of_that_kind(folder):
    kind = "sentence_transformers.sparse_encoder.models.MLMTransformer"
    write(folder / "modules.json", [{"type": kind, "path": ""}, {"type": SPLADE, "path": "1_SpladePooling"}])
    (folder / "sentence_bert_config.json").unlink()
    with pytest.raises(InputError, match="which Pyserini reads by itself"):
        find_card(str(folder))


@pytest.mark.parametrize(
    ("modules", "reason"),
    [
        ([{"type": ROOT, "path": ""}], "its modules are Transformer; wanted Transformer, SpladePooling"),
        ([{"type": "x.Router", "path": ""}, {"type": SPLADE, "path": "1"}], "its modules are Router, Splade"),
        ([{"type": ROOT, "path": "0_T"}, {"type": SPLADE, "path": "1"}], "its weights lie in 0_T"),
        ([{"type": ROOT, "path": ""}, {"type": SPLADE, "path": "../x"}], "not below its own"),
        ({"type": ROOT}, "is no list of modules"),
        (["x"], "is no list of modules"),
    ],
)
def test_other_modules_are_refused(folder, modules, reason):
    write(folder / "modules.json", modules)
    with pytest.raises(InputError, match=reason):
        find_card(str(folder))
    assert not is_ours(str(folder))


def test_a_folder_of_a_dense_model_is_not_ours(folder):
    dense = "sentence_transformers.models.Pooling"
    write(folder / "modules.json", [{"type": ROOT, "path": ""}, {"type": dense, "path": "1_Pooling"}])
    assert not is_ours(str(folder))


@pytest.mark.parametrize("key", ["modality_config", "processing_kwargs"])
def test_a_broken_configuration_is_one_sentence(folder, key):
    write(folder / "sentence_bert_config.json", TASK | {key: ["text"]})
    with pytest.raises(InputError, match="is broken"):
        find_card(str(folder))
    assert not is_ours(str(folder))
