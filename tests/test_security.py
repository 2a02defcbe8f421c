"""Promises of SECURITY.md: no input is run, and no input chooses a file of this machine."""

import json
import os
import pickle
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from programs import run_python, shown_by_browser

from csplade_pyserini.cards import find_checkpoint, read_card
from csplade_pyserini.collections.manifests import manifest_path
from csplade_pyserini.doctor import check_encoder
from csplade_pyserini.errors import InputError
from csplade_pyserini.model import backbone, load_encoder
from csplade_pyserini.registration.server import may_name

QUICK = ("--max-length", "8")


class Planted:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def folder(checkpoint_folder, tmp_path) -> Path:
    return shutil.copytree(checkpoint_folder, tmp_path / "checkpoint")


@pytest.fixture
def corpus(tmp_path) -> Path:
    file = tmp_path / "corpus.jsonl"
    file.write_text('{"id": "1", "contents": "one document"}\n')
    return file


def encode(encoder: Path, corpus: Path, output: Path) -> subprocess.CompletedProcess[str]:
    return run_python(
        "-m", "csplade_pyserini.encode", "--encoder", encoder, "--corpus", corpus, "--output", output, *QUICK
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "weights", ["pytorch_model.bin", "adapter_model.bin", "model.safetensors", "adapter_model.safetensors"]
)
def test_planted_pickles_are_refused_and_not_run(folder, corpus, tmp_path, weights):
    mark = tmp_path / "planted"
    (folder / "model.safetensors").unlink()
    (folder / weights).write_bytes(pickle.dumps(Planted(mark)))
    if weights.startswith("adapter"):
        (folder / "adapter_config.json").write_text(
            json.dumps({"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"]})
        )
        base = tmp_path / "base"
        shutil.copytree(folder, base)
        with (folder / "card.toml").open("a") as card:
            card.write(f'base = "{base}"\n')
    error = refused(encode(folder, corpus, tmp_path / "out"))
    assert str(folder) in error or str(tmp_path / "base") in error
    assert not mark.exists()
    pickle.loads(pickle.dumps(Planted(mark)))
    assert mark.exists()  # it would have been


def test_a_pickle_beside_good_weights_is_not_looked_at(folder, corpus, tmp_path):
    mark = tmp_path / "planted"
    for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "optimizer.pt"):
        (folder / name).write_bytes(pickle.dumps(Planted(mark)))
    assert encode(folder, corpus, tmp_path / "out").returncode == 0
    assert not mark.exists()


def test_a_checkpoint_that_wants_its_own_code_run_is_refused_with_the_reason(folder, corpus, tmp_path):
    mark = tmp_path / "planted"
    config = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "of-its-own", "auto_map": names}))
    (folder / "code.py").write_text(
        f"import os\nos.mkdir({str(mark)!r})\nclass Config: pass\nclass Model: pass\n"
    )
    error = refused(encode(folder, corpus, tmp_path / "out"))
    assert "contains custom code" in error
    assert not mark.exists()


def test_a_checkpoint_of_a_known_kind_is_loaded_by_transformers_own_code(folder, corpus, tmp_path):
    mark = tmp_path / "planted"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "code.Model"}})
    )
    (folder / "code.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    encode(folder, corpus, tmp_path / "out")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("adapter", "../elsewhere", "wanted a folder inside that of the card"),
        ("adapter", "/etc", "wanted a folder inside that of the card"),
        ("adapter", "a/../../b", "wanted a folder inside that of the card"),
        ("base_file", "../weights.gguf", "wanted the name of a file"),
        ("base_file", "/etc/passwd", "wanted the name of a file"),
    ],
)
def test_a_card_leads_to_no_file_outside_its_folder(folder, key, value, reason):
    (folder / "card.toml").write_text(f'name = "mine"\n{key} = "{value}"\n')
    with pytest.raises(InputError, match=reason):
        read_card(folder / "card.toml")


@pytest.mark.parametrize("key", ["base", "adapter", "tokenizer"])
@pytest.mark.parametrize(
    "place", ["/home/someone/model", "../model", "~/model", "model", "file:///model", "C:\\model"]
)
def test_a_card_of_the_hub_names_no_folder_of_this_machine(tmp_path, monkeypatch, key, place):
    (tmp_path / "card.toml").write_text(f"name = 'theirs'\n{key} = '{place}'\n")
    monkeypatch.setattr(
        "csplade_pyserini.cards.names._hub_card", lambda name, revision: tmp_path / "card.toml"
    )
    with pytest.raises(InputError, match=r"may name Hugging Face ids alone|wanted a folder inside"):
        find_checkpoint("owner/repository")
    (tmp_path / "card.toml").write_text(f"name = 'theirs'\n{key} = 'owner/model'\n")
    assert find_checkpoint("owner/repository").folder is None


@pytest.mark.parametrize("key", ["base", "adapter", "tokenizer"])
def test_a_card_of_the_hub_names_no_folder_that_looks_like_a_hub_id(tmp_path, monkeypatch, key):
    (tmp_path / "card.toml").write_text(f"name = 'theirs'\n{key} = 'runs/private'\n")
    (tmp_path / "runs" / "private").mkdir(parents=True)
    monkeypatch.setattr(
        "csplade_pyserini.cards.names._hub_card", lambda name, revision: tmp_path / "card.toml"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=rf"{key} is 'runs/private', a folder or file here, {tmp_path}/runs/private"
    ):
        find_checkpoint("owner/repository")


@pytest.mark.parametrize(
    ("encoder", "place"),
    [
        ("lion-sp-1b", "meta-llama/Llama-3.2-1B"),
        ("lion-sp-1b", "hzeng/Lion-SP-1B-llama3-marco-mntp"),
        ("laconic-1b", "utahnlp/laconic-1b"),
        ("laconic-8b", "unsloth/Llama-3.2-1B"),
    ],
)
def test_a_card_that_ships_names_no_folder_that_looks_like_a_hub_id(tmp_path, monkeypatch, encoder, place):
    monkeypatch.chdir(tmp_path)
    find_checkpoint(encoder).check_sources()
    (tmp_path / place).mkdir(parents=True)
    with pytest.raises(InputError, match=f"'{place}', a folder or file here, {tmp_path}/{place}"):
        find_checkpoint(encoder).check_sources()


@pytest.mark.parametrize(
    "load", [backbone.load_tokenizer, lambda it: backbone.load_base(it, dtype=torch.float32)]
)
@pytest.mark.parametrize("key", ["base", "tokenizer"])
def test_a_folder_that_appears_before_the_load_is_not_taken_for_the_hubs(
    folder, tmp_path, monkeypatch, load, key
):
    """The command may have changed its folder since it found the card."""
    (tmp_path / "card.toml").write_text(f"name = 'theirs'\nbase = 'a/b'\n{key} = 'runs/private'\n")
    if key == "base":
        (tmp_path / "card.toml").write_text("name = 'theirs'\nbase = 'runs/private'\n")
    monkeypatch.setattr(
        "csplade_pyserini.cards.names._hub_card", lambda name, revision: tmp_path / "card.toml"
    )
    checkpoint = find_checkpoint("owner/repository")
    checkpoint.check_sources()
    shutil.copytree(folder, tmp_path / "runs" / "private")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"{key} is 'runs/private', a folder or file here"):
        load(checkpoint)


def test_weights_that_would_not_be_loaded_stop_every_command(folder, corpus, tmp_path):
    """The base is found; encoding with it alone would be a silent loss of the fine-tuning."""
    fine_tuned = tmp_path / "fine-tuned"
    fine_tuned.mkdir()
    (fine_tuned / "card.toml").write_text(f'name = "mine"\nbase = "{folder}"\n')
    (fine_tuned / "adapter_model.bin").write_bytes(b"adapter")
    wanted = f"adapter_model.bin.* run: python -m csplade_pyserini.cards --convert {fine_tuned}"
    assert re.search(wanted, refused(encode(fine_tuned, corpus, tmp_path / "out")))
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match=wanted):
        check_encoder(str(fine_tuned))  # the doctor's
    with pytest.raises(InputError, match=wanted):
        load_encoder(str(fine_tuned))


def test_a_card_of_the_hub_takes_bases_and_tokenizers_of_packages_and_no_adapters(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "csplade_pyserini.cards.names._hub_card", lambda name, revision: tmp_path / "card.toml"
    )
    (tmp_path / "card.toml").write_text(
        "name = 'theirs'\nbase = 'package:some'\ntokenizer = 'package:some'\n"
    )
    assert find_checkpoint("owner/repository").card.adapter == "owner/repository"
    (tmp_path / "card.toml").write_text("name = 'theirs'\nadapter = 'package:some'\n")
    with pytest.raises(InputError, match="adapter is 'package:some', no Hugging Face id"):
        find_checkpoint("owner/repository")


def test_a_package_that_a_card_names_is_not_imported(folder, tmp_path, monkeypatch):
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "__init__.py").write_text("raise SystemExit('run')\n")
    (tmp_path / "planted" / "weights").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    (folder / "model.safetensors").unlink()
    for base in ("package:planted.weights", "package:planted"):
        (folder / "card.toml").write_text(f'name = "mine"\nbase = "{base}"\n')
        with pytest.raises(InputError):
            load_encoder(str(folder))


NASTY = (
    "$(touch planted) `touch planted` ; touch planted | touch planted\n"
    "{{7*7}} ${jndi:ldap://x} !!python/object/apply:os.mkdir [planted]"
)


@pytest.mark.jvm
def test_nothing_of_a_corpus_is_run_and_no_docid_is_a_path(checkpoint_folder, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    docids = [
        "../../escaped",
        "/tmp/escaped",
        "$(touch${IFS}planted)",
        "`touch\u00adplanted`",
        "<script>document.title='owned'</script>",
    ]
    corpus = work / "$(touch planted);.jsonl"
    corpus.write_text(
        "".join(
            json.dumps({"id": docid, "contents": f"heart {NASTY} <script>document.title='owned'</script>"})
            + "\n"
            for docid in docids
        )
    )
    topics = work / "topics.tsv"
    topics.write_text("../../1\theart $(touch planted)\n")
    encoder = ("--encoder", checkpoint_folder)
    commands = [
        ("csplade_pyserini.encode", *encoder, "--corpus", corpus, "--output", "vectors", "--store-contents"),
        ("csplade_pyserini.index", "--input", "vectors", "--index", "index", "--store-raw"),
        ("pyserini.search.lucene", *encoder, "--index", "index", "--topics", topics, "--output", "run.txt"),
        (
            "csplade_pyserini.explain",
            *encoder,
            "--index",
            "index",
            "--query",
            f"heart {NASTY}",
            "--corpus",
            corpus,
            "--html",
            "why.html",
        ),
    ]
    for command in commands:
        done = run_python("-m", *command, cwd=work)
        assert done.returncode == 0, done.stderr
    assert sorted(line.split()[2] for line in (work / "run.txt").read_text().splitlines()) == sorted(docids)
    made = {
        corpus.name,
        "topics.tsv",
        "vectors",
        "vectors.manifest.json",
        "index",
        "index.manifest.json",
        "run.txt",
        "why.html",
    }
    assert {path.name for path in work.iterdir()} == made
    assert {path.name for path in tmp_path.iterdir()} == {"work"}
    assert len(list((work / "vectors").iterdir())) == 1
    shown = shown_by_browser(work / "why.html", tmp_path / "profile")
    assert "<title>owned</title>" not in shown
    assert "<script" not in shown
    assert "&lt;" in shown


def test_a_manifest_chooses_no_file(checkpoint_folder, corpus, tmp_path):
    assert encode(checkpoint_folder, corpus, tmp_path / "out").returncode == 0
    outside = tmp_path / "outside.jsonl"
    [shard] = (tmp_path / "out").iterdir()
    shutil.copy(shard, outside)
    table = json.loads(manifest_path(tmp_path / "out").read_text())
    table["shards"][0]["file"] = "../outside.jsonl"
    manifest_path(tmp_path / "out").write_text(json.dumps(table))
    done = run_python(
        "-m", "csplade_pyserini.index", "--input", tmp_path / "out", "--index", tmp_path / "index"
    )
    assert (done.returncode, "does not match its manifest" in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize(
    "encoder",
    [
        "csplade-8b",
        "CSPLADE-tiny",
        "naver/splade-v3",
        "ArcticEmbedL",
        "/srv/models/ours",
        "models/ours:max_length=64",
    ],
)
def test_a_servers_client_may_name_cards_pyserinis_encoders_and_what_the_owner_named(encoder):
    assert may_name(encoder, {None, "/srv/models/ours", "models/ours:max_length=64"})


@pytest.mark.parametrize(
    "encoder",
    [
        "/etc",
        "/srv/models/other",
        "../models",
        ".",
        "~",
        "csplade-tiny:max_length=100000",
        "csplade-tiny:device=cuda:3",
        "a/b/c",
        "x\x00",
        "",
    ],
)
def test_a_servers_client_may_name_no_folder_and_no_options(encoder):
    assert not may_name(encoder, {None, "csplade-tiny"})


def test_a_servers_client_may_name_no_folder_that_looks_like_a_hub_id(tmp_path, monkeypatch):
    (tmp_path / "owner" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not may_name("owner/model", set())
    assert may_name("owner/another", set())
