"""LabelMe: shapes by hand, groups, images found and turned, and what is wrong named by its file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datasets.coco import CocoDetection
from datasets.convert import __main__ as convert
from datasets.convert.labelme import read_labelme
from datasets.layout import find_layout
from tests.datasets.fault_folder import exif
from util.errors import DatasetError

SETS = {"train": "train", "val": "val"}
SQUARE = [[10, 5], [30, 5], [30, 25], [10, 25]]


def shape(points: Any, label: Any = "cup", kind: str | None = "polygon", **fields: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}} | fields


def write(folder: Path, shapes: list[Any], orientation: int = 1, name: str = "a", **fields: Any) -> Path:
    """An image of 100 x 50 and its JSON file."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 50)).save(folder / f"{name}.png", exif=exif(orientation))
    data = {"version": "5.4.1", "imagePath": f"{name}.png", "imageData": None, "shapes": shapes}
    (folder / f"{name}.json").write_text(json.dumps(data | fields))
    return folder


def corners(root: Path) -> list[list[float]]:
    """The corners of each object of the first training image."""
    objects = read_labelme(root, sets=SETS).splits["train"][0].objects
    return [[*o.points.min(0).round(3).tolist(), *o.points.max(0).round(3).tolist()] for o in objects]


@pytest.mark.parametrize(
    ("points", "kind", "expected"),
    [
        (SQUARE, "polygon", [10, 5, 30, 25]),
        (SQUARE, None, [10, 5, 30, 25]),
        ([[30, 25], [10, 5]], "rectangle", [10, 5, 30, 25]),
        ([[20, 20], [23, 24]], "circle", [15, 15, 25, 25]),
        ([[10, 5], [29, 24]], "mask", [10, 5, 30, 25]),
        ([[20, 5], [30, 15], [20, 25], [10, 15]], "oriented_rectangle", [10, 5, 30, 25]),
    ],
)
def test_shapes(tmp_path: Path, points: list, kind: str | None, expected: list[float]) -> None:
    assert corners(write(tmp_path, [shape(points, kind=kind)])) == [pytest.approx(expected)]


def test_a_whole_folder_as_it_is_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [
        shape([[40, 5], [60, 5], [60, 25]], group_id=3),
        shape([[70, 5], [80, 25]], "cup", "rectangle", group_id=3),
    ]
    write(tmp_path / "mine" / "train", [shape(SQUARE, "dish"), *parts, shape([[1, 1]], kind="point")])
    write(tmp_path / "mine" / "val", [])
    Image.new("RGB", (9, 9)).save(tmp_path / "mine" / "val" / "unlabelled.png")
    with pytest.raises(DatasetError, match="datasets.convert labelme"):
        find_layout("custom", tmp_path / "mine")
    assert convert.cli(["labelme", str(tmp_path / "mine"), str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "1 shapes of type point: left out" in said and "1 images without a JSON file are left out" in said
    split = find_layout("coco", tmp_path / "out").split("train")
    dataset = CocoDetection(split.images, split.annotations, return_masks=True)
    _, target = dataset.load(0)
    assert target["labels"].tolist() == [2, 1] and target["boxes"].tolist() == [[10, 5, 30, 25], [40, 5, 80, 25]]
    mask = target["masks"][1]
    assert mask[10, 55] and mask[10, 75] and not mask[10, 65]  # both parts of the group, nothing between them


@pytest.mark.parametrize(
    ("said", "expected"), [({}, [5, 20, 25, 40]), ({"imageWidth": 100, "imageHeight": 50}, [10, 5, 30, 25])]
)
def test_shapes_on_a_turned_image_are_turned_back(tmp_path: Path, said: dict, expected: list[float]) -> None:
    assert corners(write(tmp_path, [shape(SQUARE)], orientation=6, **said)) == [pytest.approx(expected)]


def test_images_are_found_by_windows_names_and_beside(tmp_path: Path) -> None:
    for name in ("..\\train\\a.png", "gone.png", None):
        read = read_labelme(write(tmp_path / "train", [shape(SQUARE)], imagePath=name).parent, sets=SETS)
        assert read.splits["train"][0].name == "a.png" and "no images for val" in read.notes[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (shape(SQUARE, label=""), "a.json: shape 0: has no label"),
        (shape(SQUARE[:2]), "a polygon without an area"),
        (shape([[1, None]]), "no list of pairs"),
        (shape(SQUARE, kind="cuboid"), "shape_type 'cuboid' is not known"),
        (7, "has no label"),
    ],
)
def test_a_bad_shape_is_named(tmp_path: Path, wrong: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_labelme(write(tmp_path, [wrong]), sets=SETS)


def test_other_mistakes(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder train with LabelMe's JSON files"):
        read_labelme(tmp_path, sets=SETS)
    write(tmp_path, [shape(SQUARE)])
    with pytest.raises(DatasetError, match="'cup' is not among the given classes"):
        read_labelme(tmp_path, sets=SETS, classes=["dish"])
    (tmp_path / "b.json").write_text((tmp_path / "a.json").read_text())
    with pytest.raises(DatasetError, match=r"b.json: its image is called a.png, as that of another"):
        read_labelme(tmp_path, sets=SETS)
    (tmp_path / "b.json").write_text('{"images": []}')
    with pytest.raises(DatasetError, match="b.json: not a file of LabelMe"):
        read_labelme(tmp_path, sets=SETS)
    (tmp_path / "b.json").unlink()
    (tmp_path / "a.png").unlink()
    with pytest.raises(DatasetError, match="a.json: its image 'a.png' is not there"):
        read_labelme(tmp_path, sets=SETS)


def test_another_size_in_the_file_is_noted(tmp_path: Path) -> None:
    folder = read_labelme(write(tmp_path, [shape(SQUARE)], imageWidth=200, imageHeight=100), sets=SETS)
    assert any("another size than their JSON file says" in note for note in folder.notes)
    assert np.array_equal(folder.splits["train"][0].objects[0].points, SQUARE)
