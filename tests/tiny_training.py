"""A small training: its configuration, examples and texts, and the log that it leaves."""

import json
from pathlib import Path

from tiny_models import TEXTS

from csplade_pyserini.train import main

QUERIES = [
    "heart attack symptoms",
    "potassium in fruit",
    "chest pain",
    "fish in cold water",
    "bananas",
    "400 mg",
]


def configuration(
    folder: Path, start: Path, *, trainer: str = "logging_steps = 1\nsave_steps = 2", **changes: str
) -> Path:
    """A configuration over `start` and the examples and texts that it needs; changes: lines for a table."""
    records = [
        {
            "query_id": f"q{i}",
            "query": query,
            "positive_passages": [{"docid": f"d{i}", "text": TEXTS[i % len(TEXTS)] + f" {i}"}],
            "negative_passages": [
                {"docid": f"n{i}{j}", "text": TEXTS[(i + j) % len(TEXTS)] + f" no {i} {j}"} for j in (1, 2)
            ],
        }
        for i, query in enumerate(QUERIES * 4)
    ]
    (folder / "examples.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "texts.jsonl").write_text(
        "".join(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(TEXTS * 8))
    )
    tables = {
        "card": 'name = "trained"\nattention = "bidirectional"\n'
        "query_max_length = 12\ndocument_max_length = 24",
        "adapt": f'start = "{start}"\noutput = "{folder}/adapted"\ndata = ["{folder}/texts.jsonl"]\n'
        "steps = 4\nwarmup_steps = 1\n"
        "learning_rate = 1e-3\nbatch_size = 4\ndevice_batch_size = 4\nsequence_length = 16",
        "contrast": f'start = "{start}"\noutput = "{folder}/contrasted"\n'
        f'data = ["{folder}/examples.jsonl"]\nsteps = 6\n'
        "learning_rate = 1e-3\nbatch_size = 4\ndevice_batch_size = 4\nnegatives = 1\nramp_steps = 4\n"
        "query_regulariser = 0.001\ndocument_regulariser = 0.001\nlora_rank = 4",
        "merge": f'start = "{folder}/contrasted"\noutput = "{folder}/merged"\ndtype = "float32"',
    }
    for phase in ("adapt", "contrast"):
        changes[phase] = f"{changes.get(phase, '')}\n[{phase}.trainer]\nuse_cpu = true\n{trainer}"
    file = folder / "configuration.toml"
    file.write_text(
        "".join(f"[{name}]\n{lines}\n{changes.get(name, '')}\n" for name, lines in tables.items())
    )
    return file


def train(phase: str, file: Path, *changes: str) -> int:
    return main([phase, "--config", str(file), *(word for change in changes for word in ("--set", change))])


def log_of(folder: Path) -> list[dict]:
    """Log lines of the steps, without the times."""
    record = json.loads((folder / "training.json").read_text())
    return [
        {key: value for key, value in line.items() if "runtime" not in key}
        for line in record["log"]
        if "loss" in line
    ]
