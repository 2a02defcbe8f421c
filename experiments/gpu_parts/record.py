"""The one JSON file of experiments/gpu.py, and the record that a part adds its numbers to."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from csplade_pyserini.files.whole import whole_file
from gpu_parts.children import ChildError, Send, call

ERROR, SKIPPED = "error", "skipped"
ITEM_SECONDS = 180
"""Time limit of one measurement, so that one that hangs leaves time for the rest of its part."""


class Report:
    """The file: about this call, then each part. Rewritten whole after every change."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        """Goes on with the file of an earlier call."""
        self.path = path
        parts = {}
        if path.is_file():
            parts = json.loads(path.read_text(encoding="utf-8"))["parts"]
        self.table: dict[str, Any] = about | {"parts": parts}

    def part(self, name: str) -> dict[str, Any]:
        """A part's table; empty before its first run."""
        found: dict[str, Any] = self.table["parts"].get(name, {})
        return found

    def begin(self, name: str) -> dict[str, Any]:
        """Start a part anew."""
        fresh: dict[str, Any] = {"state": "running", "date": date(), "results": {}}
        self.table["parts"][name] = fresh
        self.write()
        return fresh

    def write(self) -> None:
        """Replace the file: whoever reads it finds the old one or the new one."""
        with whole_file(self.path) as file:
            file.write(json.dumps(self.table, indent=1) + "\n")


class Record:
    """Results of a part, sent to the parent after each addition."""

    def __init__(self, send: Send, seconds: float = ITEM_SECONDS) -> None:
        """seconds: time limit of a measurement that has none of its own."""
        self.results: dict[str, Any] = {}
        self._send, self._seconds = send, seconds

    def add(self, *keys: str, **values: Any) -> None:
        """Add values under the keys."""
        table = self.results
        for key in keys:
            table = table.setdefault(key, {})
        table.update(values)
        self._send(self.results)

    def measure(
        self,
        keys: tuple[str, ...],
        function: Callable[..., dict[str, Any]],
        *args: Any,
        seconds: float | None = None,
    ) -> None:
        """Run a measurement in a process of its own, and add what it returns, or its error."""
        begin = time.monotonic()
        try:
            values = call(function, *args, seconds=seconds or self._seconds)
        except ChildError as error:
            values = {ERROR: str(error)}
        self.add(*keys, **values, wall_seconds=round(time.monotonic() - begin, 2))


def has_error(results: Any) -> bool:
    """Whether a measurement of a part failed."""
    if not isinstance(results, dict):
        return False
    return ERROR in results or any(map(has_error, results.values()))


def date() -> str:
    """Now, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
