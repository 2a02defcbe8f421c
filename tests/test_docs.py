"""Pages that are made of tables are those that the tables give."""

from pathlib import Path

from programs import run_python

ROOT = Path(__file__).parents[1]


def test_the_reproductions_page_is_what_make_docs_writes(tmp_path):
    made = run_python(ROOT / "run_scripts" / "reproductions.py", "--output", tmp_path / "reproductions.md")
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "reproductions.md").read_text() == (ROOT / "docs" / "reproductions.md").read_text(), "stale: run make docs"
