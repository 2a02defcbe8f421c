"""A phase's run on Hugging Face Trainer: folders, resume, log lines, the watch, and the last checkpoint.

OUTPUT.training holds the Trainer's checkpoints while the run goes on. They have the optimiser's state, so
they serve to resume only. OUTPUT appears, whole, when the run is done.
"""

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from csplade_pyserini.cards import EncoderCard, to_toml
from csplade_pyserini.collections.manifests import versions
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.stamps import refuse_changes
from csplade_pyserini.files.tables import read_json
from csplade_pyserini.files.whole import is_empty_folder, real_path, whole_file, whole_folder
from csplade_pyserini.training.checkpoints import Student, load_weights, save_checkpoint
from csplade_pyserini.training.settings import AdaptSettings, ContrastSettings, PhaseSettings, as_table
from csplade_pyserini.training.token_weights import trained_identity
from csplade_pyserini.training.watch import check_alive

try:
    from accelerate import PartialState
    from transformers import ProgressCallback, Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_utils import get_last_checkpoint
except ImportError as error:
    raise InputError(f"training needs accelerate ({error}): pip install 'csplade_pyserini[train]'") from error

RECORD = "training.json"
"""File in the checkpoint folder: settings, versions and every log line."""
DEFAULTS: dict[str, Any] = {
    "logging_steps": 10,
    "save_steps": 500,
    "save_total_limit": 2,
    "report_to": "none",
}
"""Our defaults of TrainingArguments; `[PHASE.trainer]` wins over them."""
OTHER_CARD = "{place}: the run began with another [card]: choose another output, or remove {place.parent}"
OTHER_SETTING = (
    "{place}: {key} was {before}, now it is {now}: choose another output, or remove {place.parent}"
)
_BACKBONE = "backbone."
"""Prefix of the backbone's weights in a phase's model."""


class Run:
    """The folders of one phase. Refuses to go on with what other settings began."""

    def __init__(self, card: EncoderCard, settings: PhaseSettings) -> None:
        self.card = card
        self.settings = settings
        self.output = Path(settings.output)
        real = real_path(self.output)
        self.folder = real.with_name(f"{real.name}.training")
        self.record: dict[str, Any] = {"card": to_toml(card), "settings": as_table(settings)}
        self._state = PartialState()

    def __enter__(self) -> Self:
        """Raises InputError if the output, or the work in progress, belongs to other settings."""
        for record in (self.output / RECORD, self.folder / RECORD):
            if record.is_file():
                self._refuse_changes(record)
        if self.output.exists() and not self.done and not is_empty_folder(self.output):
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

    def main_process_first(self) -> AbstractContextManager[None]:
        """Run a block in the main process, then in the others: one makes what all need."""
        first: AbstractContextManager[None] = self._state.main_process_first()
        return first

    def say(self, text: str) -> None:
        """Print a text on stderr, once for all processes."""
        if self._state.is_main_process:
            print(text, file=sys.stderr)

    def finish(
        self, student: Student, state: dict[str, Tensor] | None, history: list[dict[str, Any]]
    ) -> None:
        """Write the output, whole. Only one process does so."""
        with whole_folder(self.output) as partial:
            save_checkpoint(student, partial, state)
            if student.lookup is not None:  # its documents are whole now, so it is theirs
                student.lookup.save(partial, trained_identity(student.card, partial))
            with whole_file(partial / RECORD) as file:
                json.dump(self.record | {"versions": versions(), "log": history}, file, indent=1)
        self.say(f"{self.output}: done")

    def _refuse_changes(self, place: Path) -> None:
        """Raise InputError if a record has another card or other settings, or is damaged.

        Options of `trainer` may change between two tries (loggers, save steps). A record older than a setting
        was made with the setting's default.
        """
        before = read_json(place)
        settings = before.get("settings")
        if not isinstance(settings, dict):
            raise InputError(f"{place} has no settings: it is damaged; remove {place.parent}")
        refuse_changes(before, {"card": self.record["card"]}, place, OTHER_CARD)
        now = {key: value for key, value in self.record["settings"].items() if key != "trainer"}
        defaults = {key: getattr(type(self.settings), key, None) for key in now}
        refuse_changes(defaults | settings, now, place, OTHER_SETTING)


def train(
    run: Run,
    model: Any,
    student: Student,
    dataset: Dataset[Any],
    collate: Callable[[list[Any]], dict[str, Any]],
) -> None:
    """Train a model, or resume from the last checkpoint in the run's folder, and write the output.

    model: its forward gives {"loss"}, its take() the values of a log line. Raises InputError on options that
    do not fit, CheckError if the ReLU dies.
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
    if trainer.is_fsdp_enabled and getattr(run.settings, "train_table", False):
        raise InputError("train_table is true, but FSDP would cut the table apart; train it without FSDP")
    last = get_last_checkpoint(str(run.folder))
    if last:
        run.say(f"going on from {last}")
    _say_sizes(run, model)
    trainer.train(resume_from_checkpoint=last)
    state = None
    if trainer.is_fsdp_enabled:
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.args.should_save:
        run.finish(student, _backbone_state(state), trainer.state.log_history)
    trainer.accelerator.wait_for_everyone()


class PhaseTrainer(Trainer):  # type: ignore[misc]
    """A Trainer that writes our checkpoints, and our values in every log line."""

    def __init__(self, *, run: Run, student: Student, **options: Any) -> None:
        self._run, self._student = run, student
        super().__init__(**options)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the model's values since the last line.

        Raises CheckError if the model has collapsed, unless `stop_when_collapsed` is off.
        """
        means: dict[str, float] = {}
        if "loss" in logs:
            means = self.model.take()
        super().log(logs | means, start_time)
        if getattr(self._run.settings, "stop_when_collapsed", False):
            check_alive(self.state.global_step, means)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            save_checkpoint(self._student, folder, _backbone_state(state_dict))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_weights(self._student, Path(resume_from_checkpoint))


class LogLines(ProgressCallback):  # type: ignore[misc]
    """Progress bar and log lines on stderr, as stdout is for data."""

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Print a log as one line, above the bar."""
        if state.is_world_process_zero and self.training_bar is not None:
            shown = "  ".join(f"{name} {_short(value)}" for name, value in (logs or {}).items())
            self.training_bar.write(f"step {state.global_step}: {shown}", file=sys.stderr)


class Clock(TrainerCallback):  # type: ignore[misc]
    """Tells the model its step, and the examples their epoch."""

    def __init__(self, model: Any, dataset: Any) -> None:
        self._model = model
        self._dataset = dataset

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Set the model's step before an optimiser step's first forward pass."""
        self._model.step = state.global_step

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Set the examples' epoch before the data loader starts its workers."""
        if hasattr(self._dataset, "set_epoch"):
            self._dataset.set_epoch(int(state.epoch or 0))


def _say_sizes(run: Run, model: nn.Module) -> None:
    total = 0
    trained = 0
    for weight in model.parameters():
        total += weight.numel()
        if weight.requires_grad:
            trained += weight.numel()
    run.say(f"{trained:,} of {total:,} parameters are trained")


def _arguments(run: Run) -> TrainingArguments:
    """TrainingArguments of the settings. Options under `trainer` win over our defaults only."""
    settings = run.settings
    ours = _our_options(run)
    taken = ours.keys() & settings.trainer.keys()
    if taken:
        raise InputError(
            f"trainer.{min(taken)} is set by another key of the section: "
            f"{', '.join(sorted(as_table(settings)))}"
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


def _our_options(run: Run) -> dict[str, Any]:
    """Options of TrainingArguments that our settings decide."""
    settings = run.settings
    options: dict[str, Any] = {
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
        options["warmup_steps"] = settings.warmup_steps
    elif isinstance(settings, ContrastSettings):
        options["warmup_steps"] = settings.warmup_ratio
        options["num_train_epochs"] = settings.epochs
    return options


def _backbone_state(state: dict[str, Tensor] | None) -> dict[str, Tensor] | None:
    """Backbone's entries of a gathered state, under the backbone's own names."""
    if state is None:
        return None
    return {
        name.removeprefix(_BACKBONE): value for name, value in state.items() if name.startswith(_BACKBONE)
    }


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
