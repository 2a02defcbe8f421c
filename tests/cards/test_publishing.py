"""`cards --publish`, and loading from a hub that serves what it wrote."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from programs import new_python
from stand_in_hub import Hub, running_hub

from csplade_pyserini import load_encoder
from csplade_pyserini.cards.__main__ import main
from csplade_pyserini.cards.publishing import publish
from csplade_pyserini.errors import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RECORD = {
    "system": "mine",
    "collection": "sample",
    "scores": {"sample": {"nDCG@10": 0.51234, "R@100": 0.9}},
    "versions": {"pyserini": "2.4.0"},
    "date": "2026-11-26",
}


@pytest.fixture
def folder(checkpoint_folder, tmp_path) -> Path:
    return Path(shutil.copytree(checkpoint_folder, tmp_path / "mine"))


def parts(file: Path) -> tuple[dict, str]:
    """Front matter and text of a README."""
    _, front, text = file.read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), text


def test_the_model_card_has_front_matter_scores_and_the_card(folder, capsys):
    (folder / "record.json").write_text(json.dumps(RECORD))
    assert main(["--publish", str(folder)]) == 0
    assert f"hf upload OWNER/REPOSITORY {folder} ." in capsys.readouterr().out
    front, text = parts(folder / "README.md")
    assert front["library_name"] == "csplade_pyserini"
    assert "sparse-retrieval" in front["tags"]
    assert front["datasets"] == ["sample"]
    assert front["metrics"] == ["R@100", "nDCG@10"]
    [result] = front["model-index"][0]["results"]
    assert {"type": "nDCG@10", "value": 0.5123} in result["metrics"]
    assert "| sample | 0.5123 | 0.9000 |" in text
    assert 'name = "in-memory-llama"' in text


def test_a_text_of_ones_own_is_kept_and_front_matter_is_made_once(folder):
    (folder / "README.md").write_text("---\nold: 1\n---\n\n# My model\n\n---\n\nIts text.\n")
    publish(folder)
    first = (folder / "README.md").read_text()
    publish(folder)
    assert (folder / "README.md").read_text() == first
    front, text = parts(folder / "README.md")
    assert "old" not in front
    assert text == "\n# My model\n\n---\n\nIts text.\n"


def test_what_others_could_not_load_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        publish(tmp_path / "none")
    with pytest.raises(InputError, match="--publish takes a folder alone"):
        main(["--publish", str(folder), "--encoder", "csplade-tiny"])
    (folder / "record.json").write_text("{}")
    with pytest.raises(InputError, match="is no record of `reproduce`"):
        publish(folder)
    (folder / "record.json").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match=r"pytorch_model\.bin, which is pickled: run .* --convert"):
        publish(folder)
    (folder / "pytorch_model.bin").unlink()
    card = (folder / "card.toml").read_text()
    for key in ("base", "tokenizer", "query_encoder"):
        (folder / "card.toml").write_text(f'{card}{key} = "{tmp_path}"\n')
        with pytest.raises(InputError, match=f"names a folder here, {key} = "):
            publish(folder)


@pytest.fixture
def hub(folder) -> Iterator[Hub]:
    with running_hub() as hub:
        hub.push(COMMIT, folder, "main")
        yield hub


LOAD = """
import json, sys
from csplade_pyserini import load_encoder
encoder = load_encoder("me/mine")
print(json.dumps([encoder.identity, encoder.encode_queries(["heart attack"])[0]]))
"""


def test_a_published_folder_is_loaded_from_the_hub_and_then_from_the_cache(folder, hub, tmp_path):
    publish(folder)
    environment = hub.environment | {"HF_HOME": str(tmp_path / "cache")}
    online = new_python("-c", LOAD, **environment)
    assert online.returncode == 0, online.stderr[-3000:]
    identity, vector = json.loads(online.stdout.splitlines()[-1])
    assert vector == load_encoder(str(folder)).encode_queries(["heart attack"])[0]
    assert hub.downloads("model.safetensors")
    assert (tmp_path / "cache" / "hub" / "models--me--mine" / "snapshots" / COMMIT / "card.toml").exists()
    hub.seen.clear()
    offline = new_python("-c", LOAD, **environment | {"HF_HUB_OFFLINE": "1"})
    assert offline.returncode == 0, offline.stderr[-3000:]
    assert json.loads(offline.stdout.splitlines()[-1]) == [identity, vector]
    assert hub.seen == []
