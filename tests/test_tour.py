"""The notebook docs/tour.ipynb runs from end to end, and its stored outputs are those of a run."""

import html
import json
import re
from pathlib import Path

import pytest
from programs import new_python

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "docs" / "tour.ipynb"
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


def outputs(notebook: Path) -> list[str]:
    """Text of each code cell's outputs, without stderr; tables without their tags."""
    texts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        parts = []
        for output in cell["outputs"]:
            assert output["output_type"] != "error", output
            if output.get("name") == "stderr":
                continue
            data = output.get("data", {})
            shown = data.get("text/html") or data.get("text/plain") or output.get("text") or []
            parts.append(html.unescape(re.sub(r"<[^>]*>", " ", "".join(shown))))
        texts.append("".join(parts))
    return texts


def test_the_stored_notebook_is_of_one_whole_run():
    cells = [
        cell for cell in json.loads(TOUR.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"
    ]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    text = "\n".join(outputs(TOUR))
    assert re.search(r"BM25 +nDCG@10 0\.\d{4} +R@100 0\.\d{4}\s+csplade-tiny +nDCG@10 0\.\d{4}", text)
    assert "Lucene's score is" in text
    assert "/tmp" not in TOUR.read_text(encoding="utf-8")


@pytest.mark.jvm
def test_a_run_has_no_error_and_gives_the_stored_numbers(tmp_path):
    """Impacts may differ by rounding between machines: words are equal, and numbers are near."""
    for package in ("nbconvert", "ipykernel", "ir_measures"):
        pytest.importorskip(package)
    made_now = tmp_path / TOUR.name
    variables = {"JUPYTER_PLATFORM_DIRS": "1", "IPYTHONDIR": str(tmp_path / "ipython")}
    done = new_python(ROOT / "tools" / "tour.py", "--output", made_now, **variables)
    assert done.returncode == 0, done.stderr[-3000:]
    for stored, made in zip(outputs(TOUR), outputs(made_now), strict=True):
        assert NUMBER.sub("#", made).split() == NUMBER.sub("#", stored).split()
        wanted = [float(number) for number in NUMBER.findall(stored)]
        assert [float(number) for number in NUMBER.findall(made)] == pytest.approx(
            wanted, rel=0.02, abs=0.011
        )
