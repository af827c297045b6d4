"""CPPE-5: the known faults of its files, made here in small, load as they should."""

from argparse import Namespace
from pathlib import Path

from datasets import build_dataset


def test_the_known_faults_load(cppe5_folder: Path) -> None:
    dataset = build_dataset("val", Namespace(dataset_file="cppe5", data_path=cppe5_folder, masks=False))
    assert dataset.num_classes == 6 and dataset.class_names[5] == "Mask"
    image, target = dataset.load(0)
    assert image.mode == "RGB" and target["orig_size"].tolist() == [40, 60]
    assert target["boxes"].tolist() == [[30, 10, 55, 20]]  # beyond the width of the annotations, within the image
    image, target = dataset.load(1)
    assert image.mode == "RGB" and image.getpixel((0, 0)) == (200, 200, 200)
    assert target["boxes"].tolist() == [[20, 10, 30, 15]]
