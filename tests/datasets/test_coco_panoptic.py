"""Panoptic targets by hand, from two images whose lists are in different orders, and the lines for broken files."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import build_dataset, get_coco_api_from_dataset
from datasets.coco_panoptic import CocoPanoptic, read_segments
from tests.datasets.panoptic_folder import panoptic_data, write_panoptic_folder
from util.errors import DatasetError, ImageError


@pytest.fixture
def data() -> dict[str, Any]:
    return panoptic_data()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    return lambda data: write_panoptic_folder(tmp_path, data)


def build(root: Path, **flags: Any) -> CocoPanoptic:
    return build_dataset("val", Namespace(dataset_file="coco_panoptic", coco_path=root, **{"masks": True} | flags))


def test_targets_are_matched_by_id_and_boxes_are_those_of_the_pixels(data: dict, folder: Callable) -> None:
    dataset = build(folder(data))
    assert [dataset.image_id(i) for i in range(len(dataset))] == [2, 9]
    assert dataset.num_classes == 120 and dataset.class_names == {18: "dog", 119: "sky"}
    assert dataset.is_thing == {18: True, 119: False}
    assert dataset.object_counts().tolist() == [1, 4] and dataset.get_height_and_width(1) == (6, 8)
    image, target = dataset.load(1)
    assert image.size == (8, 6)
    # The last pixel's own corner, not one beyond it; the crowd is kept; the segment without pixels is not.
    assert target["boxes"].tolist() == [[2, 1, 4, 2], [0, 5, 7, 5], [0, 0, 7, 4]]
    assert target["labels"].tolist() == [18, 18, 119] and target["iscrowd"].tolist() == [0, 1, 0]
    assert target["area"].tolist() == [6, 8, 30] and target["area"].dtype == torch.float32
    assert target["masks"].dtype == torch.bool and target["masks"].flatten(1).sum(1).tolist() == [6, 8, 34]
    assert target["image_id"].tolist() == [9] and target["orig_size"].tolist() == target["size"].tolist() == [6, 8]
    assert dataset.load(0)[0].size == (4, 3)  # the name is that of "images", not the PNG's with another ending


def test_boxes_alone_and_transforms(data: dict, folder: Callable) -> None:
    dataset = build(folder(data), masks=False, image_size=12)
    image, target = dataset[1]
    assert image.shape == (3, 12, 16) and "masks" not in target and target["boxes"].max() <= 1


def test_the_pngs_may_lie_beside_the_annotations_folder_and_elsewhere(data: dict, folder: Callable) -> None:
    root = folder(data)
    other = root / "panoptic"
    (root / "annotations").rename(other)
    (other / "annotations").mkdir()
    (other / "panoptic_val2017.json").rename(other / "annotations" / "panoptic_val2017.json")
    dataset = build(root, coco_panoptic_path=other)
    assert dataset.ann_folder == other / "panoptic_val2017" and len(dataset.load(1)[1]["labels"]) == 3


def test_boxes_are_judged_by_the_instances(data: dict, folder: Callable) -> None:
    root = folder(data)
    with pytest.raises(DatasetError, match="judging boxes needs"):
        get_coco_api_from_dataset(build(root))
    instances = {"images": data["images"], "annotations": [], "categories": [{"id": 18, "name": "dog"}]}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(instances))
    assert get_coco_api_from_dataset(build(root)).getCatIds() == [18]


def test_segment_ids_of_a_png(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[1, 2, 3], [255, 255, 255]]], dtype=np.uint8)).save(tmp_path / "x.png")
    assert read_segments(tmp_path / "x.png", described="").tolist() == [[1 + 2 * 256 + 3 * 65536, 2**24 - 1]]


def broken(data: dict, path: str, value: Any = "delete") -> dict:
    *way, last = path.split("/")
    entry = data
    for step in way:
        entry = entry[int(step)] if isinstance(entry, list) else entry[step]
    if value == "delete":
        del entry[int(last) if isinstance(entry, list) else last]
    else:
        entry[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("annotations/0", "delete", "image id 2 has no annotation"),
        ("categories/0/isthing", "delete", "an entry has no isthing"),
        ("categories", [], 'no list "categories"'),
        ("images/0/id", "9", "id '9' is not an integer"),
        ("annotations/0/image_id", 4, "annotation of image id 4: no such image"),
        ("annotations/1/segments_info/0/category_id", 3, "image id 9: segment 5: label 3 .* is not among"),
        ("annotations/1/segments_info", 3, "image id 9: segments_info is no list of objects"),
        ("annotations/1/segments_info/0/area", "large", "segment 5: area 'large' is not a number"),
        ("annotations/1/segments_info/0/area", float("inf"), "segment 5: area inf is not a number"),
        ("annotations/1/segments_info/0/iscrowd", -float("inf"), "segment 5: iscrowd -inf is not 0 or 1"),
        ("annotations/1/segments_info/0/id", 10**40, "its id is no integer from 1 to 16777215"),
        ("annotations/1/segments_info/1/id", 5, "segment 5: the id is listed twice, with category_id 18 and 18"),
        ("annotations/1/segments_info/0/category_id", [18], "label .18. .category_id. is not among"),
        ("images/0/file_name", {"a": 1}, "image id 9: file_name {'a': 1} is not text"),
        ("images/0/file_name", "000000000002.jpeg", "file_name '000000000002.jpeg' is also that of image id 9"),
        ("images/0/id", 2, "images: id 2 is listed twice"),
        ("categories/0/id", 2_905_422, "category id 2905422: a model has a class for every number .* renumber them"),
        ("categories/0/isthing", "no", "category id 119: isthing 'no' is not 0 or 1"),
        ("annotations/1/file_name", 3, "file_name 3 is not text"),
    ],
)
def test_broken_files_are_one_line(data: dict, folder: Callable, path: str, value: Any, reason: str) -> None:
    with pytest.raises(DatasetError, match=f"panoptic_val2017.json: .*{reason}") as caught:
        build(folder(broken(data, path, value)))
    assert "\n" not in str(caught.value)


def test_images_and_pngs_that_do_not_belong_together(data: dict, folder: Callable) -> None:
    root = folder(data)
    dataset = build(root)
    Image.new("RGB", (3, 3)).save(root / "val2017" / "000000000009.jpg")
    with pytest.raises(ImageError, match="000000000009.png: its size 8 x 6 is not that of .* image id 9, 3 x 3"):
        dataset.load(1)
    (root / "annotations" / "panoptic_val2017" / "000000000002.png").unlink()
    with pytest.raises(ImageError, match="000000000002.png: cannot read the segments of image id 2 .no such file"):
        dataset.load(0)


def test_labels_beyond_the_classes_and_folders_that_are_not_there(data: dict, folder: Callable, tmp_path: Path) -> None:
    root = folder(data)
    with pytest.raises(DatasetError, match="category id 119 is outside 0..99; --num_classes must be at least 120"):
        build(root, num_classes=100)
    (root / "val2017").rename(root / "elsewhere")
    with pytest.raises(DatasetError, match="val2017: no such image folder"):
        build(root)


def test_two_rows_of_an_image_are_joined_where_their_segments_differ(data: dict, folder: Callable) -> None:
    row = data["annotations"][1]
    data["annotations"].append(row | {"segments_info": row["segments_info"][2:]})
    row["segments_info"] = row["segments_info"][:2]
    dataset = build(folder(data))
    assert dataset.object_counts().tolist() == [1, 4] and len(dataset.load(1)[1]["labels"]) == 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "image id 9 has two annotations that both list segment 5"),
        ({"file_name": "other.png"}, "has two annotations with the PNGs '000000000009.png' and 'other.png'"),
    ],
)
def test_two_rows_of_an_image_that_contradict_are_refused(
    data: dict, folder: Callable, changes: dict, reason: str
) -> None:
    data["annotations"].append(data["annotations"][1] | changes)
    with pytest.raises(DatasetError, match=reason):
        build(folder(data))
