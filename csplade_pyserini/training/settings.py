"""A training configuration: one TOML file per encoder, with a `[card]` table and one table per phase.

    [card]                  the encoder, as in encoders/*.toml: base, attention, echo, lengths, ...
    [adapt]                 AdaptSettings
    [contrast]              ContrastSettings; a second one is [contrast-NAME]
    [merge]                 MergeSettings

Paths are relative to the folder that the command runs in.
"""

import dataclasses
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from csplade_pyserini.cards import EncoderCard, parse_card
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.tables import parse_table, read_toml

Dtype = Literal["float32", "bfloat16", "float16"]
QuerySide = Literal["model", "lookup"]


@dataclass(frozen=True, kw_only=True)
class PhaseSettings:
    """Settings of both phases. Names follow the paper (arXiv 2504.10816, 4.3 and Table 3)."""

    output: str
    """Checkpoint folder to write. Work in progress is in OUTPUT.training; the same command resumes it."""
    steps: int = 0
    """Optimiser steps."""
    start: str = ""
    """Encoder to start from (card, checkpoint folder or hub id); empty starts from the base of `[card]`."""
    data: tuple[str, ...]

    learning_rate: float
    batch_size: int = 32
    """Sequences (adapt) or queries (contrast) of one optimiser step, over all devices and passes."""
    device_batch_size: int = 32
    """Batch of one forward pass on one device; the rest of `batch_size` is accumulated."""
    scheduler: str = "cosine"
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    seed: int = 1

    lora_rank: int = 0
    """Rank of the adapter; 0 trains all parameters."""
    lora_alpha: int = 0
    """Scale of the adapter; 0 is twice the rank, as in the lineage."""
    lora_dropout: float = 0.1
    lora_targets: tuple[str, ...] = ()
    """Names of the linear layers with an adapter; empty takes all but the LM head."""
    continue_adapter: bool = False
    """Go on with the adapter of `start`. If false, a `start` that is an adapter is refused.

    Merge it first, by `train merge`, to train a new adapter or whole weights.
    """

    dtype: Dtype = "float32"
    """Dtype of the loaded weights. `trainer.bf16 = true` computes in bfloat16 over float32 weights."""
    attention_kernel: str = "sdpa"
    """transformers' attn_implementation: `sdpa`, `eager`, `flash_attention_2`."""
    gradient_checkpointing: bool = False
    trainer: dict[str, Any] = field(default_factory=dict)
    """Options of transformers.TrainingArguments: report_to, fsdp, save_steps, logging_steps, ..."""


@dataclass(frozen=True, kw_only=True)
class AdaptSettings(PhaseSettings):
    """Adaptation: L_CLM + relu_weight * L_ReLU over packed sequences (arXiv 2504.10816, eq. 3)."""

    warmup_steps: int = 0
    relu_weight: float = 1.0
    """The paper's lambda; 0 is plain language modelling."""
    sequence_length: int = 2048
    """Tokens of one packed sequence."""


@dataclass(frozen=True, kw_only=True)
class ContrastSettings(PhaseSettings):
    """Contrastive training: InfoNCE and FLOPS regularisers (arXiv 2504.10816, 2.3 and 4.3).

    Settings below `Beyond the paper` are off by default.
    """

    epochs: float = 0.0
    """Passes over the data, if steps is 0."""
    warmup_ratio: float = 0.05
    negatives: int = 15
    """Hard negatives of a query in each step; 0 leaves in-batch negatives alone."""
    query_max_length: int = 0
    document_max_length: int = 0
    """Tokens of a text in training; 0 takes the length of `[card]`."""
    query_regulariser: float
    document_regulariser: float
    ramp_steps: int = 0
    """Optimiser steps until regularisers have their full weight, with quadratic growth; 0 starts with it."""
    temperature: float = 1.0
    stop_when_collapsed: bool = True

    # Beyond the paper.
    contrast_weight: float = 1.0
    kl_weight: float = 0.0
    """Weight of the KL divergence from the teacher's `score` distribution over a query's own passages."""
    margin_weight: float = 0.0
    """Weight of MarginMSE: squared error of the score differences between positive and negatives."""
    teacher_scale: float = 1.0
    """Factor of the teacher's scores, before both losses."""
    vector_weight: float = 0.0
    """Weight of the squared error against the teacher's weights, term by term."""
    teacher_queries: str = ""
    teacher_documents: str = ""
    """Collections of the teacher's vectors, by query_id and docid, in this encoder's terms."""
    query_side: QuerySide = "model"
    """`lookup`: queries are looked up in a table, and the documents learn all the expansion."""
    lookup_table: str = ""
    """Table to start from, a file or a folder with one; empty is the idf of the data's passages."""
    train_table: bool = False
    """Train the table along; otherwise it stays as it starts."""
    idf_flops: bool = False
    """Divide FLOPS of documents by each term's weight in the table, so that rare terms are spared."""
    window_steps: int = 0
    """First steps, in which only the heaviest terms count: a remedy for dense first vectors (PROSPER)."""
    query_window: int = 256
    document_window: int = 512
    sampled_terms: int = 0
    """About how many random terms have weights and losses in a step; 0 gives them to all.

    The terms of the batch's texts and teacher vectors come on top. A large vocabulary's head is most of a
    small model's cost.
    """


@dataclass(frozen=True, kw_only=True)
class MergeSettings:
    """Settings that turn a trained checkpoint folder into one to ship."""

    start: str
    output: str
    keep_adapter: bool = False
    """Keep the adapter, beside a card that names the base. Otherwise it is merged into whole weights."""
    dtype: Dtype = "bfloat16"


Settings = AdaptSettings | ContrastSettings | MergeSettings
PHASES: dict[str, type[Settings]] = {
    "adapt": AdaptSettings,
    "contrast": ContrastSettings,
    "merge": MergeSettings,
}

_AT_LEAST = {
    "batch_size": 1, "device_batch_size": 1, "steps": 0, "warmup_steps": 0, "epochs": 0, "negatives": 0,
    "lora_rank": 0, "sequence_length": 2, "query_regulariser": 0, "document_regulariser": 0, "ramp_steps": 0,
    "window_steps": 0, "sampled_terms": 0, "query_window": 1, "document_window": 1, "query_max_length": 0,
    "document_max_length": 0, "lora_alpha": 0, "lora_dropout": 0, "relu_weight": 0, "warmup_ratio": 0,
    "weight_decay": 0, "max_gradient_norm": 0, "contrast_weight": 0, "kl_weight": 0, "margin_weight": 0,
    "vector_weight": 0,
}  # fmt: skip
_AT_MOST = {"warmup_ratio": 1, "lora_dropout": 1}
_ABOVE_ZERO = ("learning_rate", "temperature", "teacher_scale")
_NEED_NEGATIVES = ("kl_weight", "margin_weight")


def read_settings(
    path: Path, phase: str, *, section: str = "", changes: Sequence[str] = ()
) -> tuple[EncoderCard, Settings]:
    """Read the card and one phase's settings from a configuration file.

    section: table to read, by default the phase's name. changes: `SECTION.KEY=VALUE` with TOML values; they
    win over the file. Raises InputError that names the file, the table and the key.
    """
    table = read_toml(path, "configuration")
    for change in changes:
        _apply(change, table)
    section = section or phase
    for wanted in ("card", section):
        if not isinstance(table.get(wanted), dict):
            there = ", ".join(f"[{name}]" for name in table) or "none"
            raise InputError(f"{path}: no table [{wanted}]; it has {there}")
    origin = f"{path} [{section}]"
    settings = parse_table(PHASES[phase], table[section], origin)
    _check_ranges(settings, origin)
    if not isinstance(settings, MergeSettings):
        _check_phase(settings, origin)
    if isinstance(settings, ContrastSettings):
        _check_contrast(settings, origin)
    return parse_card(table["card"], f"{path} [card]"), settings


def as_table(settings: PhaseSettings) -> dict[str, Any]:
    """Return settings as plain values, for the record in a checkpoint."""
    return dataclasses.asdict(settings)


def _apply(change: str, table: dict[str, Any]) -> None:
    """Apply one --set to a configuration. Raises InputError if it is no SECTION.KEY=VALUE."""
    key, equals, value = change.partition("=")
    section, dot, name = key.partition(".")
    if not (equals and dot and section and name):
        raise InputError(f"--set {change!r}; wanted SECTION.KEY=VALUE, such as contrast.learning_rate=1e-4")
    if section != "card" and section.partition("-")[0] not in PHASES:
        raise InputError(
            f"--set {change!r}: no configuration has a table [{section}]; "
            f"wanted card, {', '.join(PHASES)} or a PHASE-NAME"
        )
    try:
        parsed = tomllib.loads(f"{name} = {value}")
    except ValueError as error:
        raise InputError(f"--set {change!r}: the value is not TOML ({error}); texts need quotes") from error
    if not isinstance(table.setdefault(section, {}), dict):
        raise InputError(f"--set {change!r}: {section} is no table in the configuration")
    _update(table[section], parsed)


def _update(table: dict[str, Any], changes: dict[str, Any]) -> None:
    """Update a table in place. Tables inside are updated too, not replaced."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(table.get(key), dict):
            _update(table[key], value)
        else:
            table[key] = value


def _check_ranges(settings: Settings, origin: str) -> None:
    """Check each number against the tables of bounds. Raises InputError."""
    for key, least in _AT_LEAST.items():
        if getattr(settings, key, least) < least:
            raise InputError(f"{origin}: {key} is {getattr(settings, key)}; wanted at least {least}")
    for key, most in _AT_MOST.items():
        if getattr(settings, key, most) > most:
            raise InputError(f"{origin}: {key} is {getattr(settings, key)}; wanted at most {most}")
    for key in _ABOVE_ZERO:
        if not getattr(settings, key, 1) > 0:
            raise InputError(f"{origin}: {key} is {getattr(settings, key)}; wanted a number above 0")


def _check_phase(settings: PhaseSettings, origin: str) -> None:
    """Check data, batches and length of a run. Raises InputError."""
    if not settings.data:
        raise InputError(f"{origin}: data is empty; wanted files or ir_datasets ids")
    if settings.batch_size % settings.device_batch_size:
        raise InputError(
            f"{origin}: batch_size is {settings.batch_size}, "
            f"no multiple of device_batch_size {settings.device_batch_size}"
        )
    wanted = "steps"
    length: float = settings.steps
    if isinstance(settings, ContrastSettings):
        wanted = "steps or epochs"
        length = settings.steps or settings.epochs
    if not length:
        raise InputError(f"{origin}: wanted {wanted} above 0")


def _check_contrast(settings: ContrastSettings, origin: str) -> None:
    """Check that each loss has what it needs. Raises InputError."""
    by_lookup = settings.query_side == "lookup"
    has_queries = bool(settings.teacher_queries) or by_lookup
    if settings.vector_weight and not (has_queries and settings.teacher_documents):
        raise InputError(
            f"{origin}: vector_weight is {settings.vector_weight}, "
            f"which needs teacher_queries and teacher_documents"
        )
    if by_lookup and settings.query_regulariser:
        raise InputError(
            f"{origin}: query_regulariser is {settings.query_regulariser}, but query_side is 'lookup': "
            f"a query has the terms of its own tokens; wanted 0"
        )
    for key in ("lookup_table", "train_table", "idf_flops"):
        if getattr(settings, key) and not by_lookup:
            raise InputError(
                f"{origin}: {key} is {getattr(settings, key)!r}, which needs query_side = 'lookup'"
            )
    for key in _NEED_NEGATIVES:
        if getattr(settings, key) and not settings.negatives:
            raise InputError(
                f"{origin}: {key} is {getattr(settings, key)}, which needs negatives of at least 1"
            )
