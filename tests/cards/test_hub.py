"""Names on the hub: whose they are is asked for once, without the user's token; no answer is said."""

import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from csplade_pyserini.cards import EncoderCard, find_card, find_checkpoint, hub, is_ours, names, write_card
from csplade_pyserini.errors import InputError

TOKEN = "hf_of_the_user"


class Hub(ThreadingHTTPServer):
    """A hub that holds the cards of `ours`, says `status` of others, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ours: set[str] = set()
        self.status = 404
        self.seconds = 0.0
        self.asked: list[tuple[str, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        assert isinstance(self.server, Hub)
        name = self.path.strip("/").partition("/resolve/")[0]
        self.server.asked.append((name, self.headers.get("Authorization")))
        time.sleep(self.server.seconds)
        self.send_response(200 if name in self.server.ours else self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch, tmp_path) -> Iterator[Hub]:
    """A hub of this test's own, and a user with a token, an empty cache and an empty home."""
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        endpoint + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("CSPLADE_HOME", str(tmp_path / "home"))
    forget()
    yield server
    forget()
    server.shutdown()
    server.server_close()


def forget() -> None:
    """Forget what this process has been told, as the next process does."""
    names._hub_card.cache_clear()
    names._hub_says_ours.cache_clear()


def test_a_name_of_pyserinis_is_asked_for_once_and_without_the_token(server):
    for _ in range(3):
        assert not is_ours("naver/splade-v3")
        assert not is_ours("naver/splade-v3:device=cpu")
    assert server.asked == [("naver/splade-v3", None)]
    forget()
    assert not is_ours("naver/splade-v3")
    assert server.asked == [("naver/splade-v3", None)], "the answer is kept for the next process"


def test_a_kept_answer_is_asked_for_again_after_a_day(server, tmp_path):
    assert not is_ours("somebody/mine")
    forget()
    [record] = (tmp_path / "home" / "not_ours").iterdir()
    yesterday = time.time() - 25 * 3600
    os.utime(record, (yesterday, yesterday))
    server.ours.add("somebody/mine")
    assert is_ours("somebody/mine")
    assert len(server.asked) == 2


def test_a_name_that_the_user_gives_for_ours_is_asked_for_with_the_token(server):
    """The repository may be private; and an old `no` does not hide a new card."""
    assert not is_ours("somebody/mine")
    with pytest.raises(InputError, match="unknown encoder 'somebody/mine'"):
        find_card("somebody/mine")
    assert server.asked == [("somebody/mine", None), ("somebody/mine", f"Bearer {TOKEN}")]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_no_repository_and_no_access_are_answers(server, status, capsys):
    server.status = status
    assert not is_ours("somebody/mine")
    forget()
    assert not is_ours("somebody/mine")
    assert len(server.asked) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("status", [429, 500, 503])
def test_no_answer_is_said_and_not_kept(server, status, capsys):
    server.status = status
    assert not is_ours("somebody/mine")
    said = capsys.readouterr().err
    assert f"did not say whether somebody/mine is an encoder of ours (status {status})" in said
    with pytest.raises(
        InputError, match=f"unknown encoder.*the hub could not be asked for it: status {status}"
    ):
        find_card("somebody/mine")
    forget()
    server.ours.add("somebody/mine")
    assert is_ours("somebody/mine")


def test_a_time_out_is_no_answer(server, monkeypatch, capsys):
    monkeypatch.setattr(hub, "TIMEOUT_SECONDS", 0.2)
    server.seconds = 1.0
    server.ours.add("somebody/mine")
    assert not is_ours("somebody/mine")
    assert "did not say whether somebody/mine is an encoder of ours" in capsys.readouterr().err
    with pytest.raises(InputError, match="the hub could not be asked for it"):
        find_checkpoint("somebody/mine")


def test_offline_the_hub_is_not_asked_and_our_verbs_say_so(server, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert not is_ours("somebody/mine")
    assert capsys.readouterr().err == ""
    with pytest.raises(InputError, match=r"unknown encoder 'somebody/mine'.*HF_HUB_OFFLINE is set"):
        find_card("somebody/mine")
    assert server.asked == []


def snapshot(tmp_path: Path, name: str, commit: str) -> Path:
    """A folder of the hub's cache with one file, so that `main` is this commit."""
    repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
    folder = repository / "snapshots" / commit
    folder.mkdir(parents=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    return folder


@pytest.mark.parametrize("reached", ["offline", "time-out", "online"])
@pytest.mark.parametrize("adapter", ["", "somebody/adapter"])
def test_the_adapter_of_a_hub_repository_is_never_dropped(server, monkeypatch, tmp_path, reached, adapter):
    """Whether the hub can be reached or not, the base alone is never loaded."""
    card = EncoderCard(name="mine", base="meta/model", adapter=adapter)
    write_card(card, snapshot(tmp_path, "somebody/mine", "1" * 40) / "card.toml")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", reached == "offline")
    if reached == "time-out":
        monkeypatch.setattr(hub, "TIMEOUT_SECONDS", 0.1)
        server.seconds = 0.5
    found = find_checkpoint("somebody/mine")
    assert (found.sources.base, found.sources.adapter) == ("meta/model", adapter or "somebody/mine")


def test_the_identity_of_weights_on_the_hub_holds_their_commit(server, monkeypatch, tmp_path):
    """Base, adapter and tokenizer count, as `main` may move between two shards."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    parts = ("meta-llama/Llama-3.2-1B", "hzeng/Lion-SP-1B-llama3-marco-mntp")
    identities = {find_checkpoint("lion-sp-1b").identity}
    for number, part in enumerate((*parts, *parts)):
        snapshot(tmp_path, part, str(number) * 40)
        checkpoint = find_checkpoint("lion-sp-1b")
        assert checkpoint.commits[part] == str(number) * 40
        identities.add(checkpoint.identity)
    assert len(identities) == 5
    assert find_checkpoint("lion-sp-1b").identity == checkpoint.identity
