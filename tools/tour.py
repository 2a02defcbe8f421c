"""Run docs/tour.ipynb and store its outputs, without stderr: progress and warnings are of one machine.

python tools/tour.py
"""

from pathlib import Path

import nbformat
from nbconvert.preprocessors import ExecutePreprocessor

TOUR = Path(__file__).resolve().parents[1] / "docs" / "tour.ipynb"
SECONDS = 600


def main() -> None:
    notebook = nbformat.read(TOUR, as_version=4)
    ExecutePreprocessor(timeout=SECONDS, record_timing=False).preprocess(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, TOUR)


if __name__ == "__main__":
    main()
