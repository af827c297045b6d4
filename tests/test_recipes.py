"""Recipes run as they are written, only shorter."""

import os
import subprocess
from pathlib import Path

import pytest

import main
from tests.forked_python import forked_python

ROOT = Path(main.__file__).parent


def run_recipe(name: str, folder: Path, *flags: str) -> None:
    command = ["bash", f"recipes/{name}.sh", *flags]
    with forked_python(folder / "bin") as python:
        environment = os.environ | {"PATH": f"{python}{os.pathsep}{os.environ['PATH']}"}
        result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


#: Each trains: a busy machine takes its time.
pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("narrow_resnet18")]


@pytest.mark.slow
def test_the_shapes_recipe_runs(tmp_path: Path) -> None:
    run_recipe("shapes", tmp_path, *f"--epochs 1 --train_size 16 --val_size 2 --output_dir {tmp_path}/run".split())
    assert {"checkpoint.pth", "log.txt", "curves.png", "detections.png"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }


@pytest.mark.slow
def test_the_recipe_with_masks_runs(tmp_path: Path) -> None:
    run_recipe(
        "shapes_masks", tmp_path, *f"--epochs 1 --train_size 16 --val_size 2 --output_dir {tmp_path}/run".split()
    )
    assert "test_coco_eval_masks" in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.slow
def test_the_cppe5_recipe_runs(tmp_path: Path, cppe5_folder: Path) -> None:
    """Without the weights that it downloads, and with a model that needs none."""
    smaller = (
        "--backbone resnet18 --backbone_weights none --enc_layers 1 --dec_layers 1 --hidden_dim 16 --dim_feedforward 16"
    )
    shorter = f"--epochs 1 --image_size 64 --num_workers 0 --device cpu --output_dir {tmp_path / 'run'}"
    run_recipe("cppe5", tmp_path, str(cppe5_folder), "--init_from", "", *smaller.split(), *shorter.split())
    assert (tmp_path / "run" / "checkpoint.pth").is_file()
