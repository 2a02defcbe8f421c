"""`cards --publish`, and loading from a hub that serves what it wrote."""

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import yaml
from programs import new_python

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
    (folder / "card.toml").write_text(f'{card}tokenizer = "{tmp_path}"\n')
    with pytest.raises(InputError, match="names a folder here, tokenizer = "):
        publish(folder)


class Hub(http.server.BaseHTTPRequestHandler):
    """A stand-in for the hub: one repository, one commit."""

    folder: Path
    seen: list[str]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.seen.append(f"{self.command} {path}")
        if path.startswith("/api/models/me/mine") and "/tree/" not in path:
            names = [{"rfilename": file.name} for file in self.folder.iterdir()]
            table = {"id": "me/mine", "modelId": "me/mine", "sha": COMMIT, "siblings": names, "tags": []}
            self._send(200, json.dumps(table).encode(), {"Content-Type": "application/json"}, with_body)
            return
        *_, revision, name = path.split("/")
        file = self.folder / name
        known = path.startswith("/me/mine/resolve/") and revision in ("main", COMMIT, "v1")
        if not known or not file.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, with_body)
            return
        content = file.read_bytes()
        headers = {"ETag": f'"{sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        wanted = self.headers.get("Range")
        if wanted and with_body:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._send(206, content[start:], headers, with_body)
            return
        self._send(200, content, headers, with_body)

    def _send(self, status: int, content: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(folder) -> Iterator[tuple[str, list[str]]]:
    seen: list[str] = []
    handler = type("OneHub", (Hub,), {"folder": folder, "seen": seen})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    thread.join()
    server.server_close()


LOAD = """
import json, sys
from csplade_pyserini import load_encoder
encoder = load_encoder("me/mine")
print(json.dumps([encoder.identity, encoder.encode_queries(["heart attack"])[0]]))
"""


def test_a_published_folder_is_loaded_from_the_hub_and_then_from_the_cache(folder, hub, tmp_path):
    publish(folder)
    endpoint, seen = hub
    environment = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    online = new_python("-c", LOAD, **environment)
    assert online.returncode == 0, online.stderr[-3000:]
    identity, vector = json.loads(online.stdout.splitlines()[-1])
    assert vector == load_encoder(str(folder)).encode_queries(["heart attack"])[0]
    assert any("model.safetensors" in request for request in seen)
    assert (tmp_path / "cache" / "hub" / "models--me--mine" / "snapshots" / COMMIT / "card.toml").exists()
    seen.clear()
    offline = new_python("-c", LOAD, **environment | {"HF_HUB_OFFLINE": "1"})
    assert offline.returncode == 0, offline.stderr[-3000:]
    assert json.loads(offline.stdout.splitlines()[-1]) == [identity, vector]
    assert seen == []
