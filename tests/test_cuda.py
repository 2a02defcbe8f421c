"""The laws of the model and of training, on a CUDA device. All skip where there is none."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from tiny_models import TEXTS, tiny_model
from transformers import PreTrainedTokenizerFast

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.errors import InputError
from csplade_pyserini.model import SparseEncoder, load_encoder
from csplade_pyserini.model.attention import first_sees_last, set_attention
from csplade_pyserini.model.batching import TokenBudget
from csplade_pyserini.model.head import (
    Terms,
    naive_peaks,
    peaks_and_positions,
    streamed_peaks,
    trainable_peaks,
)
from csplade_pyserini.model.quantization import METHODS, quantize
from csplade_pyserini.train import main as train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CUDA = "cuda"
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 6e-2, torch.float16: 1e-2}
"""bfloat16 keeps 8 bits and float16 11; a GPU multiplies in another order for another shape."""
IMPACT_TOLERANCE = {torch.float32: 1, torch.bfloat16: 12, torch.float16: 3}
"""Rounding may fall to the other side, and a logit's error is a share of it."""
WIDE = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 2, "num_key_value_heads": 2}
B, L, H, V = 6, 33, 64, 1000


@pytest.fixture
def encoder_on(byte_tokenizer: PreTrainedTokenizerFast):
    """encoder_on(dtype, device, ...): an encoder over a tiny model."""

    def make(dtype: torch.dtype, device: str = CUDA, **card: object) -> SparseEncoder:
        model = tiny_model("llama", **WIDE).to(device, dtype)
        return SparseEncoder(EncoderCard(name="tiny", **card), model, byte_tokenizer)

    return make


def random_case(dtype: torch.dtype, side: str = "right") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden, head = torch.randn(B, L, H, generator=generator), torch.randn(V, H, generator=generator)
    mask = torch.arange(L) < torch.tensor([L, 1, 9, 20, 2, 32])[:, None]
    mask = mask if side == "right" else mask.flip(1)
    return hidden.to(CUDA, dtype), mask.to(CUDA), head.to(CUDA, dtype)


def close(found: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype) -> None:
    scale = float(wanted.float().abs().max())
    torch.testing.assert_close(found.float(), wanted.float(), rtol=0, atol=TOLERANCE[dtype] * max(1.0, scale))


def near(one: dict[str, int], other: dict[str, int], tolerance: int) -> bool:
    return all(abs(one.get(term, 0) - other.get(term, 0)) <= tolerance for term in one.keys() | other.keys())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("slice_bytes", [1, 2 * B * L * 100, 2**25])
def test_the_streamed_head_equals_the_naive_one(dtype, side, slice_bytes):
    hidden, mask, head = random_case(dtype, side)
    bias = torch.linspace(-3, 3, V, device=CUDA, dtype=dtype)
    for options in ({}, {"bias": bias}):
        found = streamed_peaks(hidden, mask, head, slice_bytes=slice_bytes, **options)
        assert found.dtype == dtype
        close(found, naive_peaks(hidden, mask, head, **options), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_positions_point_at_the_peaks(dtype):
    hidden, mask, head = random_case(dtype)
    peaks, positions = peaks_and_positions(hidden, mask, head)
    logits = hidden.float() @ head.float().T
    close(logits.gather(1, positions[:, None].long()).squeeze(1), peaks, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("top", [0, 12])
def test_peaks_of_terms_are_those_of_a_cpu(dtype, top):
    hidden, mask, head = random_case(dtype)
    terms = Terms(torch.arange(V) // 2, (V + 1) // 2, top)
    found = streamed_peaks(hidden, mask, head, terms=terms.to(torch.device(CUDA)))
    wanted = streamed_peaks(hidden.float().cpu(), mask.cpu(), head.float().cpu(), terms=terms)
    reached = found.isfinite().cpu() & wanted.isfinite()
    if not top:
        close(found.cpu()[reached], wanted[reached], dtype)
        return
    # Rounded logits tie at a position's last place. Another term is kept there, or the term elsewhere.
    assert reached.sum() > 0.9 * wanted.isfinite().sum()
    off = (found.float().cpu() - wanted)[reached].abs() > TOLERANCE[dtype] * wanted[reached].abs().max()
    assert off.float().mean() < 0.02


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("echo", [False, True])
def test_padding_and_batches_change_no_vector(encoder_on, dtype, attention, echo):
    encoder = encoder_on(dtype, attention=attention, echo=echo)
    texts = [*TEXTS, "", "  "]
    together = encoder.encode_documents(texts)
    alone = [encoder.encode_documents([text])[0] for text in texts]
    assert together[-2:] == [{}, {}]
    assert all(near(one, other, IMPACT_TOLERANCE[dtype]) for one, other in zip(alone, together, strict=True))
    backwards = encoder.encode_documents(texts[::-1])[::-1]
    assert backwards == together, "the order of the texts is that of the vectors"


@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors_are_those_of_the_cpu_in_float32(encoder_on, dtype):
    wanted = encoder_on(torch.float32, "cpu").weights(TEXTS)
    close(encoder_on(dtype).weights(TEXTS).cpu(), wanted, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_obeys_the_card(dtype):
    model = tiny_model("llama", **WIDE).to(CUDA, dtype)
    for attention in ("causal", "bidirectional"):
        set_attention(model, attention)
        assert set(first_sees_last(model)) == {attention == "bidirectional"}


def test_an_encoder_takes_the_gpu_and_float16_by_itself(checkpoint_folder):
    encoder = load_encoder(str(checkpoint_folder))
    assert encoder.model.device.type == "cuda"
    assert encoder.model.dtype == torch.float16
    assert load_encoder(f"{checkpoint_folder}:device=cpu").model.dtype == torch.float32


def test_the_fastest_budget_is_found(encoder_on):
    assert encoder_on(torch.bfloat16, document_max_length=64).batch_tokens() >= 512


def test_out_of_memory_halves_the_batches_and_changes_no_vector(encoder_on):
    """The real allocator refuses: this process may have little more than it holds."""
    encoder = encoder_on(torch.float32, document_max_length=128)
    texts = encoder.tokenize(TEXTS, side="document")
    rows = [list(itertools.islice(itertools.cycle(row), 128)) for row in texts]
    rows *= 400  # 256,000 tokens, 130 MB a layer's activations
    wanted = encoder.encode_tokenized(rows, side="document", batch_tokens=4096)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties().total_memory
    budget = TokenBudget(2**18)
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 150 * 2**20) / total)
    try:
        found = encoder.encode_tokenized(rows, side="document", batch_tokens=budget)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert budget.tokens < 2**18
    assert all(near(one, other, 1) for one, other in zip(found, wanted, strict=True))


def test_a_text_that_does_not_fit_alone_is_an_error(encoder_on):
    encoder = encoder_on(torch.float32, document_max_length=100_000)
    total = torch.cuda.get_device_properties().total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 4 * 2**20) / total)
    try:
        with pytest.raises(InputError, match="a single text does not fit"):
            encoder.encode_tokenized([[5] * 60_000], side="document")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def gradients(peaks_of, hidden, mask, head, bias, upstream):
    leaves = [tensor.clone().requires_grad_() for tensor in (hidden, head, bias)]
    peaks = peaks_of(leaves[0], mask, leaves[1], bias=leaves[2])
    peaks.backward(upstream)
    return [peaks.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
def test_the_gradient_is_autograds_of_the_naive_head(dtype, share):
    hidden, mask, head = random_case(dtype)
    # Rounded logits tie, and a tie's gradient may go to another position: well apart, there is none.
    hidden = hidden * torch.linspace(0.5, 2, L, device=CUDA, dtype=dtype)[None, :, None]
    bias = torch.linspace(-1, 1, V, device=CUDA, dtype=dtype)
    generator = torch.Generator().manual_seed(5)
    upstream = torch.randn(B, V, generator=generator) * (torch.rand(B, V, generator=generator) < share)
    upstream = upstream.to(CUDA, dtype)
    found = gradients(trainable_peaks, hidden, mask, head, bias, upstream)
    exact = [tensor.float() for tensor in (hidden, head, bias, upstream)]
    wanted = gradients(naive_peaks, exact[0], mask, *exact[1:])
    assert [part.dtype for part in found] == [dtype] * 4
    close(found[0], wanted[0], dtype)
    for ours, theirs in zip(found[1:], wanted[1:], strict=True):
        error = (ours.float() - theirs).norm() / theirs.norm().clamp(min=1e-6)
        assert error < 5 * TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_the_head_runs_in_its_dtype_and_gradients_come_back(dtype):
    hidden, mask, head = random_case(torch.float32)
    hidden.requires_grad_()
    head.requires_grad_()
    with torch.autocast("cuda", dtype):
        peaks = trainable_peaks(hidden, mask, head)
    assert peaks.dtype == dtype
    peaks.float().sum().backward()
    assert hidden.grad.dtype == head.grad.dtype == torch.float32
    assert hidden.grad[~mask].eq(0).all()
    assert hidden.grad.isfinite().all()
    assert hidden.grad.ne(0).any()


@pytest.mark.parametrize("method", METHODS)
def test_a_quantized_backbone_is_near_the_unquantized(encoder_on, method):
    plain = encoder_on(torch.bfloat16)
    model = tiny_model("llama", **WIDE).to(torch.bfloat16)
    try:
        model = quantize(model, method, torch.device(CUDA))
    except InputError as error:
        pytest.skip(str(error))
    encoder = SparseEncoder(plain.card, model, plain.tokenizer)
    assert encoder.model.device.type == "cuda"
    exact, found = plain.weights(TEXTS), encoder.weights(TEXTS)
    assert not torch.equal(found, exact)
    assert float((found - exact).norm() / exact.norm()) < 0.5
    together = encoder.encode_documents(TEXTS)
    assert all(vector for vector in together)


def configuration(folder: Path, start: Path, **changes: str) -> Path:
    """A configuration of eight steps over a tiny checkpoint."""
    lines = []
    for i in range(32):
        positive, negative = TEXTS[i % len(TEXTS)], TEXTS[(i + 1) % len(TEXTS)]
        record = {
            "query_id": str(i),
            "query": f"{positive[:20]} {i}",
            "positive_passages": [{"docid": f"p{i}", "text": f"{positive} {i}"}],
            "negative_passages": [{"docid": f"n{i}", "text": f"{negative} {i}"}],
        }
        lines.append(json.dumps(record) + "\n")
    (folder / "examples.jsonl").write_text("".join(lines))
    settings = {
        "start": f'"{start}"',
        "output": f'"{folder}/out"',
        "data": f'["{folder}/examples.jsonl"]',
        "steps": "8",
        "learning_rate": "1e-3",
        "batch_size": "4",
        "device_batch_size": "4",
        "negatives": "1",
        "query_regulariser": "0.001",
        "document_regulariser": "0.001",
        "stop_when_collapsed": "false",
    } | changes
    table = "".join(f"{key} = {value}\n" for key, value in settings.items())
    card = 'name = "trained"\nattention = "bidirectional"\nquery_max_length = 12\ndocument_max_length = 24\n'
    trainer = "logging_steps = 1\nsave_steps = 4\nbf16 = true\n"
    file = folder / "configuration.toml"
    file.write_text(f"[card]\n{card}[contrast]\n{table}[contrast.trainer]\n{trainer}")
    return file


@pytest.mark.parametrize("lora", ["0", "4"], ids=["all weights", "lora"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_runs_and_moves_the_vectors(tmp_path, monkeypatch, checkpoint_folder, lora, dtype):
    pytest.importorskip("accelerate", reason="training needs accelerate")
    file = configuration(tmp_path, checkpoint_folder, lora_rank=lora, dtype=f'"{dtype}"')
    assert train(["contrast", "--config", str(file)]) == 0
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    losses = [line["loss"] for line in record["log"] if "loss" in line]
    assert len(losses) == 8
    assert all(loss == loss and loss < 1e6 for loss in losses)
    before, after = (
        load_encoder(str(folder)).weights(TEXTS) for folder in (checkpoint_folder, tmp_path / "out")
    )
    assert not torch.allclose(before, after, atol=1e-3)
