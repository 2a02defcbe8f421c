"""Passages per second and peak memory of our encoding against plain transformers loops, at SmolLM2-135M's shape.

    python run_scripts/bench/encode.py [--passages 200] [--corpus corpus.jsonl] [--profile]

Random weights, since speed does not depend on values. Each side runs in a process of its own, since a process's peak memory never
goes down; what is printed is the peak above the model's own memory. Passages: those of a corpus in random order, such as MS MARCO's;
without one, the built-in sample's. Sides:

- authors: as the paper's code is said to be: batches of 8 in corpus order, padded to 256 tokens, no_grad, all logits.
- plain: a good loop: sorted by length, batches of 32 padded to their longest, inference_mode, all logits, max before log1p.
- ours: SparseEncoder.encode_documents with its default budget.
"""

import argparse
import itertools
import multiprocessing
import resource
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerBase

from csplade_pyserini.cards import EncoderCard, find_checkpoint
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.model.backbone import load_tokenizer
from csplade_pyserini.model.encoder import SparseEncoder

SAMPLE = Path(__file__).parents[2] / "csplade_pyserini" / "sample" / "corpus.jsonl"
LENGTH = 256
SHAPE = {
    "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "tie_word_embeddings": True,
}  # fmt: skip
WANTED = {"authors": 3.0, "plain": 1.1}
"""Ours over each, in passages per second."""
MEMORY_WANTED = 1 / 4
"""Ours over the plain loop, above the model's own."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=int, default=200)
    parser.add_argument("--corpus", default=str(SAMPLE))
    parser.add_argument("--profile", action="store_true", help="where our time goes, by torch's profiler")
    args = parser.parse_args()
    texts = [document.text for document in itertools.islice(open_corpus(args.corpus).documents(), args.passages)]
    tokenizer = load_tokenizer(find_checkpoint("csplade-tiny"))
    lengths = [len(row) for row in tokenizer(texts, add_special_tokens=False, truncation=True, max_length=LENGTH)["input_ids"]]
    print(f"{len(texts)} passages, {sum(lengths)} tokens, {torch.get_num_threads()} threads, torch {torch.__version__}, float32")
    found = {}
    for side in SIDES:
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            seconds, memory, table = pool.apply(measure, (side, texts, args.profile and side == "ours"))
        found[side] = seconds, memory
        print(f"{side:<8} {seconds:8.1f} s  {len(texts) / seconds:7.2f} passages/s  {memory / 2**20:8,.0f} MiB above the model")
        if table:
            print(table)
    bound(sum(lengths), found["ours"][0])
    ratios = {side: found[side][0] / found["ours"][0] for side in WANTED}
    memory = found["ours"][1] / found["plain"][1]
    for side, ratio in ratios.items():
        print(f"ours / {side}: {ratio:.2f} times the passages per second (at least {WANTED[side]} wanted)")
    print(f"ours / plain: {memory:.3f} of the memory above the model (at most {MEMORY_WANTED} wanted)")
    return 0 if all(ratios[side] >= WANTED[side] for side in WANTED) and memory <= MEMORY_WANTED else 1


def measure(side: str, texts: list[str], profile: bool) -> tuple[float, int, str]:
    """(seconds, extra peak bytes, the profile or nothing) of one side."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE)).eval()
    tokenizer = load_tokenizer(find_checkpoint("csplade-tiny"))
    SIDES[side](model, tokenizer, texts[:2])  # warm up the threads and libraries
    before = peak_bytes()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) if profile else torch.no_grad() as profiler:
        start = time.perf_counter()
        vectors = SIDES[side](model, tokenizer, texts)
        seconds = time.perf_counter() - start
    if len(vectors) != len(texts):
        raise RuntimeError(f"{side} made {len(vectors)} vectors of {len(texts)} texts")
    table = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=12) if profile else ""
    return seconds, peak_bytes() - before, table


@torch.no_grad()
def authors(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[dict[int, int]]:
    vectors = []
    for batch in itertools.batched(texts, 8):
        inputs = tokenizer(list(batch), padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
        mask = inputs["attention_mask"]
        logits = model(input_ids=inputs["input_ids"], attention_mask=mask, use_cache=False).logits
        weights = torch.log1p(torch.relu(logits)).mul(mask[..., None]).amax(dim=1)
        vectors += as_vectors(weights)
    return vectors


@torch.inference_mode()
def plain(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[dict[int, int]]:
    rows = tokenizer(texts, add_special_tokens=False, truncation=True, max_length=LENGTH)["input_ids"]
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    vectors: list[dict[int, int]] = [{}] * len(rows)
    for batch in itertools.batched(order, 32):
        inputs = tokenizer.pad({"input_ids": [rows[i] for i in batch]}, return_tensors="pt")
        mask = inputs["attention_mask"]
        logits = model(input_ids=inputs["input_ids"], attention_mask=mask, use_cache=False).logits
        peaks = logits.masked_fill_(mask[..., None] == 0, float("-inf")).amax(dim=1)
        for index, vector in zip(batch, as_vectors(torch.log1p(torch.relu(peaks))), strict=True):
            vectors[index] = vector
    return vectors


def ours(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[dict[str, int]]:
    card = EncoderCard(name="bench", add_bos=False, document_max_length=LENGTH)
    return SparseEncoder(card, model, tokenizer).encode_documents(texts)


def as_vectors(weights: torch.Tensor) -> list[dict[int, int]]:
    vectors = []
    for row in torch.round(100 * weights).int():
        [ids] = row.nonzero(as_tuple=True)
        vectors.append(dict(zip(ids.tolist(), row[ids].tolist(), strict=True)))
    return vectors


def bound(tokens: int, seconds: float) -> None:
    """What the matrix products alone would take at the speed that this machine multiplies one large pair at."""
    width, inner, heads = SHAPE["hidden_size"], SHAPE["intermediate_size"], SHAPE["num_key_value_heads"] / SHAPE["num_attention_heads"]
    body = 2 * SHAPE["num_hidden_layers"] * width * (2 * width + 2 * width * heads + 3 * inner)
    head = 2 * width * SHAPE["vocab_size"]
    left, right = torch.randn(2048, width), torch.randn(width, 4096)
    left @ right
    start = time.perf_counter()
    for _ in range(10):
        left @ right
    speed = 10 * 2 * 2048 * width * 4096 / (time.perf_counter() - start)
    print(
        f"bound: {body / 1e6:.0f} MFLOP a token in the body, {head / 1e6:.0f} in the head; at this machine's {speed / 1e9:.0f} GFLOP/s "
        f"{tokens * (body + head) / speed:.1f} s, {100 * tokens * (body + head) / speed / seconds:.0f} % of ours"
    )


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


SIDES = {"authors": authors, "plain": plain, "ours": ours}


if __name__ == "__main__":
    raise SystemExit(main())
