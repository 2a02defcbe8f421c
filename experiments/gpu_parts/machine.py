"""The machine that the numbers were measured on."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "triton",
    "torchao",
    "bitsandbytes",
    "flash-attn",
    "pytest",
    "pyserini",
    "csplade_pyserini",
)
MISSING = "not installed"


def versions() -> dict[str, str]:
    """Python and every library that a part may use."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def version(name: str) -> str:
    """An installed library's version."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return MISSING


def commit(root: Path) -> str:
    """The commit of the checkout, empty where git does not say."""
    words = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def device(kind: str) -> dict[str, Any]:
    """The device. Uses it, so call this in a child. Raises RuntimeError without CUDA where it is wanted."""
    host = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    if kind == "cpu":
        return {"name": "CPU", "threads": torch.get_num_threads()} | host
    if not torch.cuda.is_available():
        raise RuntimeError("torch finds no CUDA device here; --toy runs on a CPU")
    found = torch.cuda.get_device_properties()
    return {
        "name": found.name,
        "memory_bytes": found.total_memory,
        "multiprocessors": found.multi_processor_count,
        "capability": f"{found.major}.{found.minor}",
        "cuda": torch.version.cuda,
        "tf32_products": torch.backends.cuda.matmul.allow_tf32,
    } | host
