"""Image files are found by the names and rules of each dataset: HGP by name and id, CPPE-5 with its known faults."""

import json
from argparse import Namespace
from pathlib import Path

import pytest
from PIL import Image

from datasets import build_dataset
from datasets.image_files import image_finder
from datasets.layout import DatasetSplits
from util.errors import ImageError

CATEGORIES = [{"id": i, "name": name, "supercategory": name} for i, name in enumerate(("phone", "gun", "hand"))]


@pytest.fixture
def hgp_folder(tmp_path: Path) -> Path:
    """Images with the ids 0, 3 and 5, each of a size of its own; names without the prefix, as in the real files."""
    root = tmp_path / "HGP" / "images"
    (root / "annotations").mkdir(parents=True)
    for split, prefix in (("train2017", "T"), ("val2017", "V")):
        (root / split).mkdir()
        images = [
            {"id": i, "file_name": f"{i:08d}.png", "width": 20 + i, "height": 30, "license": 0} for i in (5, 0, 3)
        ]
        objects = [
            {
                "id": i + 1,
                "image_id": i,
                "category_id": i % 3,
                "bbox": [1.5, 2.5, 10, 12 + i],
                "area": 120.1,
                "iscrowd": 0,
            }
            for i in (0, 3, 5)
        ]
        for image in images:
            Image.new("RGB", (image["width"], 30)).save(root / split / f"{prefix}{image['id']:08d}.png")
        data = {"images": images, "annotations": objects, "categories": CATEGORIES}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(data))
    return tmp_path / "HGP"


@pytest.mark.parametrize("dataset_file", ["hgp", "custom"])
def test_images_by_id_never_by_position(hgp_folder: Path, dataset_file: str) -> None:
    args = Namespace(dataset_file=dataset_file, data_path=str(hgp_folder), masks=False)
    for split, prefix in (("train", "T"), ("val", "V")):
        dataset = build_dataset(split, args)
        assert dataset.class_names == {0: "phone", 1: "gun", 2: "hand"} and dataset.num_classes == 3
        for index, image_id in enumerate((0, 3, 5)):
            image, target = dataset.load(index)
            assert target["image_id"].tolist() == [image_id] and image.width == 20 + image_id
            assert dataset.image_path(index).name == f"{prefix}{image_id:08d}.png"
            assert target["labels"].tolist() == [image_id % 3]


def test_file_name_comes_first(hgp_folder: Path) -> None:
    folder = hgp_folder / "images" / "train2017"
    (folder / "00000003.png").touch()
    found = DatasetSplits("HGP", None, {})
    assert image_finder("hgp", found, "train")(folder, "00000003.png", 3) == folder / "00000003.png"
    found = DatasetSplits("HGP", None, {})
    assert image_finder("hgp", found, "train")(folder, "00000005.png", 5) == folder / "T00000005.png"
    assert image_finder("hgp", found, "test")(folder, "x.png", 5) == folder / "T00000005.png"


def test_a_missing_image_is_named_as_it_should_be(hgp_folder: Path) -> None:
    (hgp_folder / "images" / "val2017" / "V00000003.png").unlink()
    dataset = build_dataset("val", Namespace(dataset_file="hgp", data_path=hgp_folder, masks=False))
    with pytest.raises(ImageError, match="V00000003.png: cannot read the image with image id 3 .*no such file"):
        dataset.load(1)


def test_the_known_faults_of_cppe5_load(cppe5_folder: Path) -> None:
    dataset = build_dataset("val", Namespace(dataset_file="cppe5", data_path=cppe5_folder, masks=False))
    assert dataset.num_classes == 6 and dataset.class_names[5] == "Mask"
    image, target = dataset.load(0)
    assert image.mode == "RGB" and target["orig_size"].tolist() == [40, 60]
    assert target["boxes"].tolist() == [[30, 10, 55, 20]]  # beyond the width of the annotations, within the image
    image, target = dataset.load(1)
    assert image.mode == "RGB" and image.getpixel((0, 0)) == (200, 200, 200)
    assert target["boxes"].tolist() == [[20, 10, 30, 15]]
