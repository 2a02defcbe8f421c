"""Pickled weights of a checkpoint folder to safetensors beside them: `cards --convert FOLDER`.

The pickle is read by another process (unpickle.py). The original stays where it is.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from csplade_pyserini.cards import ADAPTER_CONFIG, ADAPTER_FILE, INDEX_FILE, MODEL_FILES
from csplade_pyserini.cards.sources import pickled_files
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.model import unpickle

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.\w+")
_MEBIBYTE = 2**20


def convert_folder(folder: Path) -> list[str]:
    """Convert the pickled weights of a folder, and return sentences that say what was done.

    Raises InputError if there are none or several, if safetensors are there already, or if the weights do not
    fit the folder's config.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; wanted a checkpoint folder with pickled weights")
    done = []
    for files in _groups(folder):
        done += _convert(folder, files)
    return done


def _groups(folder: Path) -> list[list[Path]]:
    """Pickled files of an adapter and of whole weights, shards together."""
    found = pickled_files(folder)
    adapters = [file for file in found if file.name.startswith("adapter_model")]
    others = [file for file in found if file not in adapters]
    if not found:
        raise InputError(f"{folder} holds no pickled weights, such as adapter_model.bin or pytorch_model.bin")
    for files in (adapters, _shards(others) or others):
        if len(files) > 1 and not _shards(files):
            names = ", ".join(file.name for file in files)
            raise InputError(
                f"{folder} holds {names}; wanted one of them, or all shards of one: move others away"
            )
    return [files for files in (adapters, others) if files]


def _shards(files: Sequence[Path]) -> list[Path]:
    """The files in order, if they are all the shards of one checkpoint; else none."""
    matches = [_SHARD.fullmatch(file.name) for file in files]
    parts = [(match["stem"], match["count"], int(match["number"])) for match in matches if match is not None]
    if len(parts) < len(files) or len({part[:2] for part in parts}) != 1:
        return []
    if sorted(part[2] for part in parts) != list(range(1, int(parts[0][1]) + 1)):
        return []
    return sorted(files)


def _convert(folder: Path, files: Sequence[Path]) -> list[str]:
    files = sorted(files)
    with tempfile.TemporaryDirectory(prefix=".converting.", dir=folder) as partial:
        keys, tied = _model_keys(folder, files)
        job = {"files": [str(file) for file in files], "target": partial, "keys": keys, "tied": tied}
        report = _in_another_process(job)
        taken = (ADAPTER_FILE,) if report["adapter"] else MODEL_FILES
        for name in taken:
            if (folder / name).exists():
                raise InputError(
                    f"{folder / name} exists already: move it away to convert {files[0].name} anew"
                )
        names = list(report["files"])
        for name in names:
            (Path(partial) / name).replace(folder / name)
    if len(names) > 1:
        _write_index(folder, report)
    return list(_sentences(folder, files, report))


def _model_keys(folder: Path, files: Sequence[Path]) -> tuple[list[str] | None, list[str]]:
    """Keys of the weights of the config's model, and those that it ties to others.

    None without a config, and for an adapter by its name.
    """
    if files[0].name.startswith("adapter_model") or not (folder / "config.json").is_file():
        return None, []
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:
        raise InputError(f"cannot use {folder / 'config.json'}: {error}") from error
    tied = sorted(getattr(model, "all_tied_weights_keys", None) or {})
    return sorted(model.state_dict()), tied


def _in_another_process(job: dict[str, Any]) -> dict[str, Any]:
    """Run unpickle.py on a job, and return its report. Raises InputError."""
    command = [sys.executable, "-P", unpickle.__file__]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise InputError(f"nothing was converted: {lines[-1]}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def _write_index(folder: Path, report: dict[str, Any]) -> None:
    """Write the index of shards, last, so that a folder with an index is whole."""
    weight_map = {key: name for name, keys in report["files"].items() for key in keys}
    with whole_file(folder / INDEX_FILE) as file:
        json.dump({"metadata": {"total_size": report["bytes"]}, "weight_map": weight_map}, file, indent=1)


def _sentences(folder: Path, files: Sequence[Path], report: dict[str, Any]) -> list[str]:
    sources = ", ".join(file.name for file in files)
    count = sum(map(len, report["files"].values()))
    size = report["bytes"] / _MEBIBYTE
    done = [
        f"{folder}: {sources} -> {', '.join(report['files'])}: {count} tensors, {size:.1f} MiB, "
        f"{', '.join(report['dtypes'])}; {sources} kept"
    ]
    if report["renamed"]:
        done.append(f"{report['renamed']} keys renamed as transformers and peft have them")
    if report["left_out"]:
        shown = ", ".join(report["left_out"][:3])
        done.append(
            f"{len(report['left_out'])} tensors left out, as the base or the config gives them: {shown}"
        )
    if report["adapter"] and not (folder / ADAPTER_CONFIG).is_file():
        done.append(
            f"{ADAPTER_CONFIG} is missing: copy it from the training's output before you load the adapter"
        )
    return done
