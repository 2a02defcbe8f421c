"""Train the first csplade-tiny from nothing on a CPU: a tokenizer, then contrastive training from a lexical start.

    python run_scripts/train_tiny.py --data DATA --output FIRST --minutes 40
    python run_scripts/train_tiny.py --data DATA --start FIRST --output encoders/csplade-tiny \\
        --minutes 10 --rate 4e-4 --sparsity 20 --seed 2

DATA holds the development data described in DATA/README.md. What is read: the text of the MS MARCO
passages, NFCorpus documents with its *train* queries and qrels, WikiText-2, Brown and ABC text, WordNet
glosses, 10-K questions and TREC QA's train questions. No query, qrel or topic of a development or test
split is used (BEIR keeps the queries of all splits in one file; the train qrels say which are taken).
Everything random comes from --seed; what the script prints is the record of how the weights were made.
"""

import argparse
import csv
import gzip
import io
import itertools
import json
import math
import random
import re
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from csplade_pyserini.model.attention import set_attention
from csplade_pyserini.model.head import activate, streamed_peaks
from csplade_pyserini.model.inputs import pad

VOCABULARY, END = 12_288, "<|endoftext|>"
ARCHITECTURE = {
    "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
PAIR_BATCH, QUERY_LENGTH, DOCUMENT_LENGTH = 64, 24, 72
FLOPS_QUERY, FLOPS_DOCUMENT = 0.006, 0.005
"""Regulariser weights at full strength; quadratic ramp over the first third, as in the lineage."""

BIAS_DIMENSION = 0.14
"""About one term in ten starts active by chance: enough for a gradient to find expansions through the ReLU."""
EMBEDDING_RATE = 0.3
"""Share of the learning rate for embeddings, which start at 0.02 and would lose what they are."""
START_SCORE = 20.0
"""Mean score of the positives above which scores are scaled down to it."""

Pair = tuple[str, str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--minutes", type=float, default=40.0, help="wall-clock of the training (default 40)")
    parser.add_argument("--start", type=Path, help="checkpoint folder to go on from, with its tokenizer")
    parser.add_argument("--rate", type=float, default=6e-4, help="peak learning rate (default 6e-4)")
    parser.add_argument("--sparsity", type=float, default=1.0, help="factor on both FLOPS regularisers (default 1)")
    parser.add_argument("--seed", type=int, default=20261123)
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    print(f"made by: {' '.join(sys.argv)} (torch {torch.__version__}, {torch.get_num_threads()} threads)")

    texts = list(read_texts(args.data))
    sources = read_pairs(args.data)
    print(f"texts: {len(texts)}; pairs: { ({name: len(pairs) for name, pairs in sources.items()}) }")
    if args.start:
        tokenizer = AutoTokenizer.from_pretrained(args.start)
        model = LlamaForCausalLM.from_pretrained(args.start, dtype=torch.float32)
    else:
        tokenizer = train_tokenizer(texts + [text for pairs in sources.values() for pair in pairs[:20_000] for text in pair])
        model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0, **ARCHITECTURE))
    set_attention(model, "bidirectional")
    if not args.start:
        start_lexical(model)
    print(f"parameters: {sum(p.numel() for p in model.parameters()):,}")
    contrastive(model, tokenizer, sources, texts, args)

    args.output.mkdir(parents=True, exist_ok=True)
    model.config.is_causal = True  # the card says how to attend, not the config
    model.to(torch.float16).save_pretrained(args.output)
    tokenizer.save_pretrained(args.output)
    print(f"wrote {args.output}")
    return 0


# ---------------------------------------------------------------- data


def read_texts(data: Path) -> Iterator[str]:
    """Passages of plain text, one subject each."""
    with gzip.open(data / "msmarco-dl" / "collection.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from (json.loads(line)["contents"] for line in lines)
    yield from (f"{title} {text}" for title, text in nfcorpus_documents(data).values())
    for name in ("valid.txt", "test.txt"):
        for line in (data / "text" / "wikitext-2" / name).read_text(encoding="utf-8").splitlines():
            if len(line) > 200:
                yield re.sub(r"<unk>|@(?=[-,.]@)|(?<=@[-,.])@", "", line)
    for name in ("brown", "abc"):
        with zipfile.ZipFile(data / "text" / "nltk" / f"{name}.zip") as archive:
            for member in archive.namelist():
                text = re.sub(r"/\S+", "", archive.read(member).decode("latin-1"))
                yield from (p for p in re.split(r"\n\s*\n", text) if len(p) > 200)


def nfcorpus(data: Path, member: str) -> Iterator[str]:
    """Lines of a file of the BEIR NFCorpus archive."""
    archive = data / "ir_datasets" / "beir" / "nfcorpus" / "source.zip"
    with zipfile.ZipFile(archive) as zipped, zipped.open(f"nfcorpus/{member}") as raw:
        yield from io.TextIOWrapper(raw, encoding="utf-8")


def nfcorpus_documents(data: Path) -> dict[str, Pair]:
    records = map(json.loads, nfcorpus(data, "corpus.jsonl"))
    return {record["_id"]: (record["title"], record["text"]) for record in records}


def read_pairs(data: Path) -> dict[str, list[Pair]]:
    """(query, document) pairs by source."""
    documents = nfcorpus_documents(data)
    queries = {record["_id"]: record["text"] for record in map(json.loads, nfcorpus(data, "queries.jsonl"))}
    qrels = csv.DictReader(nfcorpus(data, "qrels/train.tsv"), delimiter="\t")
    judged = [(queries[row["query-id"]], " ".join(documents[row["corpus-id"]])) for row in qrels if row["corpus-id"] in documents]
    with gzip.open(data / "pairs" / "wordnet_gloss_pairs.jsonl.gz", "rt", encoding="utf-8") as lines:
        glosses = [(record["query"], record["pos"]) for record in map(json.loads, lines)]
    tenk = json.loads((data / "pairs" / "llamaindex_10k" / "train_dataset.json").read_text(encoding="utf-8"))
    return {
        "nfcorpus-train": judged,
        "nfcorpus-title": [pair for pair in documents.values() if all(pair)],
        "wordnet": [pair for pair in glosses if all(pair)],
        "10-K": [(q, tenk["corpus"][tenk["relevant_docs"][qid][0]]) for qid, q in tenk["queries"].items()],
        "trec-qa": list(trecqa_pairs(data / "pairs" / "trecqa" / "train.xml")),
    }


def trecqa_pairs(path: Path) -> Iterator[Pair]:
    for block in re.findall(r"<QApairs.*?</QApairs>", path.read_text(encoding="utf-8", errors="replace"), re.S):
        lines = [line.split("\t") for line in block.splitlines()]
        tags = [line[0] for line in lines]
        question = lines[tags.index("<question>") + 1]
        for at, tag in enumerate(tags):
            if tag == "<positive>":
                yield " ".join(question), " ".join(lines[at + 1])


def crop_pair(text: str, rng: random.Random) -> Pair:
    """A span of 3 to 8 words as the query; half of the time the span leaves the document (inverse cloze)."""
    words = text.split()
    size = rng.randint(3, 8)
    start = rng.randint(0, max(0, len(words) - size))
    query = words[start : start + size]
    rest = words if rng.random() < 0.5 else words[:start] + words[start + size :]
    return " ".join(query), " ".join(rest[: DOCUMENT_LENGTH * 2])


# ---------------------------------------------------------------- tokenizer and phases


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE, lower-cased, every word with its leading space (so a word is one term anywhere)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END)


@torch.no_grad()
def start_lexical(model: LlamaForCausalLM) -> None:
    """Start as a matcher of equal terms: a text's own tokens active, nearly all others just not.

    Tied embeddings already give a token its own logit (about 4.6 here) and the others noise around 0. One
    dimension that the last norm turns over is the same in every embedding: a common bias below the noise.
    The layers start by adding nothing.
    """
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    model.model.embed_tokens.weight[:, 0] = -BIAS_DIMENSION
    model.model.norm.weight[0] = -1.0


def minutes_loop(model: LlamaForCausalLM, minutes: float, rate: float) -> Iterator[tuple[float, torch.optim.Optimizer]]:
    """Yield the share of the time that is over, stepping the optimiser after each; cosine with warm-up."""
    embeddings = model.model.embed_tokens.weight
    layers = [parameter for parameter in model.parameters() if parameter is not embeddings]
    groups = [{"params": layers, "factor": 1.0}, {"params": [embeddings], "factor": EMBEDDING_RATE}]
    optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    start = time.monotonic()
    while (share := (time.monotonic() - start) / (60 * minutes)) < 1:
        warm = min(1.0, share / 0.05 + 0.01)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"] * warm * max(0.02, 0.5 * (1 + math.cos(math.pi * share)))
        optimizer.zero_grad(set_to_none=True)
        yield share, optimizer
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def contrastive(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    sources: dict[str, list[Pair]],
    texts: list[str],
    args: argparse.Namespace,
) -> None:
    """InfoNCE over in-batch negatives plus FLOPS regularisers with a quadratic ramp (arXiv 2504.10816, 2.3)."""
    rng = random.Random(args.seed)
    pools = {name: itertools.cycle(rng.sample(pairs, len(pairs))) for name, pairs in sources.items()}
    mixture = {"nfcorpus-train": 14, "nfcorpus-title": 8, "wordnet": 12, "10-K": 1, "trec-qa": 2}
    long_texts = [text for text in texts if len(text.split()) > 20]
    print(f"contrastive: {args.minutes:.1f} minutes; of {PAIR_BATCH} pairs {mixture}, the rest cropped spans")
    for step, (share, _) in enumerate(minutes_loop(model, args.minutes, args.rate)):
        pairs = [next(pools[name]) for name, count in mixture.items() for _ in range(count)]
        pairs += [crop_pair(text, rng) for text in rng.sample(long_texts, PAIR_BATCH - len(pairs))]
        queries = weights(model, tokenizer, [q for q, _ in pairs], QUERY_LENGTH)  # (B, V)
        documents = weights(model, tokenizer, [d for _, d in pairs], DOCUMENT_LENGTH)  # (B, V)
        scores = queries @ documents.T
        # The first vectors are dense and score in the thousands; shrink them to where InfoNCE has a slope.
        scores = scores * min(1.0, START_SCORE / scores.diagonal().mean().item())
        same = torch.tensor([[a == b and i != j for j, (_, b) in enumerate(pairs)] for i, (_, a) in enumerate(pairs)])
        same |= torch.tensor([[a == b and i != j for j, (b, _) in enumerate(pairs)] for i, (a, _) in enumerate(pairs)])
        contrast = F.cross_entropy(scores.masked_fill(same, -1e4), torch.arange(len(pairs)))
        ramp = args.sparsity * min(1.0, 3 * share) ** 2
        (contrast + ramp * (FLOPS_QUERY * flops(queries) + FLOPS_DOCUMENT * flops(documents))).backward()
        if step % 25 == 0:
            active = [(w > 0).sum(dim=1).float().mean().item() for w in (queries, documents)]
            print(
                f"  step {step} at {share:.0%}: InfoNCE {contrast.item():.3f}, active terms {active[0]:.0f} a query, "
                f"{active[1]:.0f} a document",
                flush=True,
            )


def weights(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: list[str], length: int) -> Tensor:
    """Weights (B, V) with a gradient: the formula of the encoder over whole logits."""
    rows = [row[:length] for row in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]
    batch = pad(rows, echo=False, device=torch.device("cpu"))
    states = model.model(input_ids=batch.ids, attention_mask=batch.attention_mask, use_cache=False).last_hidden_state
    return activate(PeakLogits.apply(states, batch.pool_mask, model.lm_head.weight))


class PeakLogits(torch.autograd.Function):
    """streamed_peaks with a gradient: only active terms get one, at the position of their largest logit."""

    @staticmethod
    def forward(ctx, states: Tensor, mask: Tensor, head: Tensor) -> Tensor:
        ctx.save_for_backward(states, mask, head)
        return streamed_peaks(states, mask, head)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, Tensor]:
        states, mask, head = ctx.saved_tensors
        to_states, to_head = torch.zeros_like(states), torch.zeros_like(head)
        for row, of_row in enumerate(gradient):
            terms = of_row.nonzero().squeeze(1)
            tokens = states[row][mask[row]]  # (l, H)
            at = (head[terms] @ tokens.T).argmax(dim=1)  # (active terms)
            slope = of_row[terms, None]
            to_states[row].index_add_(0, at, slope * head[terms])  # padding is on the right
            to_head.index_add_(0, terms, slope * tokens[at])
        return to_states, None, to_head


def flops(batch: Tensor) -> Tensor:
    """FLOPS regulariser: the sum over terms of the squared mean weight (Paria et al., arXiv 2004.05665)."""
    return batch.mean(dim=0).square().sum()


if __name__ == "__main__":
    sys.exit(main())
