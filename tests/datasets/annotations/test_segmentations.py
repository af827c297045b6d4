"""Polygons and run lengths of files: read, refused where masks are needed, and turned into boxes and areas."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pycocotools import mask as rle_tools

from datasets.annotations import read_annotations
from datasets.annotations.findings import Action, Findings
from tests.datasets.annotations.edits import refusal

#: Segmentations of annotation 1 that cannot be read, in an image of 60 x 40.
BAD_MASKS = [
    3,
    "polygon",
    {},
    [["a"] * 6],
    [3, [4]],
    {"counts": [2400]},
    {"size": [0, 0], "counts": []},
    {"size": [40, 60], "counts": [2399]},
    {"size": [40, 60], "counts": [-1, 2401]},
    {"size": [40, 60], "counts": "no runs"},
    {"size": [40, 60], "counts": "o"},
    {"size": [40, 60], "counts": ""},
    {"size": [40, 60], "counts": "\u00e9"},
]


@pytest.mark.parametrize("segmentation", BAD_MASKS)
def test_bad_segmentation_is_refused_where_masks_are_needed(
    write: Callable[[Any], Path], sound: dict[str, Any], segmentation: Any
) -> None:
    sound["annotations"][0]["segmentation"] = segmentation
    findings = Findings()
    path = write(sound)
    annotations = read_annotations(path, findings=findings)
    assert "segmentation" not in annotations.objects_of(0)[0] and "segmentation" in annotations.objects_of(0)[1]
    assert findings["segmentations that cannot be read"].action is Action.REPAIRED
    assert "annotation id 1: segmentation" in refusal(path, need_masks=True)


def test_masks_need_segmentations_and_image_sizes(write: Callable[[Any], Path], sound: dict[str, Any]) -> None:
    del sound["annotations"][0]["segmentation"], sound["images"][0]["width"]
    path = write(sound)
    assert read_annotations(path).object_counts().sum() == 3
    assert "image id 6: [height, width] [40, None] (--masks needs them)" in refusal(path, need_masks=True)
    sound["images"][0]["width"] = 60
    assert "annotation id 1: segmentation None (--masks needs it)" in refusal(write(sound), need_masks=True)
    for annotation in sound["annotations"]:
        annotation["segmentation"] = []
    assert "(--masks needs masks to train on)" in refusal(write(sound), need_masks=True)


def test_a_crowd_without_mask_takes_its_box(write: Callable[[Any], Path], sound: dict[str, Any]) -> None:
    sound["annotations"][0] |= {"segmentation": None, "iscrowd": 1}
    crowd = read_annotations(write(sound), need_masks=True).objects_of(0)[0]
    assert crowd["segmentation"] == [[10, 10, 30, 10, 30, 20, 10, 20]]


def test_run_lengths_plain_and_compressed(write: Callable[[Any], Path], sound: dict[str, Any]) -> None:
    plain = {"size": [40, 60], "counts": [410, 10, 1980]}
    compressed = {"size": [40, 60], "counts": rle_tools.frPyObjects(plain, 40, 60)["counts"].decode()}
    for annotation, mask in zip(sound["annotations"], (plain, compressed, {**compressed, "size": ["40", 60.0]})):
        annotation |= {"segmentation": mask, "iscrowd": int(mask is plain)}
    annotations = read_annotations(write(sound), need_masks=True)
    masks = [a["segmentation"] for index in range(2) for a in annotations.objects_of(index)]
    assert masks == [compressed] * 3


def test_empty_polygons_become_an_empty_mask(write: Callable[[Any], Path], tiny_annotations: dict[str, Any]) -> None:
    tiny_annotations["annotations"][0]["segmentation"] = [[1, 1, 5, 5]]  # two points: pycocotools would see a box
    coco = read_annotations(write(tiny_annotations)).to_coco()
    for number in (1, 5):
        assert rle_tools.area(coco.annToRLE(coco.anns[number])) == 0


def test_a_box_missing_beside_run_lengths_is_the_one_around_them(
    write: Callable[[Any], Path], sound: dict[str, Any]
) -> None:
    # Columns 10 to 29, rows 10 to 19 of an image of 40 rows.
    runs = {"size": [40, 60], "counts": [410, *[10, 30] * 19, 10, 1220]}
    sound["annotations"][0].update(bbox=None, segmentation=runs)
    assert read_annotations(write(sound)).boxes_of(0)[0][0].tolist() == [10, 10, 20, 10]


@pytest.mark.parametrize("area", [None, 0, -3])
def test_an_area_that_is_none_is_that_of_the_mask_or_else_of_the_box(
    write: Callable[[Any], Path], sound: dict[str, Any], area: float | None
) -> None:
    triangle = [[10, 10, 30, 10, 10, 20]]
    sound["annotations"][0].update(area=area, segmentation=triangle)
    sound["annotations"][2].update(area=area, segmentation=[])
    areas = [annotation["area"] for annotation in read_annotations(write(sound)).objects_of(0)]
    assert areas[0] == rle_tools.area(rle_tools.frPyObjects(triangle, 40, 60)).sum() and areas[1] == 7.25 * 9
