"""Record of a run: scores, sizes, times, versions and hardware, as JSON beside it."""

import json
import os
import platform
import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from csplade_pyserini.collections.manifests import manifest_path, read_index_manifest, versions
from csplade_pyserini.collections.vectors import read_vectors
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.lucene.stock import size_in_bytes
from csplade_pyserini.reproduction.scores import ALL
from csplade_pyserini.reproduction.steps import System

RECORD = "record.json"
CPU_LIST = Path("/proc/cpuinfo")

Evaluated = Mapping[str, Mapping[str, float]]
"""Values by topic and under ALL, by metric."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One system on one test collection.

    Keys name the test collection with its topics.
    """

    system: str
    collection: str
    """Name of the test collection."""
    scores: dict[str, dict[str, float]]
    """Mean of each metric, by key."""
    topics: dict[str, dict[str, dict[str, float]]]
    """Score of each topic, by key and metric."""
    index_bytes: int
    query_terms: dict[str, float] = field(default_factory=dict)
    """Mean active terms of the queries, by key, if they have a query file."""
    documents: int = 0
    """0 if the index has no manifest of ours."""
    postings: int = 0
    """0 if the index has no manifest of ours."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time of each step, from the run that did it."""
    versions: dict[str, str] = field(default_factory=versions)
    hardware: dict[str, str | int] = field(default_factory=dict)
    date: str = ""

    @property
    def terms_per_document(self) -> float:
        """Mean active terms; 0 if the index has no manifest of ours."""
        return self.postings / self.documents if self.documents else 0.0

    @property
    def bytes_per_posting(self) -> float:
        """Index size per posting; 0 if the index has no manifest of ours."""
        return self.index_bytes / self.postings if self.postings else 0.0


def make_record(
    system: System, collection: str, evaluated: Mapping[str, Evaluated], seconds: Mapping[str, float]
) -> Record:
    """Make the record of a run that is done.

    collection: name of the test collection. evaluated: values by key. seconds: wall time by step.
    """
    documents = 0
    postings = 0
    if manifest_path(system.index).is_file():
        manifest = read_index_manifest(system.index)
        documents = manifest.documents
        postings = manifest.postings
    return Record(
        system=system.name,
        collection=collection,
        scores={key: _means(values) for key, values in evaluated.items()},
        topics={key: _by_topic(values) for key, values in evaluated.items()},
        index_bytes=size_in_bytes(system.index),
        query_terms=_query_terms(system, evaluated),
        documents=documents,
        postings=postings,
        seconds={name: round(taken, 1) for name, taken in seconds.items()},
        hardware=hardware(),
        date=time.strftime("%Y-%m-%d"),
    )


def record_of_run(run: Path, collection: str, evaluated: Mapping[str, Evaluated]) -> Record:
    """Make the record of a run whose index and times are unknown; its system is the file's name."""
    return Record(
        system=run.name,
        collection=collection,
        scores={key: _means(values) for key, values in evaluated.items()},
        topics={key: _by_topic(values) for key, values in evaluated.items()},
        index_bytes=0,
        versions={},
    )


def _means(evaluated: Evaluated) -> dict[str, float]:
    return {metric: values[ALL] for metric, values in evaluated.items()}


def _by_topic(evaluated: Evaluated) -> dict[str, dict[str, float]]:
    found = {}
    for metric, values in evaluated.items():
        found[metric] = {qid: value for qid, value in values.items() if qid != ALL}
    return found


def _query_terms(system: System, keys: Iterable[str]) -> dict[str, float]:
    """Mean active terms of each query file, by key."""
    means: dict[str, float] = {}
    for key in keys:
        file = system.queries(key)
        if file is not None:
            means[key] = statistics.mean(len(vector) for vector in read_vectors([file]))
    return means


def write_record(record: Record, folder: Path) -> None:
    """Write the record of a run into its folder. Raises InputError if it cannot be written."""
    with whole_file(folder / RECORD) as file:
        json.dump(asdict(record), file, indent=1)


def read_record(folder: Path) -> Record:
    """Read the record of a run. Raises InputError if there is none, or if it is not ours."""
    path = folder / RECORD
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is no record of a run: {error}") from error


def hardware() -> dict[str, str | int]:
    """Processor, usable cores, memory if known, and GPUs if torch sees any."""
    import torch

    found: dict[str, str | int] = {"processor": _processor(), "cores": _cores()}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    if torch.cuda.is_available():
        numbers = range(torch.cuda.device_count())
        found["gpus"] = ", ".join(torch.cuda.get_device_name(number) for number in numbers)
    return found


def described(values: Mapping[str, object]) -> str:
    """Format versions or hardware as one line."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 0


def _processor() -> str:
    if CPU_LIST.is_file():
        for line in CPU_LIST.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
