"""HTML pages in one file that run nothing and load nothing: whatever stands in a text is shown, never obeyed."""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from csplade_pyserini.collections.files import whole_file

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""The browser's own lock behind the escaping: no script, no image, no connection."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .25rem .75rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; white-space: nowrap; }
.last-left :is(th, td):last-child { text-align: left; } pre { background: #f5f5f5; padding: .75rem; overflow-x: auto; }
.note { color: #666; }
"""


def escaped(value: object) -> str:
    """A text for any place of a page, attributes included."""
    return html.escape(str(value))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, kind: str = "") -> str:
    """A table of texts; the first column is on the left, the others on the right."""
    lines = ["<tr>" + "".join(f"<th>{escaped(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return f'<table class="{kind}">' + "\n".join(lines) + "</table>"


def write_page(path: Path, title: str, parts: Iterable[str], *, style: str = "") -> None:
    """Write a page of `parts`, which are HTML already. Raises InputError where it cannot be written."""
    with whole_file(path) as file:
        file.write(
            f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            f"<title>{escaped(title)}</title><style>{STYLE}{style}</style>\n"
        )
        file.write("\n".join(parts) + "\n</html>\n")
