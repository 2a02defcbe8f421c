"""A phase's run on Hugging Face Trainer: folders, resume, log lines, the watch, and the checkpoint at its end.

OUTPUT.training holds the Trainer's checkpoints while the run goes on (optimiser state included, so they are
for resuming alone); OUTPUT appears, whole, when it is done.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from csplade_pyserini.cards import EncoderCard, to_toml
from csplade_pyserini.collections.manifests import versions
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.training.checkpoints import Student, load_weights, save_checkpoint
from csplade_pyserini.training.settings import AdaptSettings, ContrastSettings, PhaseSettings, as_table
from csplade_pyserini.training.watch import check_alive

try:
    from accelerate import PartialState
    from transformers import ProgressCallback, Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_utils import get_last_checkpoint
except ImportError as error:
    raise InputError(f"training needs accelerate ({error}): pip install 'csplade_pyserini[train]'") from error

RECORD = "training.json"
"""In the checkpoint folder: settings, versions and every log line."""
DEFAULTS: dict[str, Any] = {
    "logging_steps": 10,
    "save_steps": 500,
    "save_total_limit": 2,
    "report_to": "none",
}
"""Of TrainingArguments, where `[PHASE.trainer]` says nothing else."""


class Run:
    """The folders of one phase. Refuses to go on with what other settings began."""

    def __init__(self, card: EncoderCard, settings: PhaseSettings) -> None:
        self.card, self.settings = card, settings
        self.output = Path(settings.output)
        self.folder = self.output.with_name(f"{self.output.name}.training")
        self.record: dict[str, Any] = {"card": to_toml(card), "settings": as_table(settings)}
        self._state = PartialState()

    def __enter__(self) -> Self:
        """Raises InputError where the output, or the work in progress, belongs to other settings."""
        for place in (self.output / RECORD, self.folder / RECORD):
            if place.is_file():
                self._refuse_changes(json.loads(place.read_text(encoding="utf-8")), place)
        if self.output.exists() and not self.done:
            raise InputError(
                f"{self.output} exists and no training of ours wrote it: choose another output, or remove it"
            )
        if self.done:
            self.say(f"{self.output} is done already")
        elif self._state.is_main_process:
            with whole_file(self.folder / RECORD) as file:
                json.dump(self.record, file, indent=1)
        self._state.wait_for_everyone()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._state.is_main_process and self.done:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def done(self) -> bool:
        """Whether the output is there, whole."""
        return (self.output / RECORD).is_file()

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """What all processes need and one makes."""
        with self._state.main_process_first():
            yield

    def say(self, text: str) -> None:
        """On stderr, once."""
        if self._state.is_main_process:
            print(text, file=sys.stderr)

    def finish(
        self, student: Student, state: dict[str, Tensor] | None, history: list[dict[str, Any]]
    ) -> None:
        """Write the output under another name, then rename it. One process does so."""
        partial = self.output.with_name(f"{self.output.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        save_checkpoint(student, partial, state)
        with whole_file(partial / RECORD) as file:
            json.dump(self.record | {"versions": versions(), "log": history}, file, indent=1)
        partial.rename(self.output)
        self.say(f"{self.output}: done")

    def _refuse_changes(self, before: dict[str, Any], place: Path) -> None:
        """Trainer options may change between two tries (loggers, save steps), what is learnt may not."""
        if before["card"] != self.record["card"]:
            raise InputError(
                f"{place}: the run began with another [card]: choose another output, or remove {place.parent}"
            )
        for key, value in self.record["settings"].items():
            # A record older than a setting was made as the setting's default has it.
            was = before["settings"].get(key, getattr(type(self.settings), key, None))
            if key != "trainer" and json.dumps(was) != json.dumps(value):
                raise InputError(
                    f"{place}: {key} was {was!r}, now it is {value!r}: choose another output, or remove {place.parent}"
                )


def train(
    run: Run,
    model: Any,
    student: Student,
    dataset: Dataset[Any],
    collate: Callable[[list[Any]], dict[str, Any]],
) -> None:
    """Train `model` (its forward gives {"loss"}, its take() the values of a log line) and write the run's output.

    Resumes from the last checkpoint in the run's folder. Raises InputError on options that do not fit, CheckError
    where the ReLU dies.
    """
    trainer = PhaseTrainer(
        run=run,
        student=student,
        model=model,
        args=_arguments(run),
        train_dataset=dataset,
        data_collator=collate,
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(LogLines())
    trainer.add_callback(Clock(model, dataset))
    last = get_last_checkpoint(str(run.folder))
    if last:
        run.say(f"going on from {last}")
    sizes = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    run.say(
        f"{sum(size for size, trained in sizes if trained):,} of {sum(size for size, _ in sizes):,} parameters are trained"
    )
    trainer.train(resume_from_checkpoint=last)
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.is_fsdp_enabled else None
    if trainer.args.should_save:
        run.finish(student, _of_backbone(state), trainer.state.log_history)
    trainer.accelerator.wait_for_everyone()


class PhaseTrainer(Trainer):  # type: ignore[misc]
    """Trainer over a phase's model: our checkpoints and our values in every log line."""

    def __init__(self, *, run: Run, student: Student, **options: Any) -> None:
        self._run, self._student = run, student
        super().__init__(**options)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the model counted since the last line. Raises CheckError on a collapsed one, if so set."""
        means = self.model.take() if "loss" in logs else {}
        super().log(logs | means, start_time)
        if getattr(self._run.settings, "stop_when_collapsed", False):
            check_alive(self.state.global_step, means)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        if self.args.should_save:
            save_checkpoint(self._student, Path(output_dir or self.args.output_dir), _of_backbone(state_dict))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_weights(self._student, Path(resume_from_checkpoint))


class LogLines(ProgressCallback):  # type: ignore[misc]
    """Progress bar and log lines on stderr; stdout is for data."""

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """One line a log, between the bar's updates."""
        if state.is_world_process_zero and self.training_bar is not None:
            shown = "  ".join(f"{name} {_short(value)}" for name, value in (logs or {}).items())
            self.training_bar.write(f"step {state.global_step}: {shown}", file=sys.stderr)


class Clock(TrainerCallback):  # type: ignore[misc]
    """Tells the model its step, and the examples their epoch."""

    def __init__(self, model: Any, dataset: Any) -> None:
        self._model, self._dataset = model, dataset

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Before the first forward pass of an optimiser step."""
        self._model.step = state.global_step

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Before the data loader starts its workers."""
        if hasattr(self._dataset, "set_epoch"):
            self._dataset.set_epoch(int(state.epoch or 0))


def _arguments(run: Run) -> TrainingArguments:
    """TrainingArguments of the settings; those under `trainer` win over our defaults, not over the settings."""
    settings = run.settings
    ours = {
        "output_dir": str(run.folder),
        "per_device_train_batch_size": settings.device_batch_size,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.scheduler,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_gradient_norm,
        "seed": settings.seed,
        "remove_unused_columns": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "dataloader_drop_last": True,
        "max_steps": settings.steps or -1,
    }
    if isinstance(settings, AdaptSettings):
        ours["warmup_steps"] = settings.warmup_steps
    elif isinstance(settings, ContrastSettings):
        ours |= {"warmup_steps": settings.warmup_ratio, "num_train_epochs": settings.epochs}
    taken = ours.keys() & settings.trainer.keys()
    if taken:
        raise InputError(
            f"trainer.{min(taken)} is set by another key of the section: {', '.join(sorted(as_table(settings)))}"
        )
    try:
        arguments = TrainingArguments(**DEFAULTS | settings.trainer | ours)
    except (TypeError, ValueError) as error:
        raise InputError(f"the trainer options {settings.trainer} do not fit: {error}") from error
    pass_size = settings.device_batch_size * arguments.world_size
    if settings.batch_size % pass_size:
        raise InputError(
            f"batch_size is {settings.batch_size}; wanted a multiple of {pass_size} "
            f"(device_batch_size {settings.device_batch_size} on {arguments.world_size} devices)"
        )
    arguments.gradient_accumulation_steps = settings.batch_size // pass_size
    return arguments


def _of_backbone(state: dict[str, Tensor] | None) -> dict[str, Tensor] | None:
    """The entries of a gathered state that are the backbone's, under the backbone's own names."""
    prefix = "backbone."
    return (
        None
        if state is None
        else {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
