"""Run docs/tour.ipynb and store its outputs, without stderr: progress and warnings are of one machine.

python tools/tour.py --output docs/tour.ipynb
"""

import argparse
from pathlib import Path

import nbformat
from nbconvert.preprocessors import ExecutePreprocessor

TOUR = Path(__file__).resolve().parents[1] / "docs" / "tour.ipynb"
SECONDS = 600


def main() -> None:
    parser = argparse.ArgumentParser(description="Run docs/tour.ipynb and store its outputs.")
    parser.add_argument("--output", type=Path, default=TOUR, help="file for the notebook with its outputs")
    args = parser.parse_args()
    notebook = nbformat.read(TOUR, as_version=4)
    ExecutePreprocessor(timeout=SECONDS, record_timing=False).preprocess(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, args.output)


if __name__ == "__main__":
    main()
