"""Encoders from a hub: a revision is loaded and no other, broken downloads go on, the cache is enough."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import pytest
import torch
from peft import LoraConfig, get_peft_model
from programs import start_python
from stand_in_hub import NAME, Hub, running_hub
from tiny_models import TEXTS, tiny_model

from csplade_pyserini import load_encoder
from csplade_pyserini.cards import (
    EncoderCard,
    find_card,
    find_checkpoint,
    find_table,
    is_ours,
    names,
    shipped_cards,
    write_card,
)
from csplade_pyserini.errors import InputError

OLD, NEW = "1" * 40, "2" * 40
WEIGHTS = "model.safetensors"


@pytest.fixture
def hub(checkpoint_folder, monkeypatch, tmp_path) -> Iterator[Hub]:
    """A repository with two commits, whose weights and cards differ; v1 is a tag of the old one."""
    with running_hub() as hub:
        for seed, (commit, refs) in enumerate({OLD: ("v1",), NEW: ("main",)}.items()):
            folder = tmp_path / commit
            shutil.copytree(checkpoint_folder, folder)
            tiny_model("llama", seed=seed).save_pretrained(folder)
            write_card(EncoderCard(name=f"of-{commit[0]}", query_max_length=8 + seed), folder / "card.toml")
            hub.push(commit, folder, *refs)
        hub.use(monkeypatch, tmp_path / "cache")
        monkeypatch.setenv("CSPLADE_HOME", str(tmp_path / "home"))
        names._hub_card.cache_clear()
        names._hub_says_ours.cache_clear()
        yield hub
        names._hub_card.cache_clear()
        names._hub_says_ours.cache_clear()


def vectors(name: str | Path, **options: Any) -> list[dict[str, int]]:
    return load_encoder(str(name), **options).encode_queries(TEXTS)


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    names._hub_card.cache_clear()


@pytest.mark.parametrize(
    ("name", "commit"),
    [
        (NAME, NEW),
        (f"{NAME}:revision={OLD}", OLD),
        (f"{NAME}:revision=v1", OLD),
        (f"{NAME}:revision=main", NEW),
    ],
)
def test_card_and_weights_are_those_of_the_revision(hub, name, commit):
    assert is_ours(name)
    assert find_card(name).name == f"of-{commit[0]}"
    checkpoint = find_checkpoint(name)
    assert vectors(name) == vectors(hub.commits[commit])
    assert checkpoint.commits == {NAME: commit}
    assert {request.revision for request in hub.seen} <= {commit, "main", "v1"}
    assert len(hub.downloads(WEIGHTS)) == 1


def test_a_commit_by_any_of_its_names_is_one_encoder(hub):
    assert vectors(NAME, revision="v1") == vectors(f"{NAME}:revision={OLD}")
    identities = {find_checkpoint(f"{NAME}:revision={revision}").identity for revision in (OLD, "v1")}
    assert len(identities) == 1
    assert find_checkpoint(NAME).identity not in identities
    assert find_checkpoint(f"{NAME}:revision={NEW}").identity == find_checkpoint(NAME).identity


@pytest.mark.parametrize(
    ("options", "commit"), [("device=cpu", NEW), ("device=cpu,revision=v1", OLD), (f"revision={OLD}", OLD)]
)
def test_a_manifest_names_the_commit_and_main_may_move_on(hub, options, commit):
    text = f"{NAME}:{options}"
    checkpoint = find_checkpoint(text)
    lasting = checkpoint.lasting_name(text)
    assert lasting == f"{NAME}:revision={commit}"
    hub.push("3" * 40, hub.commits[OLD], "main", "v1")
    shutil.rmtree(huggingface_hub.constants.HF_HUB_CACHE)
    names._hub_card.cache_clear()
    assert find_checkpoint(lasting).identity == checkpoint.identity
    assert find_checkpoint(NAME).identity != checkpoint.identity


def test_a_card_that_pins_its_weights_needs_no_commit_in_its_name(hub):
    write_card(EncoderCard(name="pinned", revision=OLD), hub.commits[NEW] / "card.toml")
    assert find_checkpoint(NAME).lasting_name(NAME) == NAME
    assert find_checkpoint(f"{NAME}:revision=v1").lasting_name(NAME) == f"{NAME}:revision={OLD}"


@pytest.mark.parametrize("revision", ["v9", "3" * 40])
def test_a_revision_that_is_not_there_is_an_error_and_nothing_else_is_loaded(hub, revision):
    with pytest.raises(InputError, match=f"unknown encoder '{NAME}' at revision '{revision}'"):
        load_encoder(f"{NAME}:revision={revision}")
    assert not is_ours(f"{NAME}:revision={revision}")
    assert is_ours(NAME), "the answer for one revision is not that for another"
    assert hub.downloads(WEIGHTS) == []


def test_a_revision_on_the_card_pins_the_weights(hub):
    card = EncoderCard(name="pinned", query_max_length=9, revision=OLD)
    write_card(card, hub.commits[NEW] / "card.toml")
    encoder = load_encoder(NAME)
    assert encoder.card.name == "pinned"
    old = load_encoder(str(hub.commits[OLD]), max_length=9)
    assert encoder.encode_queries(TEXTS) == old.encode_queries(TEXTS)
    assert [request.revision for request in hub.downloads(WEIGHTS)] == [OLD]
    (hub.commits[NEW] / "card.toml").write_text('name = "x"\nrevision = "../../secret"\n')
    names._hub_card.cache_clear()
    shutil.rmtree(huggingface_hub.constants.HF_HUB_CACHE)
    with pytest.raises(InputError, match=r"revision is '../../secret'; wanted a commit, tag or branch"):
        find_checkpoint(NAME)


def test_a_shipped_card_with_public_weights_takes_a_revision(hub, monkeypatch, byte_tokenizer):
    card = EncoderCard(name="public", weights="hub", base=NAME, revision=NEW)
    monkeypatch.setitem(shipped_cards(), "public", card)
    monkeypatch.setitem(names._card_names(), "public", "public")
    assert vectors("public") == vectors(hub.commits[NEW], max_length=64)
    pinned = load_encoder("public:revision=v1")
    assert pinned.encode_queries(TEXTS) == vectors(hub.commits[OLD], max_length=64)
    assert pinned.identity != find_checkpoint("public").identity


def test_an_adapter_is_of_its_revision_and_its_base_of_the_main_branch(hub, monkeypatch, tmp_path):
    base = tmp_path / "base"
    tiny_model("llama").save_pretrained(base)
    for commit, seed in ((OLD, 1), (NEW, 2)):
        model = tiny_model("llama")
        torch.manual_seed(seed)
        lora = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        folder = hub.commits[commit]
        (folder / WEIGHTS).unlink()
        get_peft_model(model, lora).save_pretrained(folder)
        write_card(EncoderCard(name="adapted", base=str(base)), folder / "card.toml")
    wanted = {commit: vectors(folder) for commit, folder in hub.commits.items()}
    assert wanted[OLD] != wanted[NEW]
    card = EncoderCard(name="public", weights="folder", base=str(base), adapter=NAME, tokenizer=NAME)
    folder = tmp_path / "card-alone"
    folder.mkdir()
    for commit in (OLD, NEW):
        write_card(card, folder / "card.toml")
        (folder / "card.toml").write_text((folder / "card.toml").read_text() + f'revision = "{commit}"\n')
        assert vectors(folder) == wanted[commit]
    assert [request.revision for request in hub.downloads("adapter_model.safetensors")] == [OLD, NEW]


def test_folders_have_no_revisions(hub, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="'v1' is wanted, but the weights are those of the folder"):
        load_encoder(f"{hub.commits[OLD]}:revision=v1")
    with pytest.raises(InputError, match="'v1' is wanted, but the weights are those of the folder"):
        find_checkpoint("csplade-tiny:revision=v1")
    for wrong in ("../main", "/etc/passwd", "a..b", "-x"):
        with pytest.raises(InputError, match="wanted a commit, tag or branch"):
            find_checkpoint(f"{NAME}:revision={wrong}")


def test_a_table_of_a_lookup_is_of_the_revision(hub):
    for commit, folder in hub.commits.items():
        (folder / "lookup.safetensors").write_text(commit)
    find_card(NAME)
    assert find_table(NAME, "v1").read_text() == OLD
    assert find_table(NAME).read_text() == NEW
    hub.push("3" * 40, hub.commits[OLD], "main")
    assert find_table(NAME).read_text() == NEW, "as card and weights, those of the commit in the cache"


def test_a_branch_that_moves_between_two_loads_never_mixes_commits(hub):
    hub.refs["main"] = OLD
    assert find_card(NAME).name == "of-1"  # the card alone is in the cache now
    hub.refs["main"] = NEW
    names._hub_card.cache_clear()
    assert vectors(NAME) == vectors(hub.commits[OLD])
    huggingface_hub.snapshot_download(NAME)  # hf download
    names._hub_card.cache_clear()
    assert vectors(NAME) == vectors(hub.commits[NEW])


def test_a_broken_download_goes_on_where_it_was(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 4096)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.breaks[WEIGHTS] = [50_000, 30_000]
    assert vectors(NAME) == vectors(hub.commits[NEW])
    requests = hub.downloads(WEIGHTS)
    assert [request.first_byte > 0 for request in requests] == [False, True, True]
    assert requests[1].first_byte <= 50_000
    assert requests[2].first_byte <= 80_000
    again = sum(request.sent for request in requests) - (hub.commits[NEW] / WEIGHTS).stat().st_size
    assert 0 <= again < 2 * 4096, "only what had not filled a chunk is sent twice"


def test_a_download_that_keeps_breaking_is_one_sentence_and_the_next_load_is_whole(hub, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.breaks[WEIGHTS] = [0] * 6
    with pytest.raises(InputError, match=f"cannot load the weights of {NAME}"):
        load_encoder(NAME)
    downloads = len(hub.downloads("config.json"))
    assert vectors(NAME) == vectors(hub.commits[NEW])
    assert len(hub.downloads("config.json")) == downloads, "whole files are in the cache"


LOAD = """
import json, sys
import huggingface_hub, huggingface_hub.hf_api
endpoint, cache = sys.argv[1:]
constants = huggingface_hub.constants
constants.ENDPOINT = huggingface_hub.hf_api.api.endpoint = endpoint
constants.HUGGINGFACE_CO_URL_TEMPLATE = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
constants.HF_HUB_OFFLINE, constants.HF_HUB_CACHE = False, cache
from csplade_pyserini import load_encoder
load_encoder("me/mine")
"""


def test_a_killed_download_leaves_nothing_that_is_loaded(hub, monkeypatch, tmp_path):
    """The process ends within the weights. Offline they are missing; online they are fetched."""
    hub.breaks[WEIGHTS] = [0] * 10_000  # it waits between its tries
    cache = tmp_path / "cache"
    process = start_python("-c", LOAD, hub.endpoint, cache)
    deadline = time.monotonic() + 300
    while not hub.downloads(WEIGHTS):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    offline(monkeypatch)
    with pytest.raises(InputError, match=f"cannot load the weights of {NAME}"):
        load_encoder(NAME)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    hub.breaks.clear()
    hub.seen.clear()
    assert vectors(NAME) == vectors(hub.commits[NEW])
    assert hub.downloads("card.toml") == hub.downloads("config.json") == []


@pytest.mark.parametrize("revision", ["", ":revision=v1", f":revision={OLD}"])
def test_offline_the_cache_is_enough_for_the_revision_that_is_in_it(hub, monkeypatch, revision):
    wanted = vectors(NAME + revision)
    identity = find_checkpoint(NAME + revision).identity
    offline(monkeypatch)
    hub.seen.clear()
    assert vectors(NAME + revision) == wanted
    assert find_checkpoint(NAME + revision).identity == identity
    for other in ("v9", OLD if not revision else NEW):
        with pytest.raises(InputError, match=f"at revision '{other}'.*HF_HUB_OFFLINE is set"):
            load_encoder(f"{NAME}:revision={other}")
    if revision:
        with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
            load_encoder(NAME)
    assert hub.seen == []


def test_a_hub_that_is_gone_needs_no_answer_for_what_is_in_the_cache(hub, monkeypatch):
    wanted = vectors(NAME)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    names._hub_card.cache_clear()
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert vectors(NAME) == wanted
