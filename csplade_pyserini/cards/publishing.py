"""A checkpoint folder made ready for the Hugging Face hub, with a model card beside its card.toml."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from csplade_pyserini.cards.card import EncoderCard, to_toml, write_card
from csplade_pyserini.cards.checkpoints import find_checkpoint
from csplade_pyserini.cards.names import CARD_FILE
from csplade_pyserini.cards.sources import pickled_files
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.tables import read_json
from csplade_pyserini.files.whole import whole_file

README = "README.md"
RECORD = "record.json"
TAGS = ("sparse-retrieval", "splade", "csplade", "pyserini", "learned-sparse-retrieval")
_START = "---\n"


def publish(folder: Path) -> list[str]:
    """Write card.toml and README.md of a folder, and return what to do next, as lines.

    A README with a text of its own keeps the text; its front matter is made anew. A record.json of
    `reproduce` in the folder gives data sets and metrics. Raises InputError if the folder is no checkpoint,
    if its weights are pickled, or if its card names folders of this machine.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; wanted a checkpoint folder to prepare for the hub")
    checkpoint = find_checkpoint(str(folder))
    checkpoint.check_sources()
    card = checkpoint.stored_card
    _check_portable(card, folder)
    if not (folder / CARD_FILE).is_file():
        write_card(card, folder / CARD_FILE)
    record = _record(folder)
    front = front_matter(card, record)
    file = folder / README
    text = _text_of(file) or body(card, record)
    with whole_file(file) as out:
        out.write(f"{_START}{front.to_yaml()}\n{_START}\n{text}")
    command = shlex.join(["hf", "upload", "OWNER/REPOSITORY", str(folder), "."])
    return [
        f"wrote {file}",
        f"upload it: {command} --exclude {shlex.quote('*.bin')}",
        "then it is found by: python -m csplade_pyserini.cards --encoder OWNER/REPOSITORY",
    ]


def front_matter(card: EncoderCard, record: Mapping[str, Any]) -> ModelCardData:
    """Front matter of a model card, as the hub reads it."""
    options: dict[str, Any] = {}
    if card.base and not card.base.startswith("package:"):
        options["base_model"] = card.base
    if card.licence:
        options["license_name"] = card.licence
    if record:
        options["datasets"] = [record["collection"]]
        options["metrics"] = sorted({metric for scores in record["scores"].values() for metric in scores})
        options["model_name"] = card.name
        options["eval_results"] = list(_results(record))
    return ModelCardData(
        library_name="csplade_pyserini",
        pipeline_tag="feature-extraction",
        tags=list(TAGS),
        license="other",
        **options,
    )


def body(card: EncoderCard, record: Mapping[str, Any]) -> str:
    """Text of a model card: what it is, how to use it, its scores, its card."""
    lines = [f"# {card.name}", ""]
    if card.summary:
        lines += [f"{card.summary[0].upper()}{card.summary[1:]}.", ""]
    lines += [
        "A sparse encoder for Pyserini, read by the Python package csplade_pyserini:",
        "",
        "```bash",
        "python -m csplade_pyserini.encode --encoder OWNER/REPOSITORY --corpus corpus.jsonl --output vectors",
        "python -m csplade_pyserini.index --input vectors --index index",
        "python -m pyserini.search.lucene --index index --topics topics.tsv --output run.txt",
        "```",
        "",
    ]
    if record:
        lines += _scores_table(record)
    return "\n".join([*lines, "```toml", to_toml(card).rstrip(), "```", ""])


def _results(record: Mapping[str, Any]) -> Iterator[EvalResult]:
    for key, scores in record["scores"].items():
        for metric, value in scores.items():
            yield EvalResult(
                task_type="retrieval",
                dataset_type=record["collection"],
                dataset_name=key,
                metric_type=metric,
                metric_value=round(value, 4),
            )


def _scores_table(record: Mapping[str, Any]) -> Sequence[str]:
    lines = []
    for key, scores in record["scores"].items():
        lines += [
            f"| {' | '.join(['collection', *scores])} |",
            f"|{'---|' * (len(scores) + 1)}",
            f"| {' | '.join([key, *(f'{value:.4f}' for value in scores.values())])} |",
            "",
        ]
    versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    return [
        *lines,
        f"Made by `python -m csplade_pyserini.reproduce` ({record.get('date', '')}, {versions}).",
        "",
    ]


def _check_portable(card: EncoderCard, folder: Path) -> None:
    """Raise InputError if others could not load the folder."""
    pickled = pickled_files(folder)
    if pickled:
        raise InputError(
            f"{folder} holds {pickled[0].name}, which is pickled: run python -m csplade_pyserini.cards "
            f"--convert {folder}, and move it away"
        )
    for key in ("base", "tokenizer", "query_encoder"):
        source = getattr(card, key)
        if source and Path(source).exists():
            raise InputError(
                f"the card of {folder} names a folder here, {key} = {source!r}; wanted a Hugging Face id, "
                f"or the files in the folder itself"
            )


def _record(folder: Path) -> dict[str, Any]:
    file = folder / RECORD
    if not file.is_file():
        return {}
    record = read_json(file)
    if not isinstance(record.get("scores"), dict) or not isinstance(record.get("collection"), str):
        raise InputError(f"{file} is no record of `reproduce`; move it away, or copy one there")
    return record


def _text_of(file: Path) -> str:
    """Text of a README behind its front matter; empty if there is none."""
    if not file.is_file():
        return ""
    text = file.read_text(encoding="utf-8-sig")
    if text.startswith(_START):
        _, _, text = text.removeprefix(_START).partition(f"\n{_START}")
    return text.strip() + "\n" if text.strip() else ""
