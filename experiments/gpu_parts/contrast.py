"""Contrastive training with LoRA at a real shape: speed, memory, losses."""

import importlib.util
import shutil
import statistics
from pathlib import Path
from typing import Any

import torch
from head_memory import peak_bytes

from csplade_pyserini.train import main as train
from gpu_parts.configurations import (
    base_folder,
    log_lines,
    losses,
    tokens_per_epoch,
    write_configuration,
)
from gpu_parts.record import SKIPPED, Record
from gpu_parts.scale import Scale

SECONDS = 380
"""Time limit of the run."""
NO_ACCELERATE = "training needs accelerate, which is not installed"


def run(scale: Scale, folder: Path, record: Record) -> None:
    """Train from a random base."""
    if importlib.util.find_spec("accelerate") is None:
        record.add("run", **{SKIPPED: NO_ACCELERATE})
        return
    base = base_folder(scale, folder, record)
    record.measure(("run",), train_once, scale, folder / "contrast", base, seconds=SECONDS * scale.patience)


def train_once(scale: Scale, folder: Path, base: Path) -> dict[str, Any]:
    """One run, anew."""
    size = scale.training
    shutil.rmtree(folder, ignore_errors=True)
    every = max(1, size.steps // 20)
    file = write_configuration(
        scale, size, folder, name="run", base=base, trainer=f'logging_steps = {every}\nsave_strategy = "no"\n'
    )
    train(["contrast", "--config", str(file)])
    output = folder / "run"
    [end] = [line for line in log_lines(output) if "train_runtime" in line]
    epochs = size.steps * size.batch_size / size.examples
    tokens = round(epochs * tokens_per_epoch(folder / "examples.jsonl"))
    found = losses(output)
    last = [line for line in log_lines(output) if "loss" in line][-1]
    return {
        "steps": size.steps,
        "queries_per_step": size.batch_size,
        "passages_per_step": size.batch_size * (1 + size.negatives),
        "lora_rank": size.lora_rank,
        "train_seconds": end["train_runtime"],
        "steps_per_second": size.steps / end["train_runtime"],
        "tokens": tokens,
        "tokens_per_second": tokens / end["train_runtime"],
        "peak_bytes": peak_bytes(scale.device),
        "torch_threads": torch.get_num_threads(),
        "loss_at_start": found[0],
        "loss_at_end": found[-1],
        "losses": found,
        "mean_loss_of_last_quarter": statistics.fmean(found[-max(1, len(found) // 4) :]),
        "last_log_line": last,
    }
