"""Pyserini's tables of prebuilt indexes: no name in them is looked up before somebody asks for it.

Pyserini 2.4.0 fetches these tables on first use. But while it is imported it looks two other names of
indexes up, so it cannot be imported without a network. Here such a lookup waits. A Pyserini that looks
nothing up while it is imported runs as it is.
"""

import ast
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from csplade_pyserini.registration.patches import relies_on, rewrites

MODULE = "pyserini.prebuilt_index_info"

relies_on(MODULE, "IMPACT_INDEX_INFO")


class OnFirstUse(Mapping[str, Any]):
    """A table whose values are computed when they are asked for."""

    def __init__(self, values: dict[str, Callable[[], Any]]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values


@rewrites(MODULE)
def look_up_later(source: str) -> ast.Module | None:
    """Make tables of the form `{"other name": TABLE["name"]}` compute their values on first use.

    Returns None if the module opens no URL, or has no such table.
    """
    if "urlopen" not in source:
        return None
    tree = ast.parse(source)
    body: list[ast.stmt] = []
    for statement in tree.body:
        table = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
        if isinstance(table, ast.Dict) and _has_lookups(table):
            body.append(_import_of_table())
            statement.value = _computed_later(table)  # type: ignore[attr-defined]
        body.append(statement)
    if len(body) == len(tree.body):
        return None
    tree.body = body
    return ast.fix_missing_locations(tree)


def _has_lookups(table: ast.Dict) -> bool:
    return None not in table.keys and any(isinstance(value, ast.Subscript) for value in table.values)


def _computed_later(table: ast.Dict) -> ast.Call:
    nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    later: list[ast.expr] = [ast.Lambda(nothing, value) for value in table.values]
    return ast.Call(ast.Name("_OnFirstUse", ast.Load()), [ast.Dict(table.keys, later)], [])


def _import_of_table() -> ast.ImportFrom:
    return ast.ImportFrom(__name__, [ast.alias(OnFirstUse.__name__, "_OnFirstUse")], 0)
