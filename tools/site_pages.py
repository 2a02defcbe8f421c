"""A hook of mkdocs: files outside docs/ that are pages too, and links between them as they stand in the repository.

Links are written so that they work where people read Markdown in the repository; here they become those of the site.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
HOME = "index.md"
OUTSIDE = {
    "README.md": HOME,
    "SECURITY.md": "SECURITY.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "csplade_pyserini/sample/README.md": "sample.md",
} | {
    f"encoders/{folder.parent.name}/README.md": f"encoders/{folder.parent.name}.md"
    for folder in sorted(ROOT.glob("encoders/*/README.md"))
}
"""Path in the repository to that of the page on the site."""
LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    for path, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to files of the repository into links to pages of the site."""
    here = page.file.src_uri
    path = next((path for path, name in OUTSIDE.items() if name == here), f"docs/{here}")

    def to_page(link: re.Match[str]) -> str:
        target = link[2]
        if "://" in target or target.startswith("mailto:"):
            return link[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        there = OUTSIDE.get(there, there.removeprefix("docs/"))
        return f"{link[1]}{posixpath.relpath(there, posixpath.dirname(here) or '.')}{link[3] or ''}{link[4]}"

    return LINK.sub(to_page, markdown)
