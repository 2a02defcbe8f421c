"""Measure effectiveness, speed, memory and index size of every quantization method, in one run.

    python experiments/quantization.py --encoder csplade-bi-smol --collection beir/nfcorpus/test \\
        --output runs/quantization
    python experiments/quantization.py --shape llama-3.1-8b --device cuda --output runs/quantization-8b

These are the figures of arXiv 2504.10816, section 5.3, plus two that it leaves out: model memory and index
size. A method that does not run here is listed with the reason. --shape takes random weights of a real
model's shape, since speed does not depend on values: speed and memory alone. On a GPU one row is bfloat16
compiled, the paper's baseline. Run the script again to resume.
"""

import argparse
import itertools
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from csplade_pyserini.cards import QUANTIZATIONS, EncoderCard, find_checkpoint
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.manifests import versions
from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.command_line import positive, run
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.pages import markdown_table
from csplade_pyserini.files.tables import read_toml
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.model import SparseEncoder, load_encoder
from csplade_pyserini.model.backbone import load_tokenizer
from csplade_pyserini.model.quantization import quantize
from csplade_pyserini.reproduction.catalogue import SAMPLE

SHAPES = read_toml(Path(__file__).with_name("shapes.toml"), "shapes")
METHODS = [method for method in QUANTIZATIONS if method != "none"]
ROUNDS = 3
"""Rounds, of which the fastest counts."""
FAILED = "does not run here"

Row = dict[str, Any]
"""Measurements of one side, or under FAILED the reason why there are none."""


class Side(NamedTuple):
    """One row: a method, a dtype, and whether the model is compiled."""

    name: str
    quantization: str
    dtype: str
    compiled: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    found: dict[str, Row] = {}
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
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--encoder", metavar="NAME", help="encoder whose weights are quantized")
    what.add_argument("--shape", choices=SHAPES, help="random weights of this shape: speed and memory alone")
    parser.add_argument(
        "--collection", metavar="NAME", help="a collection that `reproduce` takes; needed with --encoder"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=METHODS, metavar="METHOD",
        help=f"methods to measure (default: {', '.join(METHODS)})",
    )  # fmt: skip
    parser.add_argument("--texts", type=positive, default=128, help="documents and queries that are timed")
    args = parser.parse_args(argv)
    if args.encoder and not args.collection:
        raise InputError("--encoder needs --collection, to measure effectiveness")
    return args


def sides(device: str, methods: Sequence[str]) -> list[Side]:
    """List the unquantized sides first, as the others are compared with the first row.

    A CPU without native bfloat16 is slower with that dtype than with float32.
    """
    if device == "cuda":
        plain = [
            Side("bfloat16 compiled", "none", "bfloat16", compiled=True),
            Side("bfloat16", "none", "bfloat16"),
        ]
    else:
        plain = [Side("float32", "none", "float32")]
    return plain + [Side(method, method, plain[0].dtype) for method in methods]


def measure(args: argparse.Namespace, side: Side) -> Row:
    """Measure scores and index bytes by `reproduce`, then speed and memory in another process."""
    row: Row = {}
    if args.encoder and not side.compiled:
        row = reproduce(args, side)
        if FAILED in row:
            return row
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return row | pool.apply(speed, (args, side))


def reproduce(args: argparse.Namespace, side: Side) -> Row:
    """Run `reproduce` with the quantized encoder."""
    # Imported here: gpu.py uses this file without the packages behind these.
    from csplade_pyserini.reproduction.records import read_record
    from csplade_pyserini.reproduction.steps import folder_name

    encoder = f"{args.encoder}:device={args.device},dtype={side.dtype},quantization={side.quantization}"
    runs = args.output / "runs"
    command = [
        sys.executable, "-m", "csplade_pyserini.reproduce",
        "--collection", args.collection, "--encoder", encoder, "--output", str(runs),
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {FAILED: done.stderr.strip().splitlines()[-1]}
    record = read_record(runs / folder_name(encoder))
    return {"scores": record.scores, "index_bytes": record.index_bytes}


def speed(args: argparse.Namespace, side: Side) -> Row:
    """Time queries one by one and documents in batches, and count the bytes of the weights."""
    try:
        encoder = build(args, side)
    except InputError as error:
        return {FAILED: str(error)}
    documents, queries = timed_texts(args)
    encoder.encode_documents(documents)  # warms up, and compiles
    for query in queries[:8]:
        encoder.encode(query)
    query_seconds = []
    document_seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for query in queries:
            encoder.encode(query)
        middle = time.perf_counter()
        encoder.encode_documents(documents)
        document_seconds.append(time.perf_counter() - middle)
        query_seconds.append(middle - start)
    return {
        "queries a second": args.texts / min(query_seconds),
        "documents a second": args.texts / min(document_seconds),
        "model_bytes": model_bytes(encoder.model),
    }


def timed_texts(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return documents and queries of the collection, or of the sample with --shape."""
    corpus = SAMPLE / "corpus.jsonl"
    topics = SAMPLE / "topics.tsv"
    if args.encoder:
        corpus = args.output / "runs" / "corpus" / "docs.jsonl"
        topics = next((args.output / "runs").glob("topics*.tsv"))
    documents = itertools.islice(open_corpus(str(corpus)).documents(), args.texts)
    queries = itertools.cycle(read_topics(str(topics)).values())
    return [document.text for document in documents], list(itertools.islice(queries, args.texts))


def build(args: argparse.Namespace, side: Side) -> SparseEncoder:
    """Load or make the side's encoder. Raises InputError if its method does not run here."""
    if args.encoder:
        options = {"device": args.device, "dtype": side.dtype, "quantization": side.quantization}
        encoder = load_encoder(args.encoder, **options)
    else:
        encoder = random_encoder(args, side)
    if side.compiled:
        encoder.model.base_model.compile(dynamic=True)
    return encoder


def random_encoder(args: argparse.Namespace, side: Side) -> SparseEncoder:
    """Make an encoder with random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[args.shape])
    with torch.device(args.device):  # a CPU takes minutes to draw 8 billion random numbers
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, side.dtype)).eval()
    model = quantize(model, side.quantization, torch.device(args.device))
    card = EncoderCard(
        name=args.shape, add_bos=False, query_max_length=64, document_max_length=256, document_top_terms=192
    )
    return SparseEncoder(card, model, load_tokenizer(find_checkpoint("csplade-tiny")))


def model_bytes(model: torch.nn.Module) -> int:
    """Count the bytes of the weights, with the scales of quantized ones. Shared weights count once."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    sizes = {part.data_ptr(): part.untyped_storage().nbytes() for part in parts_of(tensors)}
    return sum(sizes.values())


def parts_of(tensors: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Yield plain tensors: the parts of torchao's, and bitsandbytes' scales beside its weights."""
    for tensor in tensors:
        if hasattr(tensor, "__tensor_flatten__"):
            names, _ = tensor.__tensor_flatten__()
            yield from parts_of(getattr(tensor, name) for name in names)
            continue
        yield tensor.data
        beside = [getattr(tensor, "SCB", None), getattr(getattr(tensor, "quant_state", None), "absmax", None)]
        yield from (part for part in beside if part is not None)


def write_report(args: argparse.Namespace, found: dict[str, Row]) -> None:
    """Write table.md and plot.png, and print the table."""
    from csplade_pyserini.reproduction.records import described, hardware

    ran = {name: row for name, row in found.items() if FAILED not in row}
    keys = first_topics(ran)
    scores = score_columns(ran, keys)
    columns = scores | cost_columns(ran)
    lines = []
    for name in ran:
        cells = [score_cell(values, name) for values in scores.values()]
        cells += [cost_cell(columns[title], name) for title in columns if title not in scores]
        lines.append([name, *cells])
    failed = [f"- {name}: {FAILED}: {row[FAILED]}" for name, row in found.items() if FAILED in row]
    what = " on ".join([args.encoder or args.shape, *keys])
    about = f"{what}; {described({**hardware(), **versions()})}; {time.strftime('%Y-%m-%d')}"
    table = "\n".join([about, "", markdown_table(["", *columns], lines), "", *failed])
    with whole_file(args.output / "table.md") as file:
        file.write(table + "\n")
    print(table)
    plot(columns, args.output / "plot.png")


Column = Mapping[str, float]
"""One quantity of every side that has it."""


def first_topics(ran: Mapping[str, Row]) -> list[str]:
    """Return the name of the first set of topics, or nothing without scores. A compiled side has none."""
    for row in ran.values():
        if "scores" in row:
            return list(row["scores"])[:1]
    return []


def score_columns(ran: Mapping[str, Row], keys: Sequence[str]) -> dict[str, Column]:
    """Return the metrics of the first set of topics, if there is one."""
    columns: dict[str, dict[str, float]] = {}
    for key in keys:
        for name, row in ran.items():
            for metric, value in row.get("scores", {}).get(key, {}).items():
                columns.setdefault(metric, {})[name] = value
    return dict(columns)


def cost_columns(ran: Mapping[str, Row]) -> dict[str, Column]:
    """Return speed, model size and, if it was measured, index size."""
    columns: dict[str, Column] = {
        "queries a second, one by one": {name: row["queries a second"] for name, row in ran.items()},
        "documents a second": {name: row["documents a second"] for name, row in ran.items()},
        "model, MB": {name: row["model_bytes"] / 1e6 for name, row in ran.items()},
    }
    index = {name: row["index_bytes"] / 1e6 for name, row in ran.items() if "index_bytes" in row}
    if index:
        columns["index, MB"] = index
    return columns


def score_cell(values: Column, name: str) -> str:
    if name not in values:
        return ""
    return f"{values[name]:.4f}"


def cost_cell(values: Column, name: str) -> str:
    """Return a value, and its ratio to the first side's."""
    if name not in values:
        return ""
    first = next(iter(values.values()))
    return f"{values[name]:,.1f} ({values[name] / first:.2f})"


def plot(columns: Mapping[str, Column], path: Path) -> None:
    """Draw bars, with one panel per quantity."""
    from matplotlib import pyplot

    size = (3.2 * len(columns), 3.4)
    figure, axes = pyplot.subplots(1, len(columns), figsize=size, layout="constrained", squeeze=False)
    for axis, (title, values) in zip(axes[0], columns.items(), strict=True):
        colours = ["#47a" if name in METHODS else "#888" for name in values]
        bars = axis.barh(list(values), list(values.values()), color=colours)
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
