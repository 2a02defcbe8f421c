"""JSON text from outside, parsed in a process that may have a JVM."""

import json
from typing import Any

SAFE_BRACKETS = 2000
"""Depth of JSON that is safe beside a JVM: there Python 3.13 ended at a depth between 6,000 and 9,000."""


class _PythonDecoder(json.JSONDecoder):
    """Python's own JSON decoder, without the one in C."""

    def __init__(self) -> None:
        super().__init__()
        self.scan_once = json.scanner.py_make_scanner(self)  # type: ignore[attr-defined]


_python_decoder = _PythonDecoder()


def parse_json(text: str) -> Any:
    """Parse JSON, as json.loads does. Raises ValueError, or RecursionError if it is nested too deep.

    The decoder in C may need more stack than a JVM leaves to Python, and then the process ends. So a text
    that may be nested deep is decoded in Python, which is slow.
    """
    if text.count("[") + text.count("{") > SAFE_BRACKETS:
        return _python_decoder.decode(text)
    return json.loads(text)
