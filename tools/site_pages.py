"""An mkdocs hook: pages from outside docs/, and their links.

Links are written to work in the repository, where people read Markdown. This hook turns them into links
between the site's pages. A notebook becomes a page by nbconvert, with the outputs that it was stored with.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
HOME = "index.md"
MODEL_CARDS = {
    f"encoders/{folder.name}/README.md": f"encoders/{folder.name}.md"
    for folder in sorted((ROOT / "encoders").iterdir())
    if (folder / "README.md").is_file()
}
OUTSIDE = {
    "README.md": HOME,
    "SECURITY.md": "SECURITY.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "csplade_pyserini/sample/README.md": "sample.md",
    "docs/tour.ipynb": "tour.md",
    **MODEL_CARDS,
}
"""Pages that are no Markdown in docs/: path in the repository to path on the site."""
LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are no Markdown in docs/."""
    for path, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=_markdown(ROOT / path)))
    return files


def _markdown(file: Path) -> str:
    """Text of a page; of a notebook, with its stored outputs."""
    if file.suffix != ".ipynb":
        return file.read_text(encoding="utf-8")
    import nbconvert

    text, _ = nbconvert.MarkdownExporter().from_filename(str(file))
    return str(text)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to files in the repository into links to pages of the site."""
    here = page.file.src_uri
    path = next((path for path, name in OUTSIDE.items() if name == here), f"docs/{here}")

    def to_page(link: re.Match[str]) -> str:
        target = link[2]
        if "://" in target or target.startswith("mailto:"):
            return link[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        there = OUTSIDE.get(there, there.removeprefix("docs/"))
        relative = posixpath.relpath(there, posixpath.dirname(here) or ".")
        return f"{link[1]}{relative}{link[3] or ''}{link[4]}"

    return LINK.sub(to_page, markdown)
