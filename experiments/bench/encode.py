"""Measure passages per second and peak memory of our encoding against plain transformers loops.

    python experiments/bench/encode.py [--passages 200] [--corpus corpus.jsonl] [--profile]
    python experiments/bench/encode.py --shape llama-3.1-8b --device cuda --passages 4000 \\
        --corpus corpus.jsonl

The models have the shapes of real ones and random weights, since speed does not depend on values. Each side
runs in its own process, since a process's peak memory never goes down. The script prints the peak above the
model's own memory. Passages come from a corpus in random order, such as MS MARCO's. Without a corpus they
come from the built-in sample. The dtype is float32 on a CPU and bfloat16 on a GPU. The sides are:

- authors: the loop that the paper's code is said to have: batches of 8 in corpus order, padded to 256 tokens,
  no_grad, all logits.
- plain: a good loop: sorted by length, batches of 32 padded to their longest, inference_mode, all logits,
  max before log1p.
- ours: SparseEncoder.encode_documents with its default budget, on a GPU with that of --batch-tokens auto.
"""

import argparse
import itertools
import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerBase

from csplade_pyserini.cards import EncoderCard, find_checkpoint
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.files.tables import read_toml
from csplade_pyserini.model.backbone import load_tokenizer
from csplade_pyserini.model.encoder import SparseEncoder
from csplade_pyserini.reproduction.catalogue import SAMPLE

Encode = Callable[[list[str]], Sequence[dict[Any, int]]]
LENGTH = 256
"""Tokens of a passage."""
TERMS = 192
"""Terms of a document on all sides, as real encoders give; random weights would give tens of thousands."""
SHAPES = read_toml(Path(__file__).parents[1] / "shapes.toml", "shapes")
WANTED = {"authors": 3.0, "plain": 1.1}
"""Wanted ratio of our passages per second to each side's."""
MEMORY_WANTED = 1 / 4
"""Wanted ratio of our memory to the plain loop's, on a CPU. A GPU's memory is there to be used."""
PEAK_WANTED = {"llama-3.1-8b": 0.55}
"""Wanted share of the speed of one large matrix product, on a GPU."""


class Bench(NamedTuple):
    """The task that all sides get."""

    shape: str
    device: str
    texts: list[str]

    @property
    def dtype(self) -> torch.dtype:
        return {"cuda": torch.bfloat16, "cpu": torch.float32}[self.device]


class Cost(NamedTuple):
    """Seconds, peak bytes above the model, and the profile if one was asked for."""

    seconds: float
    memory: int
    profile: str


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    documents = open_corpus(args.corpus).documents()
    texts = [document.text for document in itertools.islice(documents, args.passages)]
    bench = Bench(args.shape, args.device, texts)
    tokens = count_tokens(bench)
    found = {}
    for side in SIDES:
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            found[side] = pool.apply(measure, (side, bench, args.profile and side == "ours"))
        print_cost(side, bench, tokens, found[side])
    compare_speed(found)
    is_low = compare_memory(bench, found)
    compare_with_peak(bench, tokens, found["ours"].seconds)
    return int(not is_low)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--passages", type=int, default=200)
    parser.add_argument("--corpus", default=str(SAMPLE / "corpus.jsonl"))
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--profile", action="store_true", help="print torch's profile of our side")
    return parser.parse_args(argv)


def count_tokens(bench: Bench) -> int:
    """Count the tokens of all passages, and print the task."""
    tokens = sum(token_counts(load_tokenizer(find_checkpoint("csplade-tiny")), bench.texts))
    device = f"{torch.get_num_threads()} threads"
    if bench.device == "cuda":
        device = torch.cuda.get_device_name()
    print(
        f"{bench.shape}: {len(bench.texts)} passages, {tokens} tokens, {device}, torch {torch.__version__}, "
        f"{bench.dtype}"
    )
    return tokens


def token_counts(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[int]:
    """Return the number of tokens in each text, cut at LENGTH."""
    rows = tokenizer(texts, add_special_tokens=False, truncation=True, max_length=LENGTH)["input_ids"]
    return [len(row) for row in rows]


def print_cost(side: str, bench: Bench, tokens: int, cost: Cost) -> None:
    passages = len(bench.texts) / cost.seconds
    print(
        f"{side:<8} {cost.seconds:8.1f} s  {passages:8.2f} passages/s  "
        f"{tokens / cost.seconds:10,.0f} tokens/s  {cost.memory / 2**20:8,.0f} MiB above the model"
    )
    if cost.profile:
        print(cost.profile)


def compare_speed(found: dict[str, Cost]) -> None:
    """Print our speed over each other side's."""
    for side, wanted in WANTED.items():
        ratio = found[side].seconds / found["ours"].seconds
        print(f"ours / {side}: {ratio:.2f} times the passages per second (at least {wanted} wanted)")


def compare_memory(bench: Bench, found: dict[str, Cost]) -> bool:
    """Print our memory over the plain loop's. Returns whether it is low enough, on a CPU."""
    ratio: float = found["ours"].memory / found["plain"].memory
    line = f"ours / plain: {ratio:.3f} of the memory above the model"
    if bench.device != "cpu":
        print(line)
        return True
    print(f"{line} (at most {MEMORY_WANTED} wanted)")
    return ratio <= MEMORY_WANTED


def compare_with_peak(bench: Bench, tokens: int, seconds: float) -> None:
    """Print the share of our time that the matrix products alone would take, timed by one large product."""
    found = bound(bench)
    least = found.seconds(tokens)
    line = (
        f"bound: {found.body / 1e6:,.0f} MFLOP a token in the body, {found.head / 1e6:,.0f} in the head; "
        f"at this machine's {found.speed / 1e9:,.0f} GFLOP/s {least:.1f} s, {least / seconds:.0%} of ours"
    )
    if bench.device != "cpu" and bench.shape in PEAK_WANTED:
        line += f" (at least {PEAK_WANTED[bench.shape]:.0%} wanted)"
    print(line)


class Bound(NamedTuple):
    """Matrix products per token, and the speed of one large product here."""

    body: float
    """FLOP per token in all decoder layers."""
    head: float
    """FLOP per token in the LM head."""
    speed: float
    """FLOP per second."""

    def seconds(self, tokens: int) -> float:
        """Return the time of the products alone, at that speed."""
        return tokens * (self.body + self.head) / self.speed


def bound(bench: Bench) -> Bound:
    """Count a shape's matrix products, and time one large product."""
    shape = SHAPES[bench.shape]
    width = shape["hidden_size"]
    inner = shape["intermediate_size"]
    heads = shape["num_key_value_heads"] / shape["num_attention_heads"]
    body = 2 * shape["num_hidden_layers"] * width * (2 * width + 2 * width * heads + 3 * inner)
    return Bound(body, 2 * width * shape["vocab_size"], product_speed(bench, width, inner))


def product_speed(bench: Bench, width: int, inner: int) -> float:
    """Return the FLOP per second of one large matrix product."""
    rows, rounds = {"cuda": (16_384, 50), "cpu": (2048, 10)}[bench.device]
    left = torch.randn((rows, width), dtype=bench.dtype, device=bench.device)
    right = torch.randn((width, inner), dtype=bench.dtype, device=bench.device)
    for _ in range(rounds):  # a GPU needs some time to reach its clock
        product = left @ right
    product[0, 0].item()  # waits for the device
    start = time.perf_counter()
    for _ in range(rounds):
        product = left @ right
    product[0, 0].item()
    return rounds * 2 * rows * width * inner / (time.perf_counter() - start)


def measure(side: str, bench: Bench, profile: bool) -> Cost:
    """Encode the passages by one side's loop."""
    torch.manual_seed(0)
    with torch.device(bench.device):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPES[bench.shape]), dtype=bench.dtype).eval()
    encode = SIDES[side](model, load_tokenizer(find_checkpoint("csplade-tiny")))
    encode(bench.texts[:2])  # warm up the threads and libraries
    if bench.device == "cuda":
        torch.cuda.reset_peak_memory_stats()  # the search for the fastest batch filled the memory
    before = peak_bytes(bench.device)
    profiling: Any = nullcontext()
    if profile:
        profiling = torch.profiler.profile()
    with profiling as profiler:
        start = time.perf_counter()
        vectors = encode(bench.texts)
        seconds = time.perf_counter() - start
    if len(vectors) != len(bench.texts):
        raise RuntimeError(f"{side} made {len(vectors)} vectors of {len(bench.texts)} texts")
    table = ""
    if profile:
        table = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=12)
    # A few passages may fit into memory that was free before: at least one byte, for the ratio's sake.
    return Cost(seconds, max(1, peak_bytes(bench.device) - before), table)


def authors(model: Any, tokenizer: PreTrainedTokenizerBase) -> Encode:
    """Return the paper's loop."""

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


def plain(model: Any, tokenizer: PreTrainedTokenizerBase) -> Encode:
    """Return a good loop."""

    @torch.inference_mode()
    def encode(texts: list[str]) -> list[dict[Any, int]]:
        rows = tokenizer(texts, add_special_tokens=False, truncation=True, max_length=LENGTH)["input_ids"]
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        vectors: list[dict[Any, int]] = [{}] * len(rows)
        for batch in itertools.batched(order, 32):
            inputs = tokenizer.pad({"input_ids": [rows[i] for i in batch]}, return_tensors="pt")
            inputs = inputs.to(model.device)
            mask = inputs["attention_mask"]
            logits = model(input_ids=inputs["input_ids"], attention_mask=mask, use_cache=False).logits
            peaks = logits.masked_fill_(mask[..., None] == 0, float("-inf")).amax(dim=1)
            for index, vector in zip(batch, as_vectors(torch.log1p(torch.relu(peaks))), strict=True):
                vectors[index] = vector
        return vectors

    return encode


def ours(model: Any, tokenizer: PreTrainedTokenizerBase) -> Encode:
    """Return our loop."""
    card = EncoderCard(name="bench", add_bos=False, document_max_length=LENGTH, document_top_terms=TERMS)
    encoder = SparseEncoder(card, model, tokenizer)
    budget = None
    if model.device.type == "cuda":
        budget = encoder.batch_tokens()
    return lambda texts: encoder.encode_documents(texts, batch_tokens=budget)


def as_vectors(weights: torch.Tensor) -> list[dict[Any, int]]:
    """Return the heaviest terms of each row, by token id."""
    values, ids = weights.topk(TERMS)
    impacts = torch.round(100 * values).int()
    return [dict(zip(*row, strict=True)) for row in zip(ids.tolist(), impacts.tolist(), strict=True)]


def peak_bytes(device: str) -> int:
    """Return the most memory that this process has used on the device."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


SIDES = {"authors": authors, "plain": plain, "ours": ours}


if __name__ == "__main__":
    raise SystemExit(main())
