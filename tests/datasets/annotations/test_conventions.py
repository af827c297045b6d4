"""Boxes in another convention than COCO's are found by polygons or by edges, and converted where that is asked for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.annotations import read_annotations
from datasets.annotations.findings import Action, Findings

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
