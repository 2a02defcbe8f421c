"""TOML and JSON tables, and how they become frozen dataclasses.

Field names are the keys; field types say which values are allowed.
"""

import dataclasses
import math
import tomllib
import types
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.json_text import parse_json

_LARGEST_EXACT_FLOAT = 2**53


def read_toml(path: Path, kind: str) -> dict[str, Any]:
    """Read a TOML file; `kind` is what errors call it. Raises InputError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"cannot read the {kind} {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object. Raises InputError that names the file."""
    try:
        table = parse_json(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(table, dict):
        raise InputError(f"{path} holds {type(table).__name__}; wanted a JSON object")
    return table


def parse_table[T](cls: type[T], table: dict[str, Any], origin: str) -> T:
    """Make a dataclass from a table; `origin` is what errors call the table.

    Raises InputError on an unknown key, a missing key, or a value of another type than the field's.
    """
    known = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise InputError(f"{origin}: unknown key {key!r}; known: {', '.join(sorted(known))}")
    for key, field in known.items():
        if key not in table and field.default is field.default_factory is dataclasses.MISSING:
            raise InputError(f"{origin}: the key {key!r} is missing")
    values = {key: _checked(value, known[key].type, f"{origin}: {key}") for key, value in table.items()}
    return cls(**values)


def _checked(value: Any, wanted: Any, where: str) -> Any:
    """Return `value` as the field's type. TOML integers count as floats; nothing else is converted."""
    origin = get_origin(wanted)
    if origin is Literal:
        return _checked_choice(value, get_args(wanted), where)
    if origin is tuple:
        return _checked_strings(value, where)
    if isinstance(wanted, types.GenericAlias):
        return _checked_table(value, get_args(wanted)[1], where)
    if wanted is float and type(value) is int and abs(value) < _LARGEST_EXACT_FLOAT:
        return float(value)
    if type(value) is not wanted:
        raise InputError(f"{where} is {value!r}; wanted {wanted.__name__}, got {type(value).__name__}")
    if wanted is float and not math.isfinite(value):
        raise InputError(f"{where} is {value}; wanted a finite number")
    return value


def _checked_choice(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    if value not in choices:
        raise InputError(f"{where} is {value!r}; wanted one of {', '.join(map(repr, choices))}")
    return value


def _checked_strings(value: Any, where: str) -> tuple[Any, ...]:
    if isinstance(value, tuple):
        return value  # TOML has no tuples: the caller has parsed this one already
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InputError(f"{where} is {value!r}; wanted a list of strings")
    return tuple(value)


def _checked_table(value: Any, wanted: Any, where: str) -> dict[str, Any]:
    """Check a table of numbers (dict[str, float]), of strings (dict[str, str]) or of anything."""
    if wanted is Any:
        if not isinstance(value, dict):
            raise InputError(f"{where} is {value!r}; wanted a table")
        return value
    if wanted is str:
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise InputError(f"{where} is {value!r}; wanted a table of strings")
        return value
    if not isinstance(value, dict) or not all(type(item) in (int, float) for item in value.values()):
        raise InputError(f"{where} is {value!r}; wanted a table of numbers")
    return {key: float(number) for key, number in value.items()}
