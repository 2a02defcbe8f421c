"""What a reader of a paper asks about a run: scores, per topic too, counts and bytes, versions, hardware, times. JSON beside the run."""

import json
import os
import platform
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from csplade_pyserini.collections.manifests import manifest_path, read_index_manifest, versions
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import read_lines
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.lucene.stock import size_in_bytes
from csplade_pyserini.reproduction.scores import ALL
from csplade_pyserini.reproduction.steps import System

RECORD = "record.json"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One system on one collection."""

    system: str
    collection: str
    scores: dict[str, dict[str, float]]
    """Of each set of topics, every metric's mean."""
    topics: dict[str, dict[str, dict[str, float]]]
    """Of each set of topics and metric, every topic's score."""
    index_bytes: int
    query_terms: dict[str, float] = field(default_factory=dict)
    """Of each set of topics, mean active terms of its queries, where these were encoded apart."""
    documents: int = 0
    postings: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    """Of each step; kept from the run that did it."""
    versions: dict[str, str] = field(default_factory=versions)
    hardware: dict[str, str | int] = field(default_factory=dict)
    date: str = ""

    @property
    def terms_per_document(self) -> float:
        """Mean active terms; 0 where the index has no manifest of ours."""
        return self.postings / self.documents if self.documents else 0.0

    @property
    def bytes_per_posting(self) -> float:
        """0 where the index has no manifest of ours."""
        return self.index_bytes / self.postings if self.postings else 0.0


def make_record(
    system: System,
    collection: str,
    evaluated: Mapping[str, Mapping[str, Mapping[str, float]]],
    seconds: Mapping[str, float],
) -> Record:
    """evaluated: by the key of collection and topics, each metric's value by topic and under ALL."""
    built = read_index_manifest(system.index) if manifest_path(system.index).is_file() else None
    queries = {key: system.queries(key) for key in evaluated}
    return Record(
        system=system.name,
        collection=collection,
        scores={
            key: {metric: values[ALL] for metric, values in metrics.items()}
            for key, metrics in evaluated.items()
        },
        topics={
            key: {
                metric: {qid: value for qid, value in values.items() if qid != ALL}
                for metric, values in metrics.items()
            }
            for key, metrics in evaluated.items()
        },
        index_bytes=size_in_bytes(system.index),
        query_terms={key: _mean_terms(file) for key, file in queries.items() if file is not None},
        documents=built.documents if built else 0,
        postings=built.postings if built else 0,
        seconds={name: round(taken, 1) for name, taken in seconds.items()},
        hardware=hardware(),
        date=time.strftime("%Y-%m-%d"),
    )


def _mean_terms(queries: Path) -> float:
    return statistics.mean(len(json.loads(line)["vector"]) for line in read_lines(queries))


def write_record(record: Record, folder: Path) -> None:
    with whole_file(folder / RECORD) as file:
        json.dump(asdict(record), file, indent=1)


def read_record(folder: Path) -> Record:
    """Raises InputError where there is none, or not ours."""
    path = folder / RECORD
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is no record of a run: {error}") from error


def hardware() -> dict[str, str | int]:
    """Processor, cores that this process may use, memory, and GPUs if torch is loaded and sees any."""
    found: dict[str, str | int] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    import torch

    if torch.cuda.is_available():
        found["gpus"] = ", ".join(
            torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())
        )
    return found


def described(values: Mapping[str, object]) -> str:
    """Versions or hardware as one line for people."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    if file.is_file():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
