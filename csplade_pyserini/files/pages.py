"""Tables as Markdown, and HTML pages in one file that run nothing and load nothing.

Whatever a text holds is shown, never obeyed.
"""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from csplade_pyserini.files.whole import whole_file

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Content policy behind the escaping: no script, no image, no connection."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .75rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; white-space: nowrap; }
.last-left :is(th, td):last-child { text-align: left; }
pre { background: #f5f5f5; padding: .75rem; overflow-x: auto; }
.note { color: #666; }
"""


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table; all columns but the first are aligned right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def escaped(value: object) -> str:
    """Escape a text for any part of a page, attributes included."""
    return html.escape(str(value))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, kind: str = "") -> str:
    """Format an HTML table of texts; all columns but the first are aligned right."""
    lines = [_row("th", head), *(_row("td", row) for row in rows)]
    return f'<table class="{kind}">' + "\n".join(lines) + "</table>"


def _row(tag: str, cells: Iterable[object]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escaped(cell)}</{tag}>" for cell in cells) + "</tr>"


def write_page(path: Path, title: str, parts: Iterable[str], *, style: str = "") -> None:
    """Write a page of `parts`, which are HTML already. Raises InputError if it cannot be written."""
    with whole_file(path) as file:
        file.write(
            '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            f"<title>{escaped(title)}</title><style>{STYLE}{style}</style>\n"
        )
        file.write("\n".join(parts) + "\n</html>\n")
