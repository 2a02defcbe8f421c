"""Pickled weights are converted whole, whatever a trainer wrapped them in, or not at all."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from programs import run_python
from tiny_models import TEXTS, tiny_model

from csplade_pyserini import load_encoder
from csplade_pyserini.cards import EncoderCard, find_checkpoint, write_card
from csplade_pyserini.errors import InputError
from csplade_pyserini.model import conversion, unpickle

TARGETS = ["q_proj", "v_proj", "down_proj"]
State = dict[str, torch.Tensor]


@pytest.fixture
def in_process(monkeypatch):
    """Convert in this process: the tests of keys need no new interpreter each."""

    def convert(job):
        try:
            return json.loads(json.dumps(unpickle.convert(job)))
        except unpickle.ConversionError as error:
            raise InputError(f"nothing was converted: {error}") from error

    monkeypatch.setattr(conversion, "_in_another_process", convert)


@pytest.fixture
def adapted():
    """A tiny model with a LoRA adapter, whose weights are random."""
    torch.manual_seed(1)
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=TARGETS, init_lora_weights=False, task_type="CAUSAL_LM"
    )
    return get_peft_model(tiny_model("llama"), config)


@pytest.fixture
def adapter_folder(adapted, checkpoint_folder, tmp_path) -> Path:
    """The adapter as safetensors: what a conversion has to give."""
    adapted.save_pretrained(tmp_path / "adapter")
    card = EncoderCard(name="adapted", base=str(checkpoint_folder), attention="bidirectional")
    write_card(card, tmp_path / "adapter" / "card.toml")
    return tmp_path / "adapter"


@pytest.fixture
def whole_folder(checkpoint_folder, tmp_path) -> Path:
    return shutil.copytree(checkpoint_folder, tmp_path / "whole")


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {prefix + key: value for key, value in state.items()}


def within(part: str, before: str) -> Callable[[State], State]:
    return lambda state: {key.replace(before, f"{part}.{before}"): value for key, value in state.items()}


WRAPPED = {
    "plain": dict,
    "DDP": prefixed("module."),
    "DDP of torch.compile": prefixed("module._orig_mod."),
    "FSDP": within("_fsdp_wrapped_module", "layers."),
    "Tevatron": prefixed("encoder."),
    "Lion-SP": prefixed("base_model."),
    "checkpointing": within("_checkpoint_wrapped_module", "self_attn."),
    "a trainer's nest": lambda state: {"state_dict": state, "epoch": 3},
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_an_adapter_has_the_vectors_of_its_safetensors(in_process, adapted, adapter_folder, wrapper):
    before = load_encoder(str(adapter_folder)).weights(TEXTS)
    (adapter_folder / "adapter_model.safetensors").unlink()
    state = WRAPPED[wrapper](get_peft_model_state_dict(adapted))
    torch.save(state, adapter_folder / "adapter_model.bin")
    with pytest.raises(InputError, match=f"adapter_model.bin.*cards --convert {adapter_folder}"):
        find_checkpoint(str(adapter_folder)).check_sources()
    said = conversion.convert_folder(adapter_folder)
    assert said[0].startswith(
        f"{adapter_folder}: adapter_model.bin -> adapter_model.safetensors: 12 tensors, "
    )
    assert said[0].endswith("float32; adapter_model.bin kept")
    assert len(said) == 1 + (wrapper not in ("plain", "a trainer's nest"))
    assert (adapter_folder / "adapter_model.bin").is_file()
    assert torch.equal(load_encoder(str(adapter_folder)).weights(TEXTS), before)


def test_a_whole_state_with_lora_layers_gives_its_adapter_alone(in_process, adapted, adapter_folder):
    before = load_encoder(str(adapter_folder)).weights(TEXTS)
    (adapter_folder / "adapter_model.safetensors").unlink()
    torch.save(prefixed("module.")(adapted.state_dict()), adapter_folder / "pytorch_model_fsdp.bin")
    said = conversion.convert_folder(adapter_folder)
    assert "tensors left out, as the base or the config gives them" in said[-1]
    (adapter_folder / "pytorch_model_fsdp.bin").unlink()
    assert torch.equal(load_encoder(str(adapter_folder)).weights(TEXTS), before)


@pytest.mark.parametrize(("wrapper", "tied"), [*((name, True) for name in WRAPPED), ("plain", False)])
def test_whole_weights_have_the_vectors_of_their_safetensors(in_process, whole_folder, wrapper, tied):
    """Also where LM head and embeddings share their memory, as in Llama-3.2-1B."""
    model = tiny_model("llama", tie_word_embeddings=tied)
    model.save_pretrained(whole_folder)
    before = load_encoder(str(whole_folder)).weights(TEXTS)
    (whole_folder / "model.safetensors").unlink()
    torch.save(WRAPPED[wrapper](model.state_dict()), whole_folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="pytorch_model.bin.*cards --convert"):
        load_encoder(str(whole_folder))
    conversion.convert_folder(whole_folder)
    assert torch.equal(load_encoder(str(whole_folder)).weights(TEXTS), before)


def test_shards_are_converted_each_and_get_an_index(in_process, whole_folder):
    before = load_encoder(str(whole_folder)).weights(TEXTS)
    (whole_folder / "model.safetensors").unlink()
    state = tiny_model("llama").state_dict()
    halves = dict(list(state.items())[::2]), dict(list(state.items())[1::2])
    for number, half in enumerate(halves, start=1):
        torch.save(half, whole_folder / f"pytorch_model-0000{number}-of-00002.bin")
    (whole_folder / "pytorch_model.bin.index.json").write_text("{}")
    with pytest.raises(InputError, match="pytorch_model-00001-of-00002.bin, pytorch_model-00002"):
        load_encoder(str(whole_folder))
    conversion.convert_folder(whole_folder)
    assert torch.equal(load_encoder(str(whole_folder)).weights(TEXTS), before)
    (whole_folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        InputError, match="lacks model-00002-of-00002.safetensors, which model.safetensors.index"
    ):
        load_encoder(str(whole_folder))


def broken(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04 no zip")


def of_another_model(folder: Path) -> None:
    torch.save(tiny_model("gpt2").state_dict(), folder / "pytorch_model.bin")


def half(folder: Path) -> None:
    state = tiny_model("llama").state_dict()
    torch.save(dict(list(state.items())[:5]), folder / "pytorch_model.bin")


def one_of_two_shards(folder: Path) -> None:
    torch.save(tiny_model("llama").state_dict(), folder / "pytorch_model-00001-of-00002.bin")
    torch.save(tiny_model("llama").state_dict(), folder / "pytorch_model-00001-of-00003.bin")


def numbers(folder: Path) -> None:
    torch.save({"weight": torch.ones(1), "epoch": 3}, folder / "pytorch_model.bin")


def nothing(folder: Path) -> None:
    torch.save({"state": 1}, folder / "optimizer.pt")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (broken, "pytorch_model.bin is not read"),
        (of_another_model, "28 keys are none of the config's model: transformer.h.0"),
        (half, "weights of the config's model are missing"),
        (one_of_two_shards, "wanted one of them, or all shards of one"),
        (numbers, "'epoch' is int; wanted a tensor"),
        (nothing, "holds no pickled weights"),
    ],
)
def test_what_cannot_be_converted_is_told_and_leaves_nothing(in_process, whole_folder, spoil, told):
    (whole_folder / "model.safetensors").unlink()
    spoil(whole_folder)
    before = sorted(whole_folder.iterdir())
    with pytest.raises(InputError, match=told):
        conversion.convert_folder(whole_folder)
    assert sorted(whole_folder.iterdir()) == before


def test_safetensors_are_never_overwritten(in_process, whole_folder):
    before = (whole_folder / "model.safetensors").read_bytes()
    torch.save(tiny_model("llama", seed=5).state_dict(), whole_folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="model.safetensors exists already"):
        conversion.convert_folder(whole_folder)
    assert (whole_folder / "model.safetensors").read_bytes() == before


class Planted:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_the_command_converts_and_runs_no_pickle(adapted, adapter_folder, tmp_path):
    weights = adapter_folder / "adapter_model.safetensors"
    weights.unlink()
    torch.save(get_peft_model_state_dict(adapted), adapter_folder / "adapter_model.bin")
    done = run_python("-m", "csplade_pyserini.cards", "--convert", adapter_folder)
    assert (done.returncode, weights.is_file()) == (0, True), done.stderr
    assert done.stdout.startswith(
        f"{adapter_folder}: adapter_model.bin -> adapter_model.safetensors: 12 tensors"
    )
    weights.unlink()
    (adapter_folder / "adapter_model.bin").write_bytes(pickle.dumps(Planted(tmp_path / "planted")))
    done = run_python("-m", "csplade_pyserini.cards", "--convert", adapter_folder)
    assert done.returncode == 2
    assert "nothing was converted: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not weights.exists()
    assert not (tmp_path / "planted").exists()
