"""Data as `main.py` takes it: layouts by name, and the look at it before training."""

import json
from pathlib import Path

import pytest
import torch

from tests.datasets.fault_folder import write_fault_folder
from tests.helpers import TINY, Run, assert_refused

pytestmark = pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")


@pytest.mark.slow
def test_a_layout_is_recognised_and_printed_and_its_class_names_are_saved(
    run: Run, tmp_path: Path, coco_folder: Path
) -> None:
    flags = f"{TINY} --dataset_file custom --data_path {coco_folder} --epochs 1 --max_steps 1 --output_dir {tmp_path}"
    code, out, err = run(flags)
    assert code == 0, err
    assert f"layout: COCO in {coco_folder}\n  train: {coco_folder}/annotations/instances_train2017.json" in out
    assert "2 classes: " in out
    kept = torch.load(tmp_path / "checkpoint.pth", weights_only=True)["class_names"]
    assert kept == {3: "dog", 7: "cat"}
    name_parts = (
        f"--val_images {coco_folder}/val2017 --val_annotations {coco_folder}/annotations/instances_val2017.json"
    )
    code, out, err = run(f"{TINY} --dataset_file custom {name_parts} --eval --resume {tmp_path / 'checkpoint.pth'}")
    assert code == 0 and "layout: named by flags" in out and "4 validation images" in out, err


def test_data_is_checked_before_training_without_the_flag_no_check(run: Run, coco_folder: Path) -> None:
    (coco_folder / "train2017" / "000000000007.png").unlink()
    flags = f"{TINY} --dataset_file coco --data_path {coco_folder} --epochs 1"
    assert_refused(run(flags), "000000000007.png", "1 of the 4 images of the train split are not there")
    code, _, err = run(f"{flags} --no_check")
    assert code == 2 and "cannot read the image with image id 7" in err


@pytest.mark.slow
def test_an_epoch_ends_over_data_with_every_fault_that_loading_repairs(run: Run, tmp_path: Path) -> None:
    folder = write_fault_folder(tmp_path / "faults")
    flags = f"{TINY} --dataset_file custom --data_path {folder}"
    code, out, err = run(f"{flags} --batch_size 1 --epochs 1 --output_dir {tmp_path / 'run'}")
    assert code == 0 and "Epoch: [0]  [12/12]" in out and "annotations/train.json: repaired on reading: " in out, err
    code, out, err = run(f"{flags} --eval --resume {tmp_path / 'run' / 'best.pth'}")
    assert code == 0 and "IoU metric: bbox, images: 2" in out, err


@pytest.mark.parametrize("listed", [False, True])
def test_images_without_annotations_are_predicted_only(
    run: Run, tmp_path: Path, coco_folder: Path, listed: bool
) -> None:
    file = coco_folder / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text()) | {"annotations": []}
    file.write_text(json.dumps({key: value for key, value in content.items() if listed or key != "annotations"}))
    flags = f"{TINY} --dataset_file coco --coco_path {coco_folder} --eval --output_dir {tmp_path / 'out'}"
    code, out, err = run(flags)
    assert code == 0, err
    assert "4 images without a single object: there is nothing to measure against" in out and "AP50" not in out
    assert "AP cannot be measured on the validation images: it lists 4 images and no annotations" in out
    assert "Test:  [1/1]" in out and "loss" not in out.partition("Test:")[2] and "class_error" not in out
    predictions = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert {row["image_id"] for row in predictions} == {1, 4, 7, 9}
    assert not (tmp_path / "out" / "eval.pth").exists()


@pytest.mark.slow
def test_training_goes_on_without_validation_objects(run: Run, tmp_path: Path, coco_folder: Path) -> None:
    file = coco_folder / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"annotations": [a | {"iscrowd": 1} for a in content["annotations"]]}))
    flags = f"{TINY} --dataset_file coco --coco_path {coco_folder} --epochs 1 --output_dir {tmp_path / 'out'}"
    code, out, err = run(flags)
    assert code == 0, err
    assert "AP cannot be measured on the validation images: all" in out and "crowds: " in out
    assert (tmp_path / "out" / "best.pth").exists() and "test_loss" in (tmp_path / "out" / "log.txt").read_text()


def test_more_detections_count_on_demand(run: Run, coco_folder: Path) -> None:
    flags = f"{TINY} --dataset_file coco --coco_path {coco_folder} --eval"
    code, out, err = run(f"{flags} --max_dets 120")
    assert code == 0 and "maxDets=120" in out and "maxDets=100" not in out, err
    assert_refused(run(f"{flags} --max_dets 5"), "--max_dets 5: must be at least 10")
