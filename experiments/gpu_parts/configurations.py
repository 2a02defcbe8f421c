"""Training configurations, as users write them, and what a run of one leaves."""

import json
from pathlib import Path
from typing import Any

from gpu_parts.models import tokenizer, write_base, write_examples
from gpu_parts.record import Record
from gpu_parts.scale import TRAINER_OPTIONS, Scale, Training

TABLES = """[card]
name = "random"
base = "{base}"
attention = "bidirectional"
add_bos = false
query_max_length = 32
document_max_length = 256

[contrast]
output = "{output}"
data = ["{data}"]
steps = {steps}
learning_rate = 3e-4
batch_size = {batch_size}
device_batch_size = {batch_size}
negatives = {negatives}
query_regulariser = 0.003
document_regulariser = 0.003
ramp_steps = {steps}
lora_rank = {lora_rank}
lora_dropout = 0.0
stop_when_collapsed = false
{options}
[contrast.trainer]
{trainer}"""


def base_folder(scale: Scale, folder: Path, record: Record) -> Path:
    """A random base with its tokenizer, written once. A failure shows in the record."""
    base = folder / f"base-{scale.training_shape}"
    if not (base / "tokenizer.json").is_file():
        record.measure(("base",), write_base, scale.training_shape, scale.device, scale.dtype, base)
    return base


def write_configuration(
    scale: Scale, training: Training, folder: Path, *, name: str, base: Path, trainer: str
) -> Path:
    """The TOML file of a run, and its data beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "examples.jsonl"
    if not data.is_file():
        write_examples(data, training.examples, training.negatives, training.passage_words)
    file = folder / f"{name}.toml"
    text = TABLES.format(
        base=base.resolve(),
        output=(folder / name).resolve(),
        data=data.resolve(),
        steps=training.steps,
        batch_size=training.batch_size,
        negatives=training.negatives,
        lora_rank=training.lora_rank,
        options=training.options,
        trainer=TRAINER_OPTIONS[scale.device] + trainer,
    )
    file.write_text(text, encoding="utf-8")
    return file


def log_lines(output: Path) -> list[dict[str, Any]]:
    """The log of a run that is done."""
    record: dict[str, Any] = json.loads((output / "training.json").read_text(encoding="utf-8"))
    lines: list[dict[str, Any]] = record["log"]
    return lines


def losses(output: Path) -> list[float]:
    """The loss of each log line."""
    return [line["loss"] for line in log_lines(output) if "loss" in line]


def tokens_per_epoch(data: Path) -> int:
    """Tokens of all queries and passages, as the model sees them without padding."""
    records = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    passages = [
        passage["text"]
        for record in records
        for passage in (*record["positive_passages"], *record["negative_passages"])
    ]
    count = 0
    for texts, limit in (([record["query"] for record in records], 32), (passages, 256)):
        rows = tokenizer()(texts, add_special_tokens=False, truncation=True, max_length=limit)["input_ids"]
        count += sum(map(len, rows))
    return count
