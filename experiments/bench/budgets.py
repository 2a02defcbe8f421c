"""Measure documents per second of the encoder by the number of tokens in a batch, on a GPU or a CPU.

    python experiments/bench/budgets.py --shape llama-3.1-8b --device cuda --passages 4000

The model has a real one's shape and random weights, since speed does not depend on values. Passages are the
built-in sample's, tokenized before the clock starts. A budget has two rounds, of which the faster counts.
"""

import argparse
import time
from collections.abc import Sequence

import torch
from encode import LENGTH, SHAPES, TERMS
from transformers import AutoModelForCausalLM, LlamaConfig

from csplade_pyserini.cards import EncoderCard, find_checkpoint
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.command_line import positive, run
from csplade_pyserini.model.backbone import load_tokenizer
from csplade_pyserini.model.encoder import SparseEncoder
from csplade_pyserini.reproduction.catalogue import SAMPLE

DTYPES = {"cuda": torch.bfloat16, "cpu": torch.float32}
ROUNDS = 2


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    encoder = random_encoder(args.shape, args.device)
    documents = [document.text for document in open_corpus(str(SAMPLE / "corpus.jsonl")).documents()]
    texts = [documents[number % len(documents)] for number in range(args.passages)]
    rows = encoder.tokenize(texts, side="document")
    tokens = sum(map(len, rows))
    print(f"{args.shape}: {len(rows)} passages, {tokens} tokens, {args.device}, torch {torch.__version__}")
    for budget in args.budgets:
        seconds = min(encode(encoder, rows, budget) for _ in range(ROUNDS))
        print(
            f"{budget:8,} tokens  {len(rows) / seconds:8.1f} passages/s  {tokens / seconds:10,.0f} tokens/s"
        )
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--device", choices=DTYPES, default="cpu")
    parser.add_argument("--passages", type=positive, default=100)
    parser.add_argument("--budgets", type=positive, nargs="+", default=[1024, 4096, 16_384], metavar="TOKENS")
    return parser.parse_args(argv)


def random_encoder(shape: str, device: str) -> SparseEncoder:
    """Return an encoder over a random model, with the limits of the other benches."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPES[shape]), dtype=DTYPES[device]).eval()
    card = EncoderCard(name="bench", add_bos=False, document_max_length=LENGTH, document_top_terms=TERMS)
    return SparseEncoder(card, model, load_tokenizer(find_checkpoint("csplade-tiny")))


def encode(encoder: SparseEncoder, rows: Sequence[list[int]], budget: int) -> float:
    """Return the seconds that all rows take in batches of so many tokens."""
    start = time.perf_counter()
    encoder.encode_tokenized(rows, side="document", batch_tokens=budget)
    return time.perf_counter() - start


if __name__ == "__main__":
    run(main)
