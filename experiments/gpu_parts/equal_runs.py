"""A short training run, alone, resumed, under DDP and under FSDP: all have the same losses."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from csplade_pyserini.train import main as train
from gpu_parts.children import ChildError, call
from gpu_parts.configurations import base_folder, losses, write_configuration
from gpu_parts.contrast import NO_ACCELERATE
from gpu_parts.record import SKIPPED, Record
from gpu_parts.scale import Scale

ROOT = Path(__file__).resolve().parents[2]
VERB = ("-m", "csplade_pyserini.train", "contrast")
ENDED = 9
"""Exit code of the process that is ended in the middle of a run."""
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node", "1")
ACCELERATE = (
    "accelerate.commands.launch",
    *("--config_file", str(ROOT / "run_scripts" / "train" / "fsdp.yaml")),
    *("--num_machines", "1", "--num_processes", "1", "--machine_rank", "0"),
)
NO_SHARDS = "no CUDA: accelerate shards models on accelerators alone"


def run(scale: Scale, folder: Path, record: Record) -> None:
    """The plain run first: the others are compared with it."""
    if importlib.util.find_spec("accelerate") is None:
        record.add("plain", **{SKIPPED: NO_ACCELERATE})
        return
    base = base_folder(scale, folder, record)
    runs = folder / "equal-runs"
    shutil.rmtree(runs, ignore_errors=True)
    record.measure(("plain",), plain, scale, runs, base)
    wanted = record.results["plain"].get("losses")
    for name, run_it, options in (
        ("resumed", resumed, ()),
        ("ddp", launched, ("ddp", TORCHRUN)),
        ("fsdp", launched, ("fsdp", ACCELERATE)),
    ):
        if name == "fsdp" and scale.toy:
            record.add(name, **{SKIPPED: NO_SHARDS})
            continue
        record.measure((name,), run_it, scale, runs, base, *options)
        found = record.results[name].get("losses")
        if wanted and found:
            record.add(name, largest_difference=largest_difference(found, wanted))


def plain(scale: Scale, folder: Path, base: Path) -> dict[str, Any]:
    """Without a launcher and without a break."""
    train(["contrast", "--config", str(configuration(scale, folder, base, "plain"))])
    return {"losses": losses(folder / "plain"), "files": names(folder / "plain")}


def resumed(scale: Scale, folder: Path, base: Path) -> dict[str, Any]:
    """Ended at once after a checkpoint in the middle, as when a machine is taken away, then run again."""
    file = configuration(scale, folder, base, "resumed")
    middle = scale.equal_runs.steps // 2
    try:
        call(end_after, middle, file)
    except ChildError as error:
        if f"exit code {ENDED}" not in str(error):
            raise
    else:
        raise RuntimeError(f"the run was not ended after step {middle}")
    train(["contrast", "--config", str(file)])
    return {"ended_after_step": middle, "losses": losses(folder / "resumed")}


def end_after(step: int, file: Path) -> None:
    """Train; end this process right after the checkpoint of a step."""
    from transformers.trainer_callback import CallbackHandler

    on_save = CallbackHandler.on_save

    def save_and_end(self: Any, args: Any, state: Any, control: Any, *others: Any, **options: Any) -> Any:
        done = on_save(self, args, state, control, *others, **options)
        if state.global_step == step:
            os._exit(ENDED)
        return done

    CallbackHandler.on_save = save_and_end
    train(["contrast", "--config", str(file)])


def launched(scale: Scale, folder: Path, base: Path, name: str, launcher: tuple[str, ...]) -> dict[str, Any]:
    """By a launcher of several processes, here with one."""
    file = configuration(scale, folder, base, name)
    command = [sys.executable, "-m", *launcher, *VERB, "--config", str(file)]
    environment = os.environ | ({"ACCELERATE_USE_CPU": "true"} if scale.toy else {})
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-4000:]}")
    return {"command": " ".join(command), "losses": losses(folder / name), "files": names(folder / name)}


def configuration(scale: Scale, folder: Path, base: Path, name: str) -> Path:
    """The same run under another name. Every step is logged."""
    every = f"logging_steps = 1\nsave_steps = {scale.equal_runs.steps // 2}\n"
    return write_configuration(scale, scale.equal_runs, folder, name=name, base=base, trainer=every)


def names(folder: Path) -> dict[str, int]:
    """Files of a checkpoint folder with their bytes: a launcher has to leave the same ones."""
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.suffix != ".json"}


def largest_difference(found: list[float], wanted: list[float]) -> float:
    """Between the losses of two runs, relative to the larger one of each pair."""
    if len(found) != len(wanted):
        raise ValueError(f"{len(found)} losses, {len(wanted)} in the plain run")
    pairs = zip(found, wanted, strict=True)
    return max(abs(one - other) / max(abs(one), abs(other), 1e-9) for one, other in pairs)
