"""The notebook of the documentation runs from top to bottom."""

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"


def test_the_notebook_holds_no_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_notebook_finds_the_gap(tmp_path):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, resources=resources).execute()
    look, coverage, topics = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"][
        2:
    ]
    assert "<table>" in look[-1].data["text/html"]
    assert "<table>" in coverage[-1].data["text/html"]
    assert len(topics[0].text.splitlines()) == 5
