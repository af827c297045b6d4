"""`--dense_labels`: a head of as many classes as there are categories, and the file's ids in what is written."""

import json
from pathlib import Path

import pytest
import torch

from tests.helpers import TINY, Run, assert_refused
from tests.test_main_classes import rename

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")]

LARGE = {3: 3_000_000, 7: 7_000_000}


def flags_of(folder: Path) -> str:
    return f"{TINY} --dataset_file coco --coco_path {folder} --lr_backbone 0 --train_scales 64 --dropout 0"


def test_a_run_with_dense_labels_learns_the_same_and_writes_the_ids_of_the_file(
    run: Run, tmp_path: Path, coco_folder: Path
) -> None:
    flags, out = flags_of(coco_folder), tmp_path / "run"
    rename(coco_folder, LARGE)
    assert_refused(run(f"{flags} --epochs 1"), "category id 7000000", "--dense_labels")
    code, text, err = run(f"{flags} --dense_labels --epochs 1 --output_dir {out}")
    assert code == 0, err
    assert "labels of the category ids: 3000000 -> 0, 7000000 -> 1" in text and "\ndog" in text
    content = torch.load(out / "checkpoint.pth", weights_only=True)
    assert len(content["model"]["class_embed.bias"]) == 3
    assert content["class_names"] == {0: "dog", 1: "cat"} and content["category_ids"] == {0: 3_000_000, 1: 7_000_000}
    # The checkpoint remembers: to go on, and to evaluate.
    code, text, err = run(f"{flags} --epochs 2 --resume {out / 'checkpoint.pth'} --output_dir {out}")
    assert code == 0 and f"--dense_labels is that of {out / 'checkpoint.pth'}" in text, err
    code, text, err = run(f"{flags} --eval --resume {out / 'checkpoint.pth'} --output_dir {tmp_path / 'eval'}")
    assert code == 0, err
    found = {row["category_id"] for row in json.loads((tmp_path / "eval" / "predictions.json").read_text())}
    assert found and found <= set(LARGE.values())
    assert torch.load(tmp_path / "eval" / "eval.pth", weights_only=True)["params"]["catIds"] == [3_000_000, 7_000_000]


def test_checkpoints_with_and_without_dense_labels_are_told_apart(run: Run, tmp_path: Path, coco_folder: Path) -> None:
    flags = flags_of(coco_folder)
    assert run(f"{flags} --epochs 1 --output_dir {tmp_path}")[0] == 0
    file = tmp_path / "checkpoint.pth"
    assert_refused(run(f"{flags} --dense_labels --epochs 2 --resume {file}"), "made without --dense_labels", "--match_")
    code, text, err = run(f"{flags} --dense_labels --eval --match_classes --resume {file}")
    assert code == 0 and "3 -> 0" in text and "cat 7 -> 1" in text, err
    code, text, err = run(f"{flags} --dense_labels --max_steps 1 --init_from {file}")
    assert code == 0 and "classes copied by name under new ids dog 3 -> 0, cat 7 -> 1" in text, err


@pytest.mark.parametrize("dataset", ["shapes", "coco_panoptic"])
def test_where_it_cannot_work_it_is_refused(run: Run, tmp_path: Path, dataset: str) -> None:
    result = run(f"{TINY} --dense_labels --dataset_file {dataset} --coco_path {tmp_path}")
    assert_refused(result, f"--dense_labels is not for --dataset_file {dataset}")


def test_a_run_on_some_of_the_classes_knows_and_measures_only_these(
    run: Run, tmp_path: Path, coco_folder: Path
) -> None:
    flags, file = flags_of(coco_folder), tmp_path / "run" / "checkpoint.pth"
    assert_refused(run(f"{flags} --classes dgo"), "--classes dgo", "near: dog")
    code, text, err = run(f"{flags} --classes Dog --epochs 1 --output_dir {file.parent}")
    assert code == 0 and "4 training images, 4 validation images; 1 classes: dog" in text, err
    content = torch.load(file, weights_only=True)
    assert content["class_names"] == {3: "dog"} and len(content["model"]["class_embed.bias"]) == 5
    out = tmp_path / "eval"
    code, text, err = run(f"{flags} --eval --resume {file} --output_dir {out}")
    assert code == 0 and f"--classes Dog is that of {file}" in text, err
    assert torch.load(out / "eval.pth", weights_only=True)["params"]["catIds"] == [3]
    assert_refused(run(f"{TINY} --classes 1"), "--classes", "shapes")
