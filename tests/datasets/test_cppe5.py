"""CPPE-5: the known faults of its files, made here in small, load as they should."""

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import build_dataset


@pytest.fixture
def cppe5_folder(tmp_path: Path) -> Path:
    """A picture whose size in the annotations is turned, with a box over its edge; and an RGBA one with a prefixed name."""
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    Image.new("L", (60, 40), 9).save(tmp_path / "images" / "1.jpg")
    Image.fromarray(np.full((20, 30, 4), 200, dtype=np.uint8)).save(tmp_path / "images" / "2.png")
    images = [
        {"id": 1, "file_name": "1.jpg", "width": 40, "height": 60},
        {"id": 2, "file_name": "/content/data/images/2.png", "width": 30, "height": 20},
    ]
    objects = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [30, 10, 25, 10], "area": 250, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 5, "bbox": [20, 10, 15, 5], "area": 75, "iscrowd": 0},
    ]
    names = ("Coverall", "Face_Shield", "Gloves", "Goggles", "Mask")
    categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    for split in ("train", "test"):
        (tmp_path / "annotations" / f"{split}.json").write_text(
            json.dumps({"images": images, "annotations": objects, "categories": categories})
        )
    return tmp_path


def test_the_known_faults_load(cppe5_folder: Path) -> None:
    dataset = build_dataset("val", Namespace(dataset_file="cppe5", data_path=cppe5_folder, masks=False))
    assert dataset.num_classes == 6 and dataset.class_names[5] == "Mask"
    image, target = dataset.load(0)
    assert image.mode == "RGB" and target["orig_size"].tolist() == [40, 60]
    assert target["boxes"].tolist() == [[30, 10, 55, 20]]  # beyond the width of the annotations, within the picture
    image, target = dataset.load(1)
    assert image.mode == "RGB" and image.getpixel((0, 0)) == (200, 200, 200)
    assert target["boxes"].tolist() == [[20, 10, 30, 15]]
