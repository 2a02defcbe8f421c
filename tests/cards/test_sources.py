"""All weights that lie in a checkpoint's folder are loaded, or named: never the bare base in silence."""

import dataclasses
import json
from pathlib import Path

import pytest

from csplade_pyserini.cards import (
    Checkpoint,
    EncoderCard,
    find_checkpoint,
    read_card,
    shipped_cards,
    weights_state,
    write_card,
)
from csplade_pyserini.cards.sources import find_sources
from csplade_pyserini.errors import InputError

ADAPTER = ("adapter_model.safetensors", "adapter_config.json")


@pytest.fixture
def base(tmp_path) -> Path:
    """A base that is found."""
    return put(tmp_path / "base", "model.safetensors", "config.json", "tokenizer.json")


@pytest.fixture
def folder(base, tmp_path) -> Path:
    """A folder with a card whose base is found."""
    folder = tmp_path / "mine"
    folder.mkdir()
    write_card(EncoderCard(name="mine", base=str(base)), folder / "card.toml")
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CSPLADE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "encoders"


def put(folder: Path, *names: str) -> Path:
    """Put files of that name into a folder; an index of safetensors names no shards."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}))
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ["adapter_model.bin"],
        ["adapter_model.bin", "adapter_config.json"],
        ["adapter_config.json"],
        ["adapter_model.safetensors"],
        ["pytorch_model.bin"],
        ["PyTorch_Model.BIN"],
        ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"],
        ["pytorch_model.bin.index.json"],
        ["pytorch_model_fsdp.bin"],
        ["pytorch_model_fsdp_0/__0_0.distcp"],
        ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ["model.safetensors.index.json"],
        ["consolidated.safetensors"],
        ["consolidated.00.pth"],
        ["model.pt"],
        ["last.ckpt"],
        ["tf_model.h5"],
        ["flax_model.msgpack"],
        ["model-q4.gguf"],
        ["global_step500/mp_rank_00_model_states.pt"],
        ["checkpoint-500/adapter_model.safetensors", "checkpoint-500/adapter_config.json"],
        ["checkpoint-500/model.safetensors"],
        ["runs/a/adapter_model.bin"],
        ["adapter/adapter_model.safetensors"],
    ],
    ids=lambda names: names[0],
)
def test_weights_that_would_not_be_loaded_stop_the_load_and_are_named(folder, names):
    put(folder, *names)
    with pytest.raises(InputError) as error:
        find_checkpoint(str(folder)).check_sources()
    assert str(folder) in str(error.value)
    assert names[0] in str(error.value) or "model-00001-of-00001" in str(error.value)
    with pytest.raises(InputError):
        _ = find_checkpoint(str(folder)).identity


@pytest.mark.parametrize(
    "names",
    [
        [
            "optimizer.pt",
            "scheduler.pt",
            "rng_state.pth",
            "rng_state_0.pth",
            "training_args.bin",
            "scaler.pt",
        ],
        ["tokenizer.json", "README.md", "eval.json", "trainer_state.json", "random_states_0.pkl"],
        [".cache/huggingface/adapter_model.bin"],
    ],
    ids=lambda names: names[0],
)
def test_other_files_of_a_training_are_no_weights(folder, base, names):
    put(folder, *names)
    assert find_checkpoint(str(folder)).sources.base == str(base)


@pytest.mark.parametrize(
    ("beside", "strays"),
    [
        (["adapter_config.json"], True),
        (["consolidated.safetensors"], True),
        (["model-00001-of-00002.safetensors"], True),
        (["model.gguf"], True),
        (["model.pth"], True),
        (["pytorch_model.bin"], False),
        (["adapter_model.bin"], False),
        (["adapter_model.bin", "adapter_config.json"], False),
        (list(ADAPTER), False),
        (["checkpoint-500/model.safetensors"], False),
    ],
    ids=str,
)
def test_beside_whole_weights_only_copies_and_adapters_may_lie_and_are_named(folder, beside, strays):
    put(folder, "model.safetensors", *beside)
    checkpoint = find_checkpoint(str(folder))
    if strays:
        with pytest.raises(InputError, match=beside[0]):
            checkpoint.check_sources()
        return
    assert (checkpoint.sources.base, checkpoint.sources.adapter) == (str(folder), "")
    assert (
        f"of {folder}, model.safetensors is taken; left out: {', '.join(sorted(beside))}" in checkpoint.source
    )


@pytest.mark.parametrize("beside", ["pytorch_model.bin", "consolidated.safetensors", "model.gguf"])
def test_beside_an_adapter_other_weights_stop_the_load(folder, base, beside):
    put(folder, *ADAPTER, "adapter_model.bin")
    sources = find_checkpoint(str(folder)).sources
    assert (sources.base, sources.adapter) == (str(base), str(folder))
    assert "left out: adapter_model.bin" in sources.notices[0]
    put(folder, beside)
    with pytest.raises(InputError, match=beside):
        find_checkpoint(str(folder)).check_sources()


def test_the_error_says_what_to_do(folder):
    put(folder, "checkpoint-500/model.safetensors")
    with pytest.raises(InputError, match=f"name a folder such as {folder}/checkpoint-500 instead"):
        find_checkpoint(str(folder)).check_sources()
    put(folder, "adapter_model.bin")
    with pytest.raises(InputError, match=f"run: python -m csplade_pyserini.cards --convert {folder}"):
        find_checkpoint(str(folder)).check_sources()


def test_a_base_that_is_a_folder_is_looked_at_in_the_same_way(folder, base):
    (base / "model.safetensors").unlink()
    put(base, "adapter_model.safetensors", "adapter_config.json")
    with pytest.raises(InputError, match=f"{base} holds adapter_config.json, adapter_model.safetensors"):
        find_checkpoint(str(folder)).check_sources()


def test_a_base_inside_the_folder_is_loaded(folder):
    inner = put(folder / "base", "model.safetensors", "config.json")
    put(folder, *ADAPTER)
    write_card(EncoderCard(name="mine", base=str(inner)), folder / "card.toml")
    assert find_checkpoint(str(folder)).sources.notices == ()
    put(folder / "base2", "model.safetensors")
    assert find_checkpoint(str(folder)).sources.notices


def test_an_adapter_in_a_folder_that_the_card_names_is_loaded(folder, base):
    put(folder / "lora", *ADAPTER)
    write_card(EncoderCard(name="mine", base=str(base), adapter="lora"), folder / "card.toml")
    sources = find_checkpoint(str(folder)).sources
    assert (sources.base, sources.adapter) == (str(base), str(folder / "lora"))
    put(folder, "model.safetensors")
    with pytest.raises(InputError, match="holds whole weights, but its card names the base"):
        find_checkpoint(str(folder)).check_sources()
    write_card(EncoderCard(name="mine", adapter="lora"), folder / "card.toml")
    sources = find_checkpoint(str(folder)).sources
    assert (sources.base, sources.adapter) == (str(folder), str(folder / "lora"))
    (folder / "lora" / "adapter_config.json").unlink()
    with pytest.raises(InputError, match="lacks adapter_config.json"):
        find_checkpoint(str(folder)).check_sources()


def test_an_index_leads_to_no_file_outside(folder):
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../base/model.safetensors"}}')
    with pytest.raises(InputError, match="wanted files beside it"):
        find_checkpoint(str(folder)).check_sources()


@pytest.mark.parametrize("name", ["lion-sp-1b", "laconic-1b", "csplade-8b", "csplade-tiny"])
def test_whole_weights_in_csplade_home_win_whatever_the_card_says(home, name):
    folder = put(home / name, "model.safetensors", "config.json", "tokenizer.json")
    checkpoint = find_checkpoint(name)
    sources = checkpoint.sources
    assert (sources.base, sources.adapter, sources.tokenizer) == (str(folder), "", str(folder))
    assert checkpoint.stored_card == shipped_cards()[name]
    assert weights_state(name) == "here"


@pytest.mark.parametrize("name", ["lion-sp-1b", "csplade-bi-1b", "csplade-bi-smol"])
def test_an_adapter_in_csplade_home_wins_whatever_the_card_says(home, name):
    card = shipped_cards()[name]
    folder = put(home / name, *ADAPTER)
    sources = find_checkpoint(name).sources
    assert (sources.base, sources.adapter) == (card.base, str(folder))
    assert sources.tokenizer == (card.tokenizer or card.base)
    put(folder, "tokenizer.json")
    assert find_checkpoint(name).sources.tokenizer == str(folder)
    put(folder, "model.safetensors")
    both = find_checkpoint(name)
    assert (both.sources.base, both.sources.adapter) == (str(folder), "")
    assert (
        "model.safetensors is taken; left out: adapter_config.json, adapter_model.safetensors" in both.source
    )


def test_the_tokenizer_of_the_users_own_card_wins_over_the_one_beside_the_weights(home):
    folder = put(home / "lion-sp-1b", "model.safetensors", "tokenizer.json")
    own = dataclasses.replace(shipped_cards()["lion-sp-1b"], adapter="", tokenizer="another/tokenizer")
    write_card(own, folder / "card.toml")
    assert find_checkpoint("lion-sp-1b").sources.tokenizer == "another/tokenizer"


@pytest.mark.parametrize("name", ["csplade-tiny", "lion-sp-1b", "csplade-8b"])
@pytest.mark.parametrize(
    "file", ["adapter_model.bin", "pytorch_model.bin", "adapter_config.json", "a/model.pt"]
)
def test_weights_in_csplade_home_that_cannot_be_read_stop_the_load(home, name, file):
    """Neither the weights that ship nor those on the hub take their place."""
    put(home / name, file)
    with pytest.raises(InputError, match=file):
        find_checkpoint(name).check_sources()
    assert weights_state(name) == "unread"


def test_an_own_card_in_csplade_home_is_read(home, base):
    put(home / "csplade-tiny", "README.md")
    assert find_checkpoint("csplade-tiny").folder != home / "csplade-tiny"
    write_card(EncoderCard(name="other", base=str(base)), home / "csplade-tiny" / "card.toml")
    assert find_checkpoint("csplade-tiny").sources.base == str(base)


def test_without_a_folder_the_parts_are_those_that_the_card_names():
    card = EncoderCard(name="a", base="x/y", adapter="x/z")
    sources = find_sources(card, None)
    assert (sources.base, sources.adapter, sources.tokenizer) == ("x/y", "x/z", "x/y")
    assert sources.on_hub == ["x/y", "x/z"]
    with pytest.raises(InputError, match="names no base"):
        Checkpoint(EncoderCard(name="a"), None).check_sources()


def test_every_shipped_encoder_has_no_weights_beside_it_that_are_left_out():
    for name in ("csplade-tiny", "csplade-bi-smol"):
        assert find_checkpoint(name).sources.notices == ()
        assert read_card(find_checkpoint(name).folder.with_suffix(".toml")).name == name
