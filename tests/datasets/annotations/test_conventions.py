"""Boxes in another convention than COCO's are found by polygons or by edges, and converted where that is asked for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datasets.annotations import read_annotations
from datasets.annotations.findings import Action, Findings
from datasets.check.outputs import write_repaired
from datasets.check.split import check_split
from datasets.image_files import by_file_name
from datasets.layout import Split

OTHER = "boxes in another convention than [x, y, width, height] in pixels"
BOXES = [[10 + 3 * k, 10 + 2 * k, 25 + k, 14 + k] for k in range(12)]
WRITERS: dict[str, Callable[[float, float, float, float], list[float]]] = {
    "corners [x1, y1, x2, y2]": lambda x, y, w, h: [x, y, x + w, y + h],
    "a centre [cx, cy, width, height]": lambda x, y, w, h: [x + w / 2, y + h / 2, w, h],
    "rows first [y, x, height, width]": lambda x, y, w, h: [y, x, h, w],
    "fractions of the image": lambda x, y, w, h: [x / 90, y / 60, w / 90, h / 60],
    "fractions of the image, a centre": lambda x, y, w, h: [(x + w / 2) / 90, (y + h / 2) / 60, w / 90, h / 60],
}


def read(folder: Path, boxes: list[list[float]], *, polygons: bool = True, **asked: Any) -> tuple[list, Findings]:
    """The boxes that are read of one image of 90 x 60 whose objects are really at BOXES, and what is found."""
    square = lambda x, y, w, h: [[x, y, x + w, y, x + w, y + h, x, y + h]]
    objects = [
        {"id": k, "image_id": 1, "category_id": 1, "bbox": box, "area": 9, "iscrowd": 0}
        | ({"segmentation": square(*real)} if polygons else {})
        for k, (box, real) in enumerate(zip(boxes, BOXES), start=1)
    ]
    image = {"id": 1, "file_name": "1.png", "width": 90, "height": 60}
    data = {"images": [image], "annotations": objects, "categories": [{"id": 1, "name": "cup"}]}
    (folder / "some.json").write_text(json.dumps(data))
    findings = Findings()
    annotations = read_annotations(folder / "some.json", findings=findings, **asked)
    return annotations.boxes_of(0)[0].tolist(), findings


def test_coco_boxes_are_as_they_should_be(tmp_path: Path) -> None:
    for polygons in (True, False):
        boxes, findings = read(tmp_path, BOXES, polygons=polygons)
        assert boxes == BOXES and not len(findings)


@pytest.mark.parametrize("name", WRITERS)
def test_polygons_show_the_convention_and_fixing_converts(tmp_path: Path, name: str) -> None:
    written = [WRITERS[name](*box) for box in BOXES]
    _, findings = read(tmp_path, written)
    assert findings[OTHER].action is Action.REFUSED and findings[OTHER].count == 12
    assert name in findings[OTHER].example or "above 1" in findings[OTHER].example
    boxes, _ = read(tmp_path, written, fixing=True)
    np.testing.assert_allclose(boxes, BOXES)


def test_edges_show_corners_where_there_are_no_polygons(tmp_path: Path) -> None:
    written = [WRITERS["corners [x1, y1, x2, y2]"](*box) for box in BOXES]
    _, findings = read(tmp_path, written, polygons=False)
    assert "only as corners [x1, y1, x2, y2] all 12 boxes lie inside" in findings[OTHER].example
    assert read(tmp_path, written, polygons=False, fixing=True)[0] == BOXES


def test_a_few_odd_boxes_are_counted_and_kept(tmp_path: Path) -> None:
    boxes, findings = read(tmp_path, [[1, 1, 5, 5], [40, 40, 0.5, 9], *BOXES[2:]])
    assert OTHER not in findings and len(boxes) == 12
    assert findings["boxes that disagree with their polygon or mask"].count == 2
    assert findings["boxes with a side below a pixel"].count == 1


def test_equal_objects_are_counted_and_fixing_keeps_one(tmp_path: Path) -> None:
    boxes, findings = read(tmp_path, [*BOXES[:6], *BOXES[:6]], polygons=False)
    assert len(boxes) == 12 and findings["objects with the box and the label of another"].count == 6
    assert read(tmp_path, [*BOXES[:6], *BOXES[:6]], polygons=False, fixing=True)[0] == BOXES[:6]


@pytest.mark.parametrize("where", [{"attributes": {"rotation": 35.0}}, {"rotation": -3}])
def test_rotations_are_counted(tmp_path: Path, where: dict[str, Any]) -> None:
    read(tmp_path, BOXES)
    data = json.loads((tmp_path / "some.json").read_text())
    data["annotations"][0] |= where
    data["annotations"][1]["attributes"] = {"occluded": False, "rotation": 0.0}
    (tmp_path / "some.json").write_text(json.dumps(data))
    findings = Findings()
    read_annotations(tmp_path / "some.json", findings=findings)
    assert findings["boxes with a rotation"].count == 1


def write(folder: Path, *objects: dict[str, Any]) -> Path:
    """A file with one image of 90 x 60, which is there, and these objects."""
    Image.new("RGB", (90, 60)).save(folder / "1.png")
    base = {"image_id": 1, "category_id": 1, "iscrowd": 0}
    data = {
        "images": [{"id": 1, "file_name": "1.png", "width": 90, "height": 60}],
        "annotations": [{"id": k, **base, **thing} for k, thing in enumerate(objects, start=1)],
        "categories": [{"id": 1, "name": "cup"}],
    }
    (folder / "some.json").write_text(json.dumps(data))
    return folder / "some.json"


TURNED = {"bbox": [30, 20, 20, 10], "area": 200, "segmentation": []}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"attributes": {"rotation": 90.0}}, [35, 15, 10, 20]),
        ({"attributes": {"rotation": 330}}, [28.839746, 15.669873, 22.320508, 18.660254]),
        ({"attributes": {"rotation": 0.0}}, [30, 20, 20, 10]),
        ({"rotation": 90}, [30, 20, 20, 10]),  # about which point is not known
        ({"rotation": 90, "segmentation": [[30, 20, 30, 40, 20, 40, 20, 20]]}, [20, 20, 10, 20]),
    ],
)
def test_fixing_takes_the_box_around_a_turned_one(tmp_path: Path, where: dict, expected: list[float]) -> None:
    file = write(tmp_path, TURNED | where)
    for fixing, box in ((False, TURNED["bbox"]), (True, expected)):
        np.testing.assert_allclose(read_annotations(file, fixing=fixing).boxes_of(0)[0], [box], rtol=1e-6)


@pytest.mark.parametrize("boxes", ["fractions", "pixels", "absent"])
def test_polygons_in_fractions_are_refused_and_fixed(tmp_path: Path, boxes: str) -> None:
    width, height = 90, 60
    objects = []
    for x, y, w, h in BOXES[:5]:
        points = [x, y, x + w, y, x + w, y + h, x, y + h]
        polygon = [value / (height if k % 2 else width) for k, value in enumerate(points)]
        box = {"fractions": [x / width, y / height, w / width, h / height], "pixels": [x, y, w, h]}.get(boxes)
        objects.append({"segmentation": [polygon], "area": w * h / width / height} | ({"bbox": box} if box else {}))
    file = write(tmp_path, *objects)
    checked = check_split("train", Split(tmp_path, file), by_file_name, 100, None, True)
    (found,) = [f for f in checked.report.findings if f.kind == "polygons in fractions of the image"]
    assert found.action is Action.REFUSED and found.count == 5
    write_repaired([checked], tmp_path / "fixed.json")
    fixed = json.loads((tmp_path / "fixed.json").read_text())
    for thing, box in zip(fixed["annotations"], BOXES):
        np.testing.assert_allclose(thing["bbox"], box)
        assert thing["area"] == pytest.approx(box[2] * box[3], rel=0.1)
    again = check_split("train", Split(tmp_path, tmp_path / "fixed.json"), by_file_name, 100, None, True)
    assert again.report.findings.worst() is not Action.REFUSED and again.report.error is None


def test_polygons_in_the_first_pixel_of_a_usual_file_are_kept(tmp_path: Path) -> None:
    tiny = {"bbox": [0, 0, 1, 1], "segmentation": [[0, 0, 1, 0, 1, 1]], "area": 0.5}
    usual = {"bbox": [1, 1, 8, 8], "segmentation": [[1, 1, 9, 1, 9, 9]], "area": 32}
    findings = Findings()
    read_annotations(write(tmp_path, tiny, tiny | {"id": 7}, usual), findings=findings)
    assert "polygons in fractions of the image" not in findings


def test_boxes_of_zeros_are_no_fractions(tmp_path: Path) -> None:
    _, findings = read(tmp_path, [[0, 0, 0, 0]] * 12, polygons=False)
    assert OTHER not in findings and findings["boxes without width or height"].count == 12
