"""Questions to the Hugging Face hub: whether a repository holds a card of ours, and which commit it is at.

The user's token goes along only where the user names one of our encoders. A name that is only looked up to
see whether it is ours is asked for without it, and a `no` is kept for a day.
A private repository is thus recognised by Pyserini's commands once its card is in the cache here.
"""

import hashlib
import re
import time
from pathlib import Path
from typing import Any

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import whole_file

TIMEOUT_SECONDS = 5.0
_NO_LASTS_SECONDS = 24 * 3600
_NOT_OURS = (401, 403, 404)
"""Answers for a repository or file that there is not, or not for us."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


class NoAnswerError(Exception):
    """The hub could not be asked: no network, a time-out, an error of its own."""


class OfflineError(NoAnswerError):
    """The hub is not to be asked: HF_HUB_OFFLINE is set."""


def cached_file(name: str, file: str, revision: str = "") -> Path | None:
    """Path of a repository's file in the hub's cache on this machine; None if it is not there.

    revision: commit, tag or branch; empty for the main branch, here and below.
    """
    import huggingface_hub

    cached = huggingface_hub.try_to_load_from_cache(name, file, revision=revision or None)
    return Path(cached) if isinstance(cached, str) else None


def has_file(name: str, file: str, revision: str = "", *, anonymous: bool) -> bool:
    """Ask the hub once whether a repository has a file, without the retries of hf_hub_download.

    anonymous: send no token. Raises NoAnswerError if the hub cannot be asked.
    """
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    if constants.HF_HUB_OFFLINE:
        raise OfflineError("HF_HUB_OFFLINE is set")
    token = False if anonymous else None
    url = huggingface_hub.hf_hub_url(name, file, revision=revision or None)
    session = huggingface_hub.get_session()
    try:
        answer = session.head(url, headers=build_hf_headers(token=token), timeout=TIMEOUT_SECONDS)
    except Exception as error:  # any HTTP library that a version of huggingface_hub is built on
        raise NoAnswerError(str(error) or type(error).__name__) from error
    status = int(answer.status_code)
    if status >= 400 and status not in _NOT_OURS:
        raise NoAnswerError(f"status {status}")
    return status < 400


def download(name: str, file: str, revision: str = "") -> Path:
    """Fetch a file of a repository into the cache. Raises NoAnswerError."""
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(name, file, revision=revision or None))
    except Exception as error:  # as in has_file
        raise NoAnswerError(str(error) or type(error).__name__) from error


def is_known_foreign(name: str, home: Path | None) -> bool:
    """Whether the hub said within the last day that a repository has no card of ours."""
    try:
        age = time.time() - _record(name, home).stat().st_mtime
    except OSError:
        return False
    return 0 <= age < _NO_LASTS_SECONDS


def keep_foreign(name: str, home: Path | None) -> None:
    """Keep that a repository has no card of ours; a home that cannot be written costs the next request."""
    try:
        with whole_file(_record(name, home)) as file:
            file.write(f"{name}\n")
    except (InputError, OSError):
        return


def commit_of(name: str, revision: str = "") -> str:
    """Commit of a repository: the one in the cache here, else the hub's; empty if nobody knows it."""
    if _COMMIT.fullmatch(revision):
        return revision
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")
    ref = folder / "refs" / (revision or "main")
    try:
        return ref.read_text(encoding="utf-8").strip()
    except OSError:
        pass
    if constants.HF_HUB_OFFLINE:
        return ""
    try:
        info: Any = huggingface_hub.model_info(name, revision=revision or None, timeout=TIMEOUT_SECONDS)
    except Exception:  # the load itself then says what is wrong
        return ""
    return str(info.sha or "")


def _record(name: str, home: Path | None) -> Path:
    if home is None:
        raise FileNotFoundError("there is no home folder to keep answers of the hub in")
    return home / "not_ours" / hashlib.sha256(name.encode()).hexdigest()[:32]
