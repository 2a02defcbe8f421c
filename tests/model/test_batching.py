"""Batches by a token budget, and what happens where the device has not the memory for them."""

import itertools
import random

import pytest
import torch
from programs import run_python
from tiny_models import TEXTS

from csplade_pyserini.cards import EncoderCard, find_checkpoint
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.encoding import WINDOW
from csplade_pyserini.errors import InputError
from csplade_pyserini.model.backbone import load_tokenizer
from csplade_pyserini.model.batching import (
    GPU_BATCH_TOKENS,
    TokenBudget,
    fastest_budget,
    longest_first,
    usual_batch_tokens,
)
from csplade_pyserini.model.inputs import pad, tokenize

CUDA_ERROR = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
CPU_ERROR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 9 bytes"
)
KERNEL_ERROR = RuntimeError("could not create a primitive")
"""Raised by oneDNN within the limit of tests/test_memory.py (torch 2.15 on a CPU, 2026-11-27)."""
OTHER_ERRORS = ("shape mismatch", "could not create a primitive descriptor for a matmul primitive")


class Memory:
    """Makes an encoder fail as a device does that has room for so many padded tokens."""

    def __init__(self, encoder, monkeypatch, tokens: int, error: Exception = CUDA_ERROR) -> None:
        self.batches: list[tuple[int, int]] = []
        forward = encoder._peaks

        def limited(batch):
            self.batches.append(tuple(batch.ids.shape))
            if batch.ids.numel() > tokens:
                raise error
            return forward(batch)

        monkeypatch.setattr(encoder, "_peaks", limited)


def test_a_batch_holds_as_many_texts_as_the_budget_and_at_least_one():
    budget = TokenBudget(120)
    assert [budget.texts(length) for length in (0, 1, 40, 41, 120, 121, 10_000)] == [120, 120, 3, 2, 1, 1, 1]


def test_longest_first_is_an_order_that_does_not_depend_on_chance():
    lengths = [random.Random(1).randint(0, 9) for _ in range(200)]
    order = longest_first(lengths)
    assert sorted(order) == list(range(200))
    assert all((-lengths[a], a) < (-lengths[b], b) for a, b in zip(order, order[1:], strict=False))


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("tokens", [1, 50, 200])
def test_every_batch_is_within_its_budget_or_one_text(make_encoder, monkeypatch, tokens, echo):
    encoder = make_encoder(echo=echo)
    memory = Memory(encoder, monkeypatch, 10**9)
    encoder.encode_documents(TEXTS * 4, batch_tokens=tokens)
    assert sum(texts for texts, _ in memory.batches) == 4 * len(TEXTS)
    assert all(texts == 1 or texts * length <= tokens for texts, length in memory.batches)


@pytest.mark.parametrize(
    "error",
    [CUDA_ERROR, CPU_ERROR, KERNEL_ERROR, MemoryError()],
    ids=["cuda", "cpu", "cpu-kernel", "python"],
)
def test_out_of_memory_halves_the_batches_and_changes_no_vector(make_encoder, monkeypatch, capsys, error):
    encoder = make_encoder()
    wanted = encoder.encode_documents(TEXTS * 4, batch_tokens=1)
    memory = Memory(encoder, monkeypatch, 300, error)
    budget = TokenBudget(2000)
    done: list[int] = []
    rows = encoder.tokenize(TEXTS * 4, side="document")
    assert (
        encoder.encode_tokenized(rows, side="document", batch_tokens=budget, progress=done.append) == wanted
    )
    assert sum(done) == len(rows)
    assert budget.tokens == 250
    told = [f"out of memory: going on with batches of at most {tokens} tokens" for tokens in (1000, 500, 250)]
    assert [line for line in capsys.readouterr().err.splitlines() if "out of memory" in line] == told
    memory.batches.clear()
    encoder.encode_tokenized(rows, side="document", batch_tokens=budget)
    assert all(texts * length <= 300 for texts, length in memory.batches), "the next call knows"


def test_memory_that_runs_out_after_the_model_halves_the_batches_too(make_encoder, monkeypatch):
    """Entries of dense vectors take memory as well; no text is lost or given twice."""
    from csplade_pyserini.model import encoder as module

    encoder = make_encoder()
    wanted = encoder.encode_documents(TEXTS * 4, batch_tokens=1)
    entries = module._entries

    def limited(impacts):
        if len(impacts) > 3:
            raise CUDA_ERROR
        return entries(impacts)

    monkeypatch.setattr(module, "_entries", limited)
    assert encoder.encode_documents(TEXTS * 4, batch_tokens=2000) == wanted


@pytest.mark.data
@pytest.mark.parametrize("length", [128, 256])
def test_padding_is_at_most_a_twentieth_of_ms_marcos_tokens(data_folder, length):
    """The batches of 30,005 MS MARCO passages, as `encode` makes them with its larger default budget."""
    tokenizer = load_tokenizer(find_checkpoint("csplade-tiny"))
    card = EncoderCard(name="any", document_max_length=length)
    documents = open_corpus(str(data_folder / "msmarco-dl" / "collection.jsonl.gz")).documents()
    padded = tokens = 0
    for window in itertools.batched(documents, WINDOW):
        rows = tokenize(
            [document.text for document in window], side="document", card=card, tokenizer=tokenizer
        )
        order, budget, begin = longest_first([len(row) for row in rows]), TokenBudget(GPU_BATCH_TOKENS), 0
        while begin < len(order):
            batch = order[begin : begin + budget.texts(len(rows[order[begin]]))]
            padded += pad([rows[i] for i in batch], echo=False, device="cpu").ids.numel()
            begin += len(batch)
        tokens += sum(map(len, rows))
    assert tokens > 1_000_000
    print(
        f"at most {length} tokens a passage: {tokens} tokens, "
        f"{1 - tokens / padded:.2%} of what the model sees is padding"
    )
    assert 1 - tokens / padded <= 0.05


def test_a_single_text_that_does_not_fit_is_an_error_that_says_what_to_do(make_encoder, monkeypatch):
    encoder = make_encoder()
    Memory(encoder, monkeypatch, 2)
    with pytest.raises(
        InputError, match="a single text does not fit into the device's memory: lower --max-length"
    ):
        encoder.encode_documents(TEXTS)


@pytest.mark.parametrize("message", OTHER_ERRORS)
def test_other_errors_are_not_taken_for_a_lack_of_memory(message, make_encoder, monkeypatch):
    encoder = make_encoder()
    Memory(encoder, monkeypatch, 2, RuntimeError(message))
    with pytest.raises(RuntimeError, match=message):
        encoder.encode_documents(TEXTS)


def test_torch_itself_says_so_when_this_machine_has_no_memory():
    """An allocation beyond RLIMIT_AS, in a process of its own."""
    code = """
import resource
import torch
resource.setrlimit(resource.RLIMIT_AS, (1 << 36, 1 << 36))
from csplade_pyserini.model.batching import out_of_memory
try:
    torch.zeros(1 << 42)
except Exception as error:
    assert out_of_memory(error), error
else:
    raise SystemExit("it fitted")
"""

    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr


def test_the_fastest_budget_is_doubled_until_that_is_not_worth_it(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("csplade_pyserini.model.batching.time.perf_counter", lambda: clock[0])

    def encode(rows):  # as fast as 8,000 tokens a pass are, or a little more
        assert all(len(row) == 100 and 0 <= min(row) <= max(row) < 50 for row in rows)
        tokens = 100 * len(rows)
        clock[0] += max(tokens, 8000) / 1000

    assert 8000 <= fastest_budget(encode, 100, 50) < 16_500


def test_the_fastest_budget_is_one_that_fits():
    def encode(rows):
        if len(rows) > 20:
            raise CUDA_ERROR

    assert TokenBudget(fastest_budget(encode, 100, 50)).texts(100) <= 20


def test_what_does_not_fit_at_all_is_raised():
    def encode(rows):
        raise CUDA_ERROR

    with pytest.raises(torch.OutOfMemoryError):
        fastest_budget(encode, 100, 50)


def test_auto_finds_a_budget_for_an_encoder(make_encoder):
    encoder = make_encoder(document_max_length=16)
    assert encoder.batch_tokens() >= 512
    assert encoder.token_budget("auto", side="document").tokens >= 512
    assert (
        encoder.token_budget(None, side="document").tokens == usual_batch_tokens(torch.device("cpu")) == 1024
    )
    assert usual_batch_tokens(torch.device("cuda")) == 4096
    assert encoder.token_budget(7, side="query").tokens == 7
