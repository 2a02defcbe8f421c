"""Show at small scale what the paper claims: docs/study.md with its plots and tables.

python run_scripts/study.py --data DATA [--output docs] [--parts stability attention]

After `run_scripts/train_small.sh DATA csplade-tiny`, whose backbone and data it takes from work/train; DATA is that script's.
Every run is kept under work/train/study: run again to resume. The text around the tables is run_scripts/study.md.
"""

import argparse
import json
import os
import shutil
import statistics
import string
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import markdown

from csplade_pyserini import command_line
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.files import whole_file
from csplade_pyserini.errors import InputError
from csplade_pyserini.model.encoder import load_encoder
from csplade_pyserini.reproduction.records import read_record
from csplade_pyserini.reproduction.steps import folder_name

WORK = Path("work/train")
STUDY = WORK / "study"
CARD: dict[str, Any] = {
    "attention": "bidirectional",
    "add_bos": False,
    "query_max_length": 32,
    "document_max_length": 128,
}

SCALE = 0.25
"""Lion-SP's logit scale, hidden_size ** -0.25, of a hidden size of 256."""
BACKBONES = {"language": 0.0, "adapted": 1.0}
"""relu_weight of as many more steps from csplade-tiny's language model: with the ReLU's loss they are the adaptation."""
ADAPTATION: dict[str, Any] = {
    "start": str(WORK / "tiny-language"), "data": [str(WORK / "data/texts.jsonl")], "steps": 800, "warmup_steps": 40,
    "learning_rate": 2e-3, "weight_decay": 0.01, "batch_size": 8, "device_batch_size": 8, "sequence_length": 128, "seed": 2,
    "trainer": {"save_steps": 200},
}  # fmt: skip
VARIANTS: dict[str, tuple[str, float]] = {
    "neither": ("language", 1.0),
    "adaptation": ("adapted", 1.0),
    "logit scale": ("language", SCALE),
    "both": ("adapted", SCALE),
}
"""Where a run of part 1 and 3 starts, and its logit scale."""
CONDITIONS: dict[str, dict[str, float]] = {
    "mild": {"learning_rate": 5e-4, "query_regulariser": 0.003, "document_regulariser": 0.003},
    "middle": {"learning_rate": 2e-3, "query_regulariser": 0.03, "document_regulariser": 0.03},
    "harsh": {"learning_rate": 5e-3, "query_regulariser": 0.3, "document_regulariser": 0.3},
}
SEEDS = (1, 2, 3)
STABILITY: dict[str, Any] = {
    "steps": 60, "batch_size": 16, "device_batch_size": 16, "document_max_length": 48, "ramp_steps": 20, "stop_when_collapsed": False,
    "negatives": 1, "weight_decay": 0.01,
    "data": [str(STUDY / "examples.jsonl")], "trainer": {"logging_steps": 1, "save_steps": 1000},
}  # fmt: skip
EXAMPLES = 4000
"""Lines of the other examples that part 1 trains on: one epoch and more."""

MODES: dict[str, dict[str, Any]] = {
    "causal": {"attention": "causal"},
    "echo": {"attention": "causal", "echo": True},
    "bidirectional": {"attention": "bidirectional"},
}
ATTENTION: dict[str, Any] = {
    "start": str(WORK / "tiny-distil"), "steps": 200, "learning_rate": 1e-3, "batch_size": 32, "device_batch_size": 32,
    "document_max_length": 96, "query_regulariser": 0.0, "document_regulariser": 0.0, "vector_weight": 0.1, "negatives": 0,
    "weight_decay": 0.01,
    "teacher_queries": str(WORK / "data/teacher-tiny/queries"), "teacher_documents": str(WORK / "data/teacher-tiny/documents"),
    "data": [str(WORK / "data/nfcorpus.jsonl"), str(WORK / "data/others.jsonl")], "trainer": {"save_steps": 50, "logging_steps": 10},
}  # fmt: skip
LIMITS = {"query_top_terms": 64, "document_top_terms": 192}
POOLS = ("dl19", "dl20")
COLLECTIONS = {"beir/nfcorpus/test": ("NFCorpus test",), "run_scripts/collections/msmarco-pool.toml": POOLS}
"""What they are measured on, and what the report calls their sets of topics."""
TIMED = 300
"""Passages that each mode encodes for its cost."""
COLOURS = ("#d62728", "#1f77b4", "#ff7f0e", "#2ca02c")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    parser.add_argument(
        "--output", type=Path, default=Path("docs"), help="folder of study.md and study/ (default: docs)"
    )
    parser.add_argument(
        "--parts", nargs="+", choices=("stability", "attention"), default=["stability", "attention"]
    )
    args = parser.parse_args(argv)
    for needed in (
        args.data / "ir_datasets",
        args.data / "msmarco-dl",
        WORK / "tiny-language",
        WORK / "data/teacher-tiny",
    ):
        if not needed.is_dir():
            raise InputError(
                f"no {needed}; wanted the development data as --data, and csplade-tiny trained by run_scripts/train_small.sh"
            )
    STUDY.mkdir(parents=True, exist_ok=True)
    run_adaptation()
    if "stability" in args.parts:
        run_stability()
    if "attention" in args.parts:
        run_attention(args.data)
    report(args.output)
    return 0


# ---------------------------------------------------------------- runs


def run_stability() -> None:
    """All variants, conditions and seeds of parts 1 and 3."""
    examples = STUDY / "examples.jsonl"
    if not examples.is_file():
        with (WORK / "data/others.jsonl").open(encoding="utf-8") as lines, whole_file(examples) as file:
            file.writelines(line for line, _ in zip(lines, range(EXAMPLES), strict=False))
    for condition, settings in CONDITIONS.items():
        for variant, (start, scale) in VARIANTS.items():
            for seed in SEEDS:
                changes = {"start": str(STUDY / start), "seed": seed}
                folder = stability_folder(condition, variant, seed)
                phase("contrast", folder, CARD | {"logit_scale": scale}, STABILITY | settings | changes)


def run_adaptation() -> None:
    """The backbones that the contrastive runs start from."""
    for name, relu_weight in BACKBONES.items():
        phase("adapt", STUDY / name, CARD, ADAPTATION | {"relu_weight": relu_weight})


def stability_folder(condition: str, variant: str, seed: int) -> Path:
    return STUDY / f"stability-{condition}-{variant.replace(' ', '-')}-{seed}"


def run_attention(data: Path) -> None:
    """The three ways to see right context, at equal steps, then NFCorpus's test split and the pools."""
    home = STUDY / "ir_datasets"  # ir_datasets writes beside its archive
    if not home.is_dir():
        shutil.copytree(data / "ir_datasets", home)
    environment = {"IR_DATASETS_HOME": str(home.resolve()), "CSPLADE_DATA": str(data.resolve())}
    for mode, changes in MODES.items():
        model = STUDY / f"attention-{mode}"
        phase("contrast", model, CARD | LIMITS | changes, ATTENTION)
        scores, rows = model.with_suffix(".scores.json"), {}
        if scores.is_file():
            continue
        for collection, names in COLLECTIONS.items():
            output = model.with_suffix(f".{Path(collection).stem}")
            call(
                "csplade_pyserini.reproduce",
                "--collection",
                collection,
                "--encoder",
                model,
                "--output",
                output,
                **environment,
            )
            record = read_record(output / folder_name(str(model)))
            sizes = {"index bytes": record.index_bytes, "terms": record.terms_per_document}
            rows |= {name: row | sizes for name, row in zip(names, record.scores.values(), strict=True)}
        write_json(scores, rows)
    if not (STUDY / "encoding.json").is_file():
        write_json(
            STUDY / "encoding.json",
            encoding_cost(STUDY / "attention-causal.msmarco-pool" / "corpus" / "docs.jsonl"),
        )


def phase(name: str, folder: Path, card: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """One run of a phase, adapt or contrast, kept as `folder`."""
    config = folder.with_suffix(".toml")
    values = {"card": {"name": folder.name, **card}, name: {"output": str(folder), **settings}}
    with whole_file(config) as file:
        file.write("".join(table(title, section) for title, section in values.items()))
    call("csplade_pyserini.train", name, "--config", config)


def table(name: str, values: Mapping[str, Any]) -> str:
    """A TOML table; JSON's numbers, strings, booleans and lists are TOML's too."""
    inner = {key: value for key, value in values.items() if not isinstance(value, dict)}
    lines = [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in inner.items()), "", ""]
    return "\n".join(lines) + "".join(
        table(f"{name}.{key}", value) for key, value in values.items() if isinstance(value, dict)
    )


def call(module: str, *words: object, **environment: str) -> None:
    print(f"$ python -m {module} {' '.join(map(str, words))}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", module, *map(str, words)], check=True, env=os.environ | environment)


def encoding_cost(corpus: Path) -> dict[str, float]:
    """Passages a second of each mode, in one process, in turn."""
    texts = [
        document.text for document, _ in zip(open_corpus(str(corpus)).documents(), range(TIMED), strict=False)
    ]
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
    """study.md out of run_scripts/study.md, and the plots, from whatever runs there are."""
    plots = output / "study"
    plots.mkdir(parents=True, exist_ok=True)
    words = {"stability": "(not run)", "attention": "(not run)"}
    folders = {
        (condition, variant): [stability_folder(condition, variant, seed) for seed in SEEDS]
        for condition in CONDITIONS
        for variant in VARIANTS
    }
    if all(folder.is_dir() for runs in folders.values() for folder in runs):
        logs = {run: [read_log(folder) for folder in runs] for run, runs in folders.items()}
        plot_stability(logs, plots / "stability.png")
        words["stability"] = stability_table(logs)
    files = {mode: STUDY / f"attention-{mode}.scores.json" for mode in MODES}
    if all(file.is_file() for file in files.values()) and (STUDY / "encoding.json").is_file():
        scores = {mode: json.loads(file.read_text()) for mode, file in files.items()}
        rates = json.loads((STUDY / "encoding.json").read_text())
        plot_attention(scores, plots / "attention.png")
        words["attention"] = attention_table(scores, rates)
    template = string.Template(Path(__file__).with_suffix(".md").read_text(encoding="utf-8"))
    with whole_file(output / "study.md") as file:
        file.write(template.substitute(words))
    print(f"{output / 'study.md'} and {plots}")


def read_log(folder: Path) -> list[dict[str, float]]:
    """What a run logged, a line a step."""
    log = json.loads((folder / "training.json").read_text(encoding="utf-8"))["log"]
    return [line for line in log if "contrast" in line]


def stability_table(logs: Mapping[tuple[str, str], Sequence[Sequence[Mapping[str, float]]]]) -> str:
    """Last ten steps of every run: mean, and the least and the most of the seeds."""
    rows = []
    for (condition, variant), runs in logs.items():
        cells = [condition, variant]
        for key in (
            "contrast",
            "document_terms",
            "query_terms",
            "empty_documents",
            "empty_queries",
            "dead_vocabulary",
        ):
            ends = [statistics.mean(line[key] for line in run[-10:]) for run in runs]
            cells.append(f"{statistics.mean(ends):.3g} ({min(ends):.3g} to {max(ends):.3g})")
        rows.append(cells)
    head = [
        "condition",
        "start",
        "InfoNCE",
        "terms a document",
        "terms a query",
        "empty documents",
        "empty queries",
        "dead vocabulary",
    ]
    return markdown.table(head, rows)


def attention_table(
    scores: Mapping[str, Mapping[str, Mapping[str, float]]], rates: Mapping[str, float]
) -> str:
    rows = []
    for mode, sets in scores.items():
        cells = [mode, *(f"{sets[name]['nDCG@10']:.4f}" for name in sets)]
        cells += [f"{sets['NFCorpus test']['terms']:.0f}", f"{sets[POOLS[0]]['terms']:.0f}"]
        cells += [f"{sets[name]['index bytes'] / 1e6:.2f} MB" for name in ("NFCorpus test", POOLS[0])]
        rows.append([*cells, f"{rates['causal'] / rates[mode]:.2f}"])
    head = [
        "mode",
        "NFCorpus test",
        "DL19 pool",
        "DL20 pool",
        "terms, NFCorpus",
        "terms, pool",
        "index, NFCorpus",
        "index, pool",
        "time",
    ]
    return markdown.table(head, rows)


def plot_stability(
    logs: Mapping[tuple[str, str], Sequence[Sequence[Mapping[str, float]]]], path: Path
) -> None:
    """A column a condition, a row a quantity, a line a seed."""
    from matplotlib import pyplot

    quantities = {
        "contrast": "InfoNCE", "document_terms": "active terms a document", "query_terms": "active terms a query",
        "empty_documents": "share of empty documents", "dead_vocabulary": "dead share of the vocabulary, a batch",
    }  # fmt: skip
    figure, axes = pyplot.subplots(
        len(quantities), len(CONDITIONS), figsize=(11, 15), sharex=True, squeeze=False, layout="constrained"
    )
    for column, condition in enumerate(CONDITIONS):
        for row, (key, title) in enumerate(quantities.items()):
            axis = axes[row][column]
            for colour, variant in zip(COLOURS, VARIANTS, strict=True):
                for number, run in enumerate(logs[condition, variant]):
                    label = variant if number == 0 else None
                    axis.plot(
                        range(1, len(run) + 1),
                        [line[key] for line in run],
                        color=colour,
                        alpha=0.7,
                        linewidth=1.2,
                        label=label,
                    )
            if key.endswith("terms") or key == "contrast":
                axis.set_yscale("symlog", linthresh=1)
            axis.set_ylabel(title)
            axis.grid(alpha=0.3)
        axes[0][column].set_title(condition)
        axes[-1][column].set_xlabel("step")
    axes[0][0].legend(title="start", fontsize="small")
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def plot_attention(scores: Mapping[str, Mapping[str, Mapping[str, float]]], path: Path) -> None:
    """Bars of nDCG@10, a group a collection."""
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 4), layout="constrained")
    names = list(next(iter(scores.values())))
    for number, (mode, sets) in enumerate(scores.items()):
        places = [place + 0.27 * (number - 1) for place in range(len(names))]
        bars = axis.bar(
            places, [sets[name]["nDCG@10"] for name in names], width=0.25, label=mode, color=COLOURS[number]
        )
        axis.bar_label(bars, fmt="%.3f", fontsize=8)
    axis.set_xticks(
        range(len(names)), [name if name not in POOLS else f"{name.upper()}, 30k pool" for name in names]
    )
    axis.set_ylabel("nDCG@10")
    axis.legend()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


if __name__ == "__main__":
    command_line.run(main)
