"""EXIF's orientation: an image is turned where the annotations list the turned size, and nothing else is changed."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from datasets.annotations.findings import Action
from datasets.check.split import check_split
from datasets.coco import CocoDetection
from datasets.image_files import by_file_name
from datasets.layout import Split
from tests.datasets.fault_folder import exif

#: The object in the upright image of 60 x 40.
BOX = (10, 5, 20, 8)


def write(folder: Path, orientation: int, size: tuple[int, int]) -> Split:
    """An image that EXIF turns to 60 x 40 with a bright object at BOX, and its box and mask with `size` listed."""
    x, y, w, h = BOX
    upright = Image.new("RGB", (60, 40))
    upright.paste((255, 255, 255), (x, y, x + w, y + h))
    stored = next(
        turned
        for way in Image.Transpose
        if turns_back(turned := upright.transpose(way), orientation, upright) or orientation == 1
    )
    (upright if orientation == 1 else stored).save(folder / "a.png", exif=exif(orientation))
    polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
    thing = {"id": 1, "image_id": 1, "category_id": 1, "bbox": BOX, "area": w * h, "iscrowd": 0}
    image = {"id": 1, "file_name": "a.png", "width": size[0], "height": size[1]}
    data = {"images": [image], "annotations": [thing | {"segmentation": [polygon]}]}
    (folder / "a.json").write_text(json.dumps(data | {"categories": [{"id": 1, "name": "thing"}]}))
    return Split(folder, folder / "a.json")


def turns_back(stored: Image.Image, orientation: int, upright: Image.Image) -> bool:
    stored.getexif()[0x0112] = orientation
    turned = ImageOps.exif_transpose(stored)
    return turned.size == upright.size and np.array_equal(np.asarray(turned), np.asarray(upright))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_where_the_turned_size_is_listed_boxes_masks_and_truth_are_those_of_the_turned_image(
    tmp_path: Path, orientation: int
) -> None:
    split = write(tmp_path, orientation, (60, 40))
    dataset = CocoDetection(split.images, split.annotations, return_masks=True)
    image, target = dataset.load(0)
    bright = np.asarray(image)[..., 0] > 127  # (H, W)
    assert image.size == (60, 40) and target["orig_size"].tolist() == [40, 60]
    assert np.array_equal(target["masks"][0].numpy(), bright) and bright.sum() == 160
    assert target["boxes"].tolist() == [[10, 5, 30, 13]] and dataset.coco.imgs[1]["height"] == 40
    assert not len(dataset.findings) and dataset.aspect_ratios().tolist() == [1.5]
    checked = check_split("train", split, by_file_name, 9, None, True)
    (found,) = [f for f in checked.report.findings if "EXIF" in f.kind]
    assert found.action is Action.KEPT and "they are turned" in found.remedy and checked.facts[0].size == (40, 60)


@pytest.mark.parametrize(("orientation", "size"), [(6, (40, 60)), (6, (99, 99)), (3, (60, 40))])
def test_in_any_other_case_it_is_ignored_as_in_detr(tmp_path: Path, orientation: int, size: tuple[int, int]) -> None:
    split = write(tmp_path, orientation, size)
    image, _ = CocoDetection(split.images, split.annotations).load(0)
    assert image.size == ((40, 60) if orientation == 6 else (60, 40)) == Image.open(tmp_path / "a.png").size
