"""Passages per second and peak memory of our encoding against plain transformers loops, at the shapes of real models.

    python run_scripts/bench/encode.py [--passages 200] [--corpus corpus.jsonl] [--profile]
    python run_scripts/bench/encode.py --shape llama-3.1-8b --device cuda --passages 4000 --corpus corpus.jsonl

Random weights, since speed does not depend on values. Each side runs in a process of its own, since a process's peak memory never
goes down; what is printed is the peak above the model's own memory. Passages: those of a corpus in random order, such as MS MARCO's;
without one, the built-in sample's. On a CPU float32, on a GPU bfloat16. Sides:

- authors: as the paper's code is said to be: batches of 8 in corpus order, padded to 256 tokens, no_grad, all logits.
- plain: a good loop: sorted by length, batches of 32 padded to their longest, inference_mode, all logits, max before log1p.
- ours: SparseEncoder.encode_documents with its default budget; on a GPU with that of --batch-tokens auto.
"""

import argparse
import itertools
import multiprocessing
import resource
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerBase

from csplade_pyserini.cards import EncoderCard, find_checkpoint
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.model.backbone import load_tokenizer
from csplade_pyserini.model.encoder import SparseEncoder
from csplade_pyserini.reproduction.collections import SAMPLE

Encode = Callable[[list[str]], list[dict[Any, int]]]
LENGTH = 256
TERMS = 192
"""Of a document, on all sides: as many as real encoders give; random weights would give tens of thousands."""
SHAPES: dict[str, dict[str, Any]] = {
    "toy": {
        "vocab_size": 16_384, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "smollm2-135m": {
        "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "tie_word_embeddings": True,
    },
    "llama-3.2-1b": {
        "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "tie_word_embeddings": True,
    },
    "llama-3.1-8b": {
        "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "tie_word_embeddings": False,
    },
}  # fmt: skip
WANTED = {"authors": 3.0, "plain": 1.1}
"""Ours over each, in passages per second."""
MEMORY_WANTED = 1 / 4
"""Ours over the plain loop, above the model's own, on a CPU. A GPU's memory is there to be used."""
PEAK_WANTED = {"llama-3.1-8b": 0.55}
"""Of the speed of one large matrix product, on a GPU."""


class Bench(NamedTuple):
    """What all sides get."""

    shape: str
    device: str
    texts: list[str]

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.device == "cuda" else torch.float32


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=int, default=200)
    parser.add_argument("--corpus", default=str(SAMPLE / "corpus.jsonl"))
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--profile", action="store_true", help="where our time goes, by torch's profiler")
    args = parser.parse_args()
    texts = [
        document.text for document in itertools.islice(open_corpus(args.corpus).documents(), args.passages)
    ]
    bench = Bench(args.shape, args.device, texts)
    tokenizer = load_tokenizer(find_checkpoint("csplade-tiny"))
    lengths = token_counts(tokenizer, texts)
    place = torch.cuda.get_device_name() if args.device == "cuda" else f"{torch.get_num_threads()} threads"
    print(
        f"{args.shape}: {len(texts)} passages, {sum(lengths)} tokens, {place}, torch {torch.__version__}, {bench.dtype}"
    )
    found = {}
    for side in SIDES:
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            seconds, memory, table = pool.apply(measure, (side, bench, args.profile and side == "ours"))
        found[side] = seconds, memory
        print(
            f"{side:<8} {seconds:8.1f} s  {len(texts) / seconds:8.2f} passages/s  {sum(lengths) / seconds:10,.0f} tokens/s  "
            f"{memory / 2**20:8,.0f} MiB above the model"
        )
        if table:
            print(table)
    ratios = {side: found[side][0] / found["ours"][0] for side in WANTED}
    reached = [ratios[side] >= WANTED[side] for side in WANTED]
    for side, ratio in ratios.items():
        print(f"ours / {side}: {ratio:.2f} times the passages per second (at least {WANTED[side]} wanted)")
    memory = found["ours"][1] / found["plain"][1]
    print(
        f"ours / plain: {memory:.3f} of the memory above the model{f' (at most {MEMORY_WANTED} wanted)' if args.device == 'cpu' else ''}"
    )
    reached.append(args.device != "cpu" or memory <= MEMORY_WANTED)
    share = share_of_peak(bench, sum(lengths), found["ours"][0])
    reached.append(args.device == "cpu" or share >= PEAK_WANTED.get(args.shape, 0))
    return 0 if all(reached) else 1


def token_counts(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[int]:
    """Tokens of each text, cut at LENGTH."""
    rows = tokenizer(texts, add_special_tokens=False, truncation=True, max_length=LENGTH)["input_ids"]
    return [len(row) for row in rows]


def measure(side: str, bench: Bench, profile: bool) -> tuple[float, int, str]:
    """(seconds, extra peak bytes, the profile or nothing) of one side."""
    torch.manual_seed(0)
    with torch.device(bench.device):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPES[bench.shape]), dtype=bench.dtype).eval()
    encode = SIDES[side](model, load_tokenizer(find_checkpoint("csplade-tiny")))
    encode(bench.texts[:2])  # warm up the threads and libraries
    if bench.device == "cuda":
        torch.cuda.reset_peak_memory_stats()  # the search for the fastest batch went to the memory's end
    before = peak_bytes(bench.device)
    with torch.profiler.profile() if profile else nullcontext() as profiler:
        start = time.perf_counter()
        vectors = encode(bench.texts)
        seconds = time.perf_counter() - start
    if len(vectors) != len(bench.texts):
        raise RuntimeError(f"{side} made {len(vectors)} vectors of {len(bench.texts)} texts")
    table = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=12) if profiler else ""
    return seconds, peak_bytes(bench.device) - before, table


def authors(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase) -> Encode:
    @torch.no_grad()
    def encode(texts: list[str]) -> list[dict[Any, int]]:
        vectors = []
        for batch in itertools.batched(texts, 8):
            inputs = tokenizer(
                list(batch), padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
            ).to(model.device)
            mask = inputs["attention_mask"]
            logits = model(input_ids=inputs["input_ids"], attention_mask=mask, use_cache=False).logits
            weights = torch.log1p(torch.relu(logits)).mul(mask[..., None]).amax(dim=1)
            vectors += as_vectors(weights)
        return vectors

    return encode


def plain(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase) -> Encode:
    @torch.inference_mode()
    def encode(texts: list[str]) -> list[dict[Any, int]]:
        rows = tokenizer(texts, add_special_tokens=False, truncation=True, max_length=LENGTH)["input_ids"]
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        vectors: list[dict[Any, int]] = [{}] * len(rows)
        for batch in itertools.batched(order, 32):
            inputs = tokenizer.pad({"input_ids": [rows[i] for i in batch]}, return_tensors="pt").to(
                model.device
            )
            mask = inputs["attention_mask"]
            logits = model(input_ids=inputs["input_ids"], attention_mask=mask, use_cache=False).logits
            peaks = logits.masked_fill_(mask[..., None] == 0, float("-inf")).amax(dim=1)
            for index, vector in zip(batch, as_vectors(torch.log1p(torch.relu(peaks))), strict=True):
                vectors[index] = vector
        return vectors

    return encode


def ours(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase) -> Encode:
    encoder = SparseEncoder(
        EncoderCard(name="bench", add_bos=False, document_max_length=LENGTH, document_top_terms=TERMS),
        model,
        tokenizer,
    )
    budget = encoder.batch_tokens() if model.device.type == "cuda" else None
    return lambda texts: encoder.encode_documents(texts, batch_tokens=budget)


def as_vectors(weights: torch.Tensor) -> list[dict[Any, int]]:
    weights, ids = weights.topk(TERMS)
    impacts = torch.round(100 * weights).int()
    return [dict(zip(*row, strict=True)) for row in zip(ids.tolist(), impacts.tolist(), strict=True)]


class Bound(NamedTuple):
    """Matrix products per token, and the speed of one large product here."""

    body: float
    """FLOP per token of all decoder layers."""
    head: float
    """FLOP per token of the LM head."""
    speed: float
    """FLOP per second."""

    def seconds(self, tokens: int) -> float:
        """Least time for so many tokens: the products alone, at that speed."""
        return tokens * (self.body + self.head) / self.speed


def bound(bench: Bench) -> Bound:
    """Count a shape's matrix products and time one large product."""
    shape = SHAPES[bench.shape]
    width, inner, heads = (
        shape["hidden_size"],
        shape["intermediate_size"],
        shape["num_key_value_heads"] / shape["num_attention_heads"],
    )
    body = 2 * shape["num_hidden_layers"] * width * (2 * width + 2 * width * heads + 3 * inner)
    return Bound(body, 2 * width * shape["vocab_size"], product_speed(bench, width, inner))


def share_of_peak(bench: Bench, tokens: int, seconds: float) -> float:
    """How much of `seconds` the matrix products alone would take at the speed of one large product here; printed."""
    body, head, speed = found = bound(bench)
    least = found.seconds(tokens)
    wanted = (
        f" (at least {PEAK_WANTED[bench.shape]:.0%} wanted)"
        if bench.device == "cuda" and bench.shape in PEAK_WANTED
        else ""
    )
    print(
        f"bound: {body / 1e6:,.0f} MFLOP a token in the body, {head / 1e6:,.0f} in the head; at this machine's {speed / 1e9:,.0f} GFLOP/s "
        f"{least:.1f} s, {least / seconds:.0%} of ours{wanted}"
    )
    return least / seconds


def product_speed(bench: Bench, width: int, inner: int) -> float:
    """FLOP per second of one large matrix product."""
    rows, rounds = (16_384, 50) if bench.device == "cuda" else (2048, 10)
    left, right = (
        torch.randn(size, dtype=bench.dtype, device=bench.device) for size in ((rows, width), (width, inner))
    )
    for _ in range(rounds):  # a GPU takes some time to reach its clock
        product = left @ right
    product[0, 0].item()  # waits for the device
    start = time.perf_counter()
    for _ in range(rounds):
        product = left @ right
    product[0, 0].item()
    return rounds * 2 * rows * width * inner / (time.perf_counter() - start)


def peak_bytes(device: str) -> int:
    return (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )


SIDES = {"authors": authors, "plain": plain, "ours": ours}


if __name__ == "__main__":
    raise SystemExit(main())
