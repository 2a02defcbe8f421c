"""A stand-in for the Hugging Face hub on 127.0.0.1: one repository with commits, tags and branches."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import huggingface_hub.constants
import huggingface_hub.hf_api
import pytest

NAME = "me/mine"


class Request(NamedTuple):
    """A request for a file, and what was sent."""

    method: str
    revision: str
    file: str
    first_byte: int
    """Where the answer starts in the file."""
    sent: int
    """Bytes of the file that were sent."""


@dataclass
class Hub:
    """The repository NAME, and what was asked of it."""

    commits: dict[str, Path] = field(default_factory=dict)
    """Folder of each commit."""
    refs: dict[str, str] = field(default_factory=dict)
    """Commit of each branch and tag."""
    breaks: dict[str, list[int]] = field(default_factory=dict)
    """By file: bytes after which the connection breaks, one number for each of the next answers."""
    seen: list[Request] = field(default_factory=list)
    endpoint: str = ""

    def push(self, commit: str, folder: Path, *refs: str) -> None:
        """Add a commit, and move branches to it."""
        self.commits[commit] = folder
        self.refs |= dict.fromkeys(refs, commit)

    def downloads(self, file: str) -> list[Request]:
        """Requests for the content of a file."""
        return [request for request in self.seen if (request.method, request.file) == ("GET", file)]

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a program that uses this hub."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def use(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        """Have this process use the hub, with a cache of its own."""
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "ENDPOINT", self.endpoint)
        template = self.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", self.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))


class Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        description, files = f"/api/models/{NAME}", f"/{NAME}/resolve/"
        if path.startswith(files):
            self._find_file(*path.removeprefix(files).split("/", 1), with_body=with_body)
        elif path.startswith(f"{description}/tree/"):
            self._list_files(*path.removeprefix(f"{description}/tree/").split("/", 1))
        elif path.startswith(description):
            revision = path.removeprefix(description).removeprefix("/revision/") or "main"
            self._describe(revision, with_body=with_body)
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, with_body)

    def _find_file(self, revision: str, name: str, *, with_body: bool) -> None:
        commit = self.hub.refs.get(revision, revision)
        folder = self.hub.commits.get(commit)
        if folder is None:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"}, with_body)
        elif not (folder / name).is_file():
            self.hub.seen.append(Request(str(self.command), revision, name, 0, 0))
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, with_body)
        else:
            self._send_file(folder / name, revision, commit, with_body=with_body)

    def _list_files(self, revision: str, below: str = "") -> None:
        folder = self.hub.commits.get(self.hub.refs.get(revision, revision))
        if folder is None or below:
            code = "EntryNotFound" if below else "RevisionNotFound"
            self._send(404, b"", {"X-Error-Code": code}, True)
            return
        files = [
            {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name}
            for file in folder.iterdir()
        ]
        self._send(200, json.dumps(files).encode(), {"Content-Type": "application/json"}, True)

    def _describe(self, revision: str, *, with_body: bool) -> None:
        commit = self.hub.refs.get(revision, revision)
        if commit not in self.hub.commits:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"}, with_body)
            return
        names = [{"rfilename": file.name} for file in self.hub.commits[commit].iterdir()]
        table = {"id": NAME, "modelId": NAME, "sha": commit, "siblings": names, "tags": []}
        self._send(200, json.dumps(table).encode(), {"Content-Type": "application/json"}, with_body)

    def _send_file(self, file: Path, revision: str, commit: str, *, with_body: bool) -> None:
        content = file.read_bytes()
        headers = {"ETag": f'"{sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
        start = 0
        wanted = self.headers.get("Range")
        if wanted and with_body:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        breaks = self.hub.breaks.get(file.name)
        sent = len(body)
        if with_body and breaks:
            sent = breaks.pop(0)
        self.hub.seen.append(Request(str(self.command), revision, file.name, start, sent * with_body))
        self._send(206 if start else 200, body, headers, with_body, sent)

    def _send(
        self, status: int, content: bytes, headers: dict[str, str], with_body: bool, sent: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content[:sent])
            self.close_connection = self.close_connection or sent not in (None, len(content))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that answers while the context lasts."""
    hub = Hub()
    handler = type("HandlerOfOneHub", (Handler,), {"hub": hub})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
