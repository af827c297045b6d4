"""One place and one size for every image: names with folders, accents, and sizes that the annotations get wrong."""

import json
import unicodedata
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import build_dataset
from datasets.check.outputs import write_repaired
from datasets.check.split import check_split
from datasets.coco import CocoDetection
from datasets.coco_eval import CocoEvaluator
from datasets.image_files import by_base_name, by_file_name
from datasets.images import ImageFolder
from datasets.layout import Split, find_layout
from util.errors import DatasetError


def write(folder: Path, names: list[str], **changes: Any) -> Path:
    """An annotation file of images of 60 x 40, each with one object and its polygon; `changes` apply to all images."""
    images = [{"id": k, "file_name": name, "width": 60, "height": 40} | changes for k, name in enumerate(names, 1)]
    square = {"bbox": [10, 10, 20, 10], "area": 200, "iscrowd": 0, "segmentation": [[10, 10, 30, 10, 30, 20, 10, 20]]}
    objects = [{"id": k, "image_id": k, "category_id": 1, **square} for k in range(1, len(names) + 1)]
    data = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cup"}]}
    (folder / "some.json").write_text(json.dumps(data))
    return folder / "some.json"


def draw(path: Path, size: tuple[int, int] = (60, 40), **kwargs: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path, **kwargs)


def test_the_longest_end_of_a_name_that_is_there_is_taken(tmp_path: Path) -> None:
    draw(tmp_path / "left" / "1.png")
    draw(tmp_path / "1.png")
    assert by_base_name(tmp_path, "/home/x/left/1.png", 1) == tmp_path / "left" / "1.png"
    assert by_base_name(tmp_path, "D:\\data\\left\\1.png", 1) == tmp_path / "left" / "1.png"
    assert by_base_name(tmp_path, "right/1.png", 1) == tmp_path / "1.png"
    assert by_base_name(tmp_path, "right/1.png", 1, least_parts=2) == tmp_path / "right/1.png"


def test_an_ambiguous_last_part_is_not_looked_up_alone(tmp_path: Path) -> None:
    draw(tmp_path / "left" / "1.png")
    draw(tmp_path / "1.png")
    dataset = CocoDetection(
        img_folder=tmp_path, ann_file=write(tmp_path, ["left/1.png", "x/1.png"]), find_image=by_base_name
    )
    assert dataset.image_path(0) == tmp_path / "left" / "1.png" and not dataset.image_path(1).exists()


def test_names_that_lead_to_one_file_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / "1.png")
    with pytest.raises(DatasetError, match="image id 2: file_name .image id 1 has the same file. 'right/1.png'"):
        CocoDetection(
            img_folder=tmp_path, ann_file=write(tmp_path, ["left/1.png", "right/1.png"]), find_image=by_base_name
        )


@pytest.mark.parametrize(("listed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_may_be_composed_or_not(tmp_path: Path, listed: str, stored: str) -> None:
    draw(tmp_path / unicodedata.normalize(stored, "Müll.png"))
    for find in (by_file_name, by_base_name):
        found = ImageFolder(tmp_path, find).path(unicodedata.normalize(listed, "Müll.png"), 1)
        assert found.is_file()


@pytest.mark.parametrize("listed", [{"width": 40, "height": 60}, {"width": 120, "height": 80}])
@pytest.mark.parametrize("orientation", [1, 6])
def test_perfect_masks_score_1_whatever_size_is_listed(tmp_path: Path, listed: dict, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    draw(tmp_path / "1.png", exif=exif)
    dataset = CocoDetection(img_folder=tmp_path, ann_file=write(tmp_path, ["1.png"], **listed), return_masks=True)
    evaluator = CocoEvaluator(dataset.coco, ["bbox", "segm"])
    _, target = dataset[0]
    turned = orientation == 6 and listed["height"] == 60  # as the annotations list the turned size
    assert target["masks"].shape == ((1, 60, 40) if turned else (1, 40, 60))
    found = {key: target[key] for key in ("boxes", "labels")} | {"scores": torch.ones(1), "masks": target["masks"]}
    evaluator.update({1: found})
    evaluator.accumulate()
    assert [evaluator.stats(kind)["AP"] for kind in ("bbox", "segm")] == pytest.approx([1, 1])


def test_masks_need_no_listed_size(tmp_path: Path) -> None:
    draw(tmp_path / "1.png")
    file = write(tmp_path, ["1.png"], width=None, height=None)
    dataset = CocoDetection(img_folder=tmp_path, ann_file=file, return_masks=True)
    assert dataset.get_height_and_width(0) == (40, 60)


def test_sizes_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in (1, 2):
        draw(tmp_path / f"{k}.png", (60 * k, 40))
    file = write(tmp_path, ["1.png", "2.png"], width=None, height=None)
    dataset = CocoDetection(img_folder=tmp_path, ann_file=file)
    assert dataset.aspect_ratios().tolist() == [1.5, 3]
    monkeypatch.setattr(ImageFolder, "size", lambda *_: pytest.fail("read again"))
    assert np.array_equal(dataset.aspect_ratios(), [1.5, 3])


def test_a_training_split_without_objects_is_refused_and_a_validation_split_is_not(tmp_path: Path) -> None:
    draw(tmp_path / "1.png")
    data = json.loads(write(tmp_path, ["1.png"]).read_text())
    data["annotations"][0]["iscrowd"] = 1
    (tmp_path / "some.json").write_text(json.dumps(data))
    parts = {
        f"{s}_{p}": tmp_path / f for s in ("train", "val") for p, f in (("images", ""), ("annotations", "some.json"))
    }
    args = Namespace(dataset_file="custom", data_path=None, masks=False, **parts)
    assert len(build_dataset("val", args)) == 1
    with pytest.raises(DatasetError, match="there is nothing to learn: all 1 annotations are left out: crowds: 1"):
        build_dataset("train", args)


@pytest.mark.parametrize(
    ("listed", "stored"),
    [
        ("images\\/1a2b3c4d-cup.png", "1a2b3c4d-cup.png"),
        ("../../label-studio/data/media/upload/1/1a2b3c4d-cup.png", "1a2b3c4d-cup.png"),
        ("/data/upload/1/1a2b3c4d-my%20cup%20%281%29.png", "1a2b3c4d-my cup (1).png"),
        ("images/1a2b3c4d-cup.png", "cup.png"),
        ("/data/local-files/?d=shots%2Fcup.png", "cup.png"),
        ("images/100%25.png", "100%25.png"),
    ],
)
def test_names_of_label_studio(tmp_path: Path, listed: str, stored: str) -> None:
    draw(tmp_path / "train" / "images" / stored)
    (tmp_path / "train" / "result.json").write_text(write(tmp_path, [listed]).read_text())
    split = find_layout("custom", tmp_path).split("train")
    assert ImageFolder(split.images, by_base_name).path(listed, 1).name == stored
    assert CocoDetection(split.images, split.annotations, find_image=by_base_name).load(0)[0].size == (60, 40)


def test_a_label_studio_export_without_validation_images_says_the_way_out(tmp_path: Path) -> None:
    write(tmp_path, ["a.png"]).rename(tmp_path / "result.json")
    with pytest.raises(DatasetError, match="an export of Label Studio: export training and validation images apart"):
        find_layout("custom", tmp_path)


@pytest.mark.parametrize("names", [["1.png", "right/1.png"], ["right/1.png", "1.png"], ["left/1.png", "right/1.png"]])
def test_the_check_refuses_names_of_one_file_as_training_does_and_fixing_merges_them(
    tmp_path: Path, names: list[str]
) -> None:
    draw(tmp_path / "1.png")
    checked = check_split("train", Split(tmp_path, write(tmp_path, names)), by_base_name, 9, None, False)
    assert "has the same file" in (checked.report.error or "")
    assert not any("not there" in finding.kind for finding in checked.report.findings)
    write_repaired([checked], tmp_path / "fixed.json")
    fixed = json.loads((tmp_path / "fixed.json").read_text())
    assert len(fixed["images"]) == 1 and fixed["images"][0]["file_name"] == "1.png"
