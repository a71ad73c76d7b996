"""The notebooks run from their first cell to their last, and what is stored of them is such a run."""

from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "scripts/notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_BYTES = 200_000  # of one picture


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def outputs(book: nbformat.NotebookNode) -> list[list[str]]:
    """Return, for every code cell, what kinds of output it has."""
    return [
        [kind for output in cell.outputs for kind in sorted(output.get("data", {output.output_type: ""}))]
        for cell in book.cells
        if cell.cell_type == "code"
    ]


def test_the_notebooks_are_found():
    assert {path.stem for path in NOTEBOOKS} == {"plan_a_study", "runs_table_to_decision"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_was_executed_from_top_to_bottom(path):
    counts = [cell.execution_count for cell in read(path).cells if cell.cell_type == "code"]
    assert counts[0] == 1
    assert all(after == before + 1 for before, after in pairwise(counts))
    assert not [kinds for kinds in outputs(read(path)) if "error" in kinds]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_pictures_of_a_notebook_are_small(path):
    shown = [output.data for cell in read(path).cells for output in cell.get("outputs", []) if "data" in output]
    pictures = [data["image/png"] for data in shown if "image/png" in data]
    assert pictures
    assert max(map(len, pictures)) * 3 / 4 < MOST_BYTES


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Jupyter's packages
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_is_stored(path, tmp_path):
    book, stored = read(path), read(path)
    NotebookClient(book, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert outputs(book) == outputs(stored)
