"""Metadata of a run in the schema ir_metadata (ir-metadata.org), which TIREx reads: YAML beside the run."""

import platform
from typing import Any

from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.reproduction.catalogue import TestCollection
from csplade_pyserini.reproduction.records import Record
from csplade_pyserini.reproduction.significance import CORRECTION, TEST
from csplade_pyserini.reproduction.steps import System, shown

FILE = "ir-metadata.yml"
SCHEMA_VERSION = "0.1"


def write_metadata(system: System, record: Record, collection: TestCollection, baseline: str) -> None:
    """Write the metadata of a system's runs into its folder. Raises InputError if it cannot be written.

    baseline: name of the system or run that the others are compared with.
    """
    import yaml

    with whole_file(system.folder / FILE) as file:
        yaml.safe_dump(
            metadata(system, record, collection, baseline), file, sort_keys=False, allow_unicode=True
        )


def metadata(system: System, record: Record, collection: TestCollection, baseline: str) -> dict[str, Any]:
    """Return the metadata as a table: the schema's components, without those that nobody knows here."""
    return {
        "schema version": SCHEMA_VERSION,
        "tag": record.system,
        "research goal": {
            "description": f"{record.system} on {collection.name}",
            "evaluation": {
                "reported measures": _measures(record),
                "baseline": [baseline],
                "significance test": [{"name": TEST, "correction method": CORRECTION}],
            },
        },
        "platform": _platform(record),
        "implementation": {
            "executable": {"cmd": [shown(step.command) for step in system.steps]},
            "source": {"lang": ["python", "java"]},
        },
        "resources": {
            "runtime": {"wallclock": {step: f"{seconds} s" for step, seconds in record.seconds.items()}},
            "index": {"bytes": record.index_bytes},
        },
        "data": {"test collection": _collection(collection)},
        "method": _method(record),
    }


def _measures(record: Record) -> dict[str, dict[str, float]]:
    return {key: dict(scores) for key, scores in record.scores.items()}


def _platform(record: Record) -> dict[str, Any]:
    hardware: dict[str, Any] = {
        "cpu": {
            "model": record.hardware.get("processor", ""),
            "architecture": platform.machine(),
            "number of cores": record.hardware.get("cores", 0),
        }
    }
    if "memory_gib" in record.hardware:
        hardware["ram"] = f"{record.hardware['memory_gib']} GB"
    if "gpus" in record.hardware:
        hardware["gpu"] = {"model": record.hardware["gpus"]}
    libraries = [f"{name}=={version}" for name, version in record.versions.items()]
    toolkits = [library for library in libraries if library.startswith("pyserini==")]
    return {
        "hardware": hardware,
        "operating system": {"kernel": f"{platform.system()} {platform.release()}"},
        "software": {"libraries": {"python": libraries}, "retrieval toolkit": toolkits},
    }


def _collection(collection: TestCollection) -> dict[str, Any]:
    table: dict[str, Any] = {
        "name": collection.name,
        "source": collection.corpus,
        "topics": [topics.topics for topics in collection.topics],
        "qrels": [topics.qrels or topics.topics for topics in collection.topics],
    }
    prefix = "ir_datasets:"
    if collection.corpus.startswith(prefix):
        table["ir_datasets"] = collection.corpus.removeprefix(prefix)
    return table


def _method(record: Record) -> dict[str, Any]:
    kind = "learned sparse retrieval, impact scores"
    if record.system == "BM25":
        kind = "BM25"
    return {"automatic": True, "retrieval": [{"name": record.system, "method": kind}]}
