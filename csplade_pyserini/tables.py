"""Tables of TOML or JSON to frozen dataclasses: field names are the keys, field types say what is allowed."""

import dataclasses
import math
import tomllib
import types
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from csplade_pyserini.errors import InputError


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The table of a TOML file; `what` is what errors call the file. Raises InputError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the {what} {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error


def parse_table[T](cls: type[T], table: dict[str, Any], origin: str) -> T:
    """A dataclass of a table; `origin` is what errors call the table.

    Raises InputError on an unknown key, a missing one, or a value of another type than the field's.
    """
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise InputError(f"{origin}: unknown key {key!r}; known: {', '.join(sorted(known))}")
    for key, field in known.items():
        if key not in table and field.default is field.default_factory is dataclasses.MISSING:
            raise InputError(f"{origin}: the key {key!r} is missing")
    return cls(**{key: _checked(value, known[key].type, f"{origin}: {key}") for key, value in table.items()})


def _checked(value: Any, wanted: Any, where: str) -> Any:
    """`value` as the field's type. TOML's integers count as floats; nothing else is converted."""
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise InputError(f"{where} is {value!r}; wanted one of {', '.join(map(repr, get_args(wanted)))}")
        return value
    if get_origin(wanted) is tuple and isinstance(value, tuple):
        return value  # TOML has no tuples: the caller has read this one already
    if get_origin(wanted) is tuple:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InputError(f"{where} is {value!r}; wanted a list of strings")
        return tuple(value)
    if isinstance(wanted, types.GenericAlias):
        return _checked_table(value, get_args(wanted)[1], where)
    if wanted is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) is not wanted:
        raise InputError(f"{where} is {value!r}; wanted {wanted.__name__}, got {type(value).__name__}")
    if wanted is float and not math.isfinite(value):
        raise InputError(f"{where} is {value}; wanted a finite number")
    return value


def _checked_table(value: Any, wanted: Any, where: str) -> dict[str, Any]:
    """A table whose values are numbers (dict[str, float]), strings (dict[str, str]) or anything (dict[str, Any])."""
    if wanted is Any:
        if not isinstance(value, dict):
            raise InputError(f"{where} is {value!r}; wanted a table")
        return value
    if wanted is str:
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise InputError(f"{where} is {value!r}; wanted a table of strings")
        return value
    if not isinstance(value, dict) or not all(type(v) in (int, float) for v in value.values()):
        raise InputError(f"{where} is {value!r}; wanted a table of numbers")
    return {key: float(number) for key, number in value.items()}
