"""The notebook runs from its first cell to its last, and holds the images of its last run."""

import os
from pathlib import Path

import pytest

import main
from datasets.shapes.draw import CLASS_NAMES
from tests.inference.checkpoints import write_checkpoint

ROOT = Path(main.__file__).parent
NOTEBOOK = ROOT / "results" / "detr_hands_on.ipynb"

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (requirements-dev.txt)")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed (requirements-dev.txt)")


def images_of(notebook: dict) -> int:
    """Count the images in the outputs of a notebook."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
def test_it_runs_with_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = write_checkpoint(tmp_path / "best.pth", names=dict(CLASS_NAMES), num_classes=max(CLASS_NAMES) + 1)
    monkeypatch.setenv("DETR_CHECKPOINT", str(checkpoint))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    assert images_of(notebook) == 4
    assert not [o for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "error"]


def test_it_holds_its_images_and_the_place_of_no_machine() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert images_of(notebook) == 4
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    text = NOTEBOOK.read_text()
    assert "/home/" not in text and "/work" not in text and "/tmp" not in text
