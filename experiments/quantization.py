"""What quantizing an encoder costs and saves: effectiveness, speed, memory and index size of each method, in one run.

python run_scripts/quantization.py --encoder csplade-bi-smol --collection beir/nfcorpus/test --output runs/quantization
python run_scripts/quantization.py --shape llama-3.1-8b --device cuda --output runs/quantization-8b        # speed and memory alone

The figures of arXiv 2504.10816, section 5.3, and the two things that it leaves out: model memory and index size. A method that does
not run here is listed with the reason. --shape: random weights at a real model's shape, since speed does not depend on values; on
a GPU against bfloat16 compiled, as the paper does. Run it again to go on.
"""

import argparse
import itertools
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from bench.encode import SHAPES
from transformers import AutoModelForCausalLM, LlamaConfig

from csplade_pyserini.cards import QUANTIZATIONS, EncoderCard, find_checkpoint
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.files import whole_file
from csplade_pyserini.collections.manifests import versions
from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.command_line import positive, run
from csplade_pyserini.errors import InputError
from csplade_pyserini.model import SparseEncoder, load_encoder
from csplade_pyserini.model.backbone import load_tokenizer
from csplade_pyserini.model.quantization import quantize
from csplade_pyserini.reproduction.collections import SAMPLE

METHODS = [method for method in QUANTIZATIONS if method != "none"]
ROUNDS = 3
"""Of which the fastest counts."""
FAILED = "does not run here"


class Side(NamedTuple):
    """One row: a method in a dtype, and whether the model is compiled."""

    name: str
    quantization: str
    dtype: str
    compiled: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    found: dict[str, dict[str, Any]] = {}
    for side in sides(args.device, args.methods):
        file = args.output / f"{side.name.replace(' ', '-')}.json"
        if not file.is_file():
            print(f"== {side.name}", file=sys.stderr)
            with whole_file(file) as out:
                json.dump(measure(args, side), out)
        found[side.name] = json.loads(file.read_text(encoding="utf-8"))
    write_report(args, found)
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--encoder", metavar="NAME", help="encoder whose weights are quantized")
    what.add_argument("--shape", choices=SHAPES, help="random weights of this shape: speed and memory alone")
    parser.add_argument("--collection", metavar="NAME", help="what `reproduce` takes; needed with --encoder")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=METHODS,
        metavar="METHOD",
        help=f"of {', '.join(METHODS)}",
    )
    parser.add_argument("--texts", type=positive, default=128, help="documents and queries that are timed")
    args = parser.parse_args(argv)
    if args.encoder and not args.collection:
        raise InputError("--encoder needs --collection, to measure effectiveness")
    return args


def sides(device: str, methods: Sequence[str]) -> list[Side]:
    """The unquantized first: the others are read against it. On a CPU without bfloat16 of its own that dtype is slower than float32."""
    dtype = "bfloat16" if device == "cuda" else "float32"
    plain = [Side(dtype, "none", dtype)]
    if device == "cuda":
        plain.insert(0, Side("bfloat16 compiled", "none", "bfloat16", compiled=True))
    return plain + [Side(method, method, dtype) for method in methods]


def measure(args: argparse.Namespace, side: Side) -> dict[str, Any]:
    """A row: scores and index bytes by `reproduce`, then speed and memory in a process of its own; or why not."""
    row: dict[str, Any] = {}
    if args.encoder and not side.compiled:
        # Here and not above: gpu.py takes this file where the packages behind these are missing.
        from csplade_pyserini.reproduction.records import read_record
        from csplade_pyserini.reproduction.steps import folder_name

        encoder = f"{args.encoder}:device={args.device},dtype={side.dtype},quantization={side.quantization}"
        words = ("--collection", args.collection, "--encoder", encoder, "--output", str(args.output / "runs"))
        command = [sys.executable, "-m", "csplade_pyserini.reproduce", *words]
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            return {FAILED: done.stderr.strip().splitlines()[-1]}
        record = read_record(args.output / "runs" / folder_name(encoder))
        row = {"scores": record.scores, "index_bytes": record.index_bytes}
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return row | pool.apply(speed, (args, side))


def speed(args: argparse.Namespace, side: Side) -> dict[str, Any]:
    """Queries one by one, documents in batches, and the bytes of the model's weights."""
    try:
        encoder = build(args, side)
    except InputError as error:
        return {FAILED: str(error)}
    folder = args.output / "runs"
    corpus = folder / "corpus" / "docs.jsonl" if args.encoder else SAMPLE / "corpus.jsonl"
    topics = next(folder.glob("topics*.tsv")) if args.encoder else SAMPLE / "topics.tsv"
    documents = [
        document.text for document in itertools.islice(open_corpus(str(corpus)).documents(), args.texts)
    ]
    queries = list(itertools.islice(itertools.cycle(read_topics(str(topics)).values()), args.texts))
    (
        encoder.encode_documents(documents),
        [encoder.encode(query) for query in queries[:8]],
    )  # warms up, and compiles
    seconds: dict[str, list[float]] = {"queries": [], "documents": []}
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for query in queries:
            encoder.encode(query)
        middle = time.perf_counter()
        encoder.encode_documents(documents)
        seconds["queries"].append(middle - start)
        seconds["documents"].append(time.perf_counter() - middle)
    rates = {f"{name} a second": args.texts / min(times) for name, times in seconds.items()}
    return rates | {"model_bytes": model_bytes(encoder.model)}


def build(args: argparse.Namespace, side: Side) -> SparseEncoder:
    if args.encoder:
        encoder = load_encoder(
            args.encoder, device=args.device, dtype=side.dtype, quantization=side.quantization
        )
    else:
        torch.manual_seed(0)
        with torch.device(args.device):  # a CPU takes minutes to draw 8 billion random numbers
            model = AutoModelForCausalLM.from_config(
                LlamaConfig(**SHAPES[args.shape]), dtype=getattr(torch, side.dtype)
            ).eval()
        model = quantize(model, side.quantization, torch.device(args.device))
        card = EncoderCard(
            name=args.shape,
            add_bos=False,
            query_max_length=64,
            document_max_length=256,
            document_top_terms=192,
        )
        encoder = SparseEncoder(card, model, load_tokenizer(find_checkpoint("csplade-tiny")))
    if side.compiled:
        encoder.model.base_model.compile(dynamic=True)
    return encoder


def model_bytes(model: torch.nn.Module) -> int:
    """Bytes that the weights take, quantized ones with their scales."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return sum(
        part.untyped_storage().nbytes()
        for part in {part.data_ptr(): part for part in parts_of(tensors)}.values()
    )


def parts_of(tensors: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Plain tensors: those that torchao's hold inside, and bitsandbytes' scales, which stand beside the weights."""
    for tensor in tensors:
        if hasattr(tensor, "__tensor_flatten__"):
            names, _ = tensor.__tensor_flatten__()
            yield from parts_of(getattr(tensor, name) for name in names)
            continue
        yield tensor.data
        beside = [getattr(tensor, "SCB", None), getattr(getattr(tensor, "quant_state", None), "absmax", None)]
        yield from (part for part in beside if part is not None)


def write_report(args: argparse.Namespace, found: dict[str, dict[str, Any]]) -> None:
    """table.md and plots beside it; the table on stdout too."""
    import markdown

    from csplade_pyserini.reproduction.records import described, hardware

    ran = {name: row for name, row in found.items() if FAILED not in row}
    [key, *_] = [*next(iter(ran.values())).get("scores", {}), ""]
    metrics = list(next(iter(ran.values()))["scores"][key]) if key else []
    quantities = {
        **{
            metric: {name: row["scores"][key][metric] for name, row in ran.items() if "scores" in row}
            for metric in metrics
        },
        "queries a second, one by one": {name: row["queries a second"] for name, row in ran.items()},
        "documents a second": {name: row["documents a second"] for name, row in ran.items()},
        "model, MB": {name: row["model_bytes"] / 1e6 for name, row in ran.items()},
        **(
            {
                "index, MB": {
                    name: row["index_bytes"] / 1e6 for name, row in ran.items() if "index_bytes" in row
                }
            }
            if key
            else {}
        ),
    }
    lines = [
        [name, *(cell(values, name, metric in metrics) for metric, values in quantities.items())]
        for name in ran
    ]
    failed = [f"- {name}: {FAILED}: {row[FAILED]}" for name, row in found.items() if FAILED in row]
    about = f"{args.encoder or args.shape}{f' on {key}' if key else ''}; {described(hardware() | versions())}; {time.strftime('%Y-%m-%d')}"
    table = "\n".join([about, "", markdown.table(["", *quantities], lines), "", *failed])
    with whole_file(args.output / "table.md") as file:
        file.write(table + "\n")
    print(table)
    plot(quantities, args.output / "plot.png")


def cell(values: dict[str, float], name: str, is_score: bool) -> str:
    """A value and, but for scores, its ratio to the unquantized."""
    if name not in values:
        return ""
    first = next(iter(values.values()))
    return f"{values[name]:.4f}" if is_score else f"{values[name]:,.1f} ({values[name] / first:.2f})"


def plot(quantities: dict[str, dict[str, float]], path: Path) -> None:
    """Bars, a panel a quantity."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(quantities), figsize=(3.2 * len(quantities), 3.4), layout="constrained", squeeze=False
    )
    for axis, (title, values) in zip(axes[0], quantities.items(), strict=True):
        bars = axis.barh(
            list(values),
            list(values.values()),
            color=["#47a" if name in METHODS else "#888" for name in values],
        )
        axis.bar_label(bars, fmt="%.3g", fontsize=8, padding=2)
        axis.margins(x=0.2)
        axis.invert_yaxis()
        axis.set_title(title, fontsize=10)
    for axis in axes[0][1:]:
        axis.set_yticklabels([])
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    run(main)
