"""Darknet's obj.data, obj.names and lists of images, as CVAT and Darknet's own tutorials arrange them."""

from pathlib import Path

import pytest
from PIL import Image

from datasets.convert.yolo import read_yolo
from util.errors import DatasetError

SETS = {"train": "train", "val": "val"}


def write(root: Path, files: dict[str, str], images: tuple[str, ...]) -> Path:
    """Text files, and images of 100 x 50, each with one label beside it."""
    for name in images:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 50)).save(root / name)
        (root / name).with_suffix(".txt").write_text("1 0.5 0.5 0.2 0.4\n")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


CVAT = {
    "obj.data": "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
    "obj.names": "cat\ndog\n\n",
    "train.txt": "data/obj_train_data/a.jpg\n",
}
TUTORIAL = {
    "data/coins.data": "classes= 2\ntrain  = data/train.txt\nvalid  = data/test.txt\nnames = data/coins.names\n",
    "data/coins.names": "cat\ndog",
    "data/train.txt": "data/obj/a.jpg\n",
    "data/test.txt": "D:\\darknet\\data\\obj\\b.jpg\r\n",
}


@pytest.mark.parametrize(
    ("files", "images", "inside", "expected"),
    [
        (CVAT, ("obj_train_data/a.jpg",), "", {"train": 1}),
        (TUTORIAL, ("data/obj/a.jpg", "data/obj/b.jpg"), "", {"train": 1, "val": 1}),
        (TUTORIAL, ("data/obj/a.jpg", "data/obj/b.jpg"), "data", {"train": 1, "val": 1}),
        ({k: v for k, v in CVAT.items() if k != "obj.data"}, ("obj_train_data/a.jpg",), "", {"train": 1}),
    ],
)
def test_sets_and_names(tmp_path: Path, files: dict, images: tuple, inside: str, expected: dict) -> None:
    folder = read_yolo(write(tmp_path, files, images) / inside, sets=SETS)
    assert folder.classes == {0: "cat", 1: "dog"}
    assert {split: len(found) for split, found in folder.splits.items()} == expected
    for found in folder.splits.values():
        (thing,) = found[0].objects
        assert thing.label == 1 and thing.points.round(6).tolist() == [[40, 15], [60, 35]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"obj.data": "classes = 3\nnames = obj.names"}, "classes is 3, but .*obj.names has 2 names"),
        ({"obj.names": "cat\n\ndog"}, "obj.names: holds no names, or an empty line"),
        ({"obj.data": "names = data/gone.names"}, "gone.names: cannot be read"),
        ({"train.txt": "data/obj_train_data/z.jpg"}, "train.txt:1: no image data/obj_train_data/z.jpg"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_yolo(write(tmp_path, CVAT | changes, ("obj_train_data/a.jpg",)), sets=SETS)
