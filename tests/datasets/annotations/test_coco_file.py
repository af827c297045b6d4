"""Repairs on reading an annotation file, entries that stay as they are, and the findings about both."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets.annotations import describe_repairs, read_annotations, repair_file
from datasets.annotations.findings import Action, Findings
from tests.datasets.annotations.edits import Edit, add, change, lose, refusal

NAN, INFINITE = float("nan"), float("inf")


def test_a_sound_file_has_no_findings(write: Callable[[Any], Path], sound: dict[str, Any]) -> None:
    findings = Findings()
    annotations = read_annotations(
        write(sound), findings=findings, strict=True, need_masks=True, num_classes=3, num_queries=2
    )
    assert len(findings) == 0 and describe_repairs("instances.json", findings) is None
    assert annotations.objects_of(0) == [sound["annotations"][0], sound["annotations"][2]]
    assert annotations.class_names == {1: "class 1", 2: "class 2"}


#: Edits that are undone on reading, with the kind of the finding and a part of its example.
REPAIRED: dict[str, tuple[Edit, str, str]] = {
    "text label": (change("annotations", 0, category_id="2"), "text or a decimal where an integer", "category_id '2'"),
    "decimal label": (change("annotations", 0, category_id=2.0), "text or a decimal where an", "category_id 2.0"),
    "text image": (change("annotations", 0, image_id=" 5"), "text or a decimal where an integer", "image_id ' 5'"),
    "text id": (change("annotations", 0, id="1"), "text or a decimal where an integer", "annotation id '1': id '1'"),
    "text image id": (change("images", 1, id="5"), "text or a decimal where an integer", "image id '5'"),
    "text category id": (change("categories", 1, id="2"), "text or a decimal where an integer", "category id '2'"),
    "text size": (change("images", 1, height="40"), "text or a decimal where an integer", "[height, width] ['40', 60]"),
    "box as text": (change("annotations", 0, bbox=["10", 10, "2e1", 10]), "boxes with numbers as", "bbox ['10', 10, "),
    "true as crowd": (change("annotations", 0, iscrowd=False), "iscrowd that is not an integer", "iscrowd False"),
    "no crowd": (lose("annotations", 0, "iscrowd"), "annotations without iscrowd", "annotation id 1: iscrowd None"),
    "no area": (lose("annotations", 0, "area"), "annotations without area", "annotation id 1: area None"),
    "NaN area": (change("annotations", 0, area=NAN), "areas that are no positive number", "area nan"),
    "words as area": (change("annotations", 0, area="big"), "areas that are no positive number", "area 'big'"),
    "text area": (change("annotations", 0, area="200"), "areas as text", "area '200'"),
    "no id": (lose("annotations", 2, "id"), "annotations without an id", "annotation id None: id None"),
    "a flat polygon": (
        change("annotations", 0, segmentation=[10, 10, 30, 10, 30, 20, 10, 20]),
        "polygons without the",
        "id 1: seg",
    ),
    "an empty polygon more": (lambda d: d["annotations"][0]["segmentation"].append([]), "polygons without th", "id 1"),
    "an endless polygon": (
        lambda d: d["annotations"][0]["segmentation"].append([NAN] * 6),
        "polygons with a point too many",
        "id 1: seg",
    ),
    "half a point": (lambda d: d["annotations"][0]["segmentation"].append([1] * 7), "polygons with a point", "id 1"),
    "text polygon": (
        lambda d: d["annotations"][0].update(segmentation=[["10", 10, 30, 10, 30, 20, 10, 20]]),
        "polygons with n",
        "1",
    ),
    "an image twice": (add("images", 0), "image ids listed twice for one file", "image id 6: file_name '6.png'"),
    "a category twice": (add("categories", 0), "categories listed twice", "category id 1"),
    "an annotation twice": (add("annotations", 0), "annotations listed twice", "annotation id 1: id 1"),
    "nothing in a box": (
        add("annotations", 0, id=4, bbox=[], segmentation=[]),
        "annotations without a box",
        "id 4: bbox []",
    ),
    "no box": (add("annotations", 0, id=4, bbox=None, segmentation=[]), "annotations without a box", "id 4: bbox None"),
    "no width": (add("annotations", 0, id=4, bbox=[5, 5, 0, 9]), "boxes without width", "id 4: bbox [5, 5, 0, 9]"),
    "a box drawn from below": (
        change("annotations", 0, bbox=[10, 20, 20, -10]),
        "boxes with a negative width or height",
        "bbox [10, 20, 20, -10]",
    ),
    "a box drawn from the lower right": (
        change("annotations", 0, bbox=[30, 20, -20, -10]),
        "boxes with a negative width or height",
        "bbox [30, 20, -20, -10]",
    ),
    "no box beside a polygon": (
        lose("annotations", 0, "bbox"),
        "annotations without a box beside their polygon",
        "id 1: bbox None",
    ),
    "zeros for a box": (
        change("annotations", 0, bbox=[0, 0, 0, 0]),
        "annotations without a box beside their polygon",
        "[0, 0, 0, 0]",
    ),
    "an area of 0": (change("annotations", 0, area=0), "areas that are no positive number", "id 1: area 0"),
    "NaN in a box": (add("annotations", 0, id=4, bbox=[5, NAN, 3, 9]), "boxes with NaN", "bbox [5, nan, 3, 9]"),
    "infinite box": (add("annotations", 0, id=4, bbox=[5, 5, INFINITE, 9]), "boxes with NaN", "bbox [5, 5, inf, 9]"),
    "huge box": (add("annotations", 0, id=4, bbox=[5, 5, 10**30, 9]), "boxes with NaN", "annotation id 4: bbox [5, 5"),
    "outside": (add("annotations", 0, id=4, bbox=[60, 5, 3, 3]), "boxes outside their image", "bbox [60, 5, 3, 3]"),
    "above": (add("annotations", 0, id=4, bbox=[5, -9, 3, 8.5]), "boxes outside their image", "id 4: bbox [5, -9, 3"),
    "no such image": (add("annotations", 0, id=4, image_id=7), "annotations of images", "id 4: image_id 7"),
}


@pytest.mark.parametrize("case", REPAIRED)
def test_repaired_to_the_sound_file(write: Callable[[Any], Path], sound: dict[str, Any], case: str) -> None:
    edit, kind, example = REPAIRED[case]
    expected = read_annotations(write(sound)).to_dict()
    edit(sound)
    findings = Findings()
    path = write(sound)
    assert read_annotations(path, findings=findings).to_dict() == expected
    (finding,) = findings
    assert finding.kind.startswith(kind) and finding.action is Action.REPAIRED and finding.count == 1
    assert finding.example.startswith(f"{path}: ") and example in finding.example
    assert f"strict reading refuses {finding.kind}" in refusal(path, strict=True)


def test_boxes_over_the_edge_are_clamped_but_not_for_rounding(
    write: Callable[[Any], Path], sound: dict[str, Any]
) -> None:
    boxes = ([-2, 30, 30, 30], [40, 5, 20.5, 7], [0, 0, 62, 40])
    for annotation, box in zip(sound["annotations"], boxes):
        annotation.update(bbox=box, segmentation=None)
    findings = Findings()
    annotations = read_annotations(write(sound), findings=findings)
    found = [a["bbox"] for index in range(2) for a in annotations.objects_of(index)]
    assert found == [[0, 30, 28, 10], [0, 0, 60, 40], [40, 5, 20.5, 7]]
    assert [(f.kind, f.action.name) for f in findings] == [
        ("boxes over the edge by at most a pixel", "KEPT"),
        ("boxes over the edge of their image", "REPAIRED"),
    ]
    assert annotations.objects_of(0)[0]["area"] == 200  # as the file says


def test_ids_are_numbered_anew_where_two_objects_share_one(write: Callable[[Any], Path], sound: dict[str, Any]) -> None:
    sound["annotations"][1]["id"] = 1
    sound["annotations"][2]["id"] = 0
    findings = Findings()
    annotations = read_annotations(write(sound), findings=findings)
    assert sorted(a["id"] for index in range(2) for a in annotations.objects_of(index)) == [1, 2, 3]
    assert [finding.kind for finding in findings] == ["annotation id 0", "annotation ids of several objects"]


def test_ids_near_the_end_of_64_bits_leave_room(write: Callable[[Any], Path], sound: dict[str, Any]) -> None:
    sound["annotations"][0]["id"] = 2**63 - 1
    del sound["annotations"][1]["id"], sound["annotations"][2]["id"]
    annotations = read_annotations(write(sound))
    assert sorted(a["id"] for index in range(2) for a in annotations.objects_of(index)) == [1, 2, 2**63 - 1]


KEPT: dict[str, tuple[Edit, str, str]] = {
    "crowd": (change("annotations", 0, iscrowd=1), "crowds", "annotation id 1: iscrowd 1"),
    "negative": (add("images", 0, id=9, file_name="9.png"), "images without objects", "image id 9: objects 0"),
    "unused": (add("categories", 0, id=7, name="bus"), "category ids that no object uses", "category id 7: name 'bus'"),
    "parent": (
        lambda d: (d["categories"].insert(0, {"id": 0, "name": "all"}), d["categories"][1].update(supercategory="all")),
        "category ids that are only parents of others",
        "category id 0: name 'all'",
    ),
    "same name": (change("categories", 1, name="class 1"), "category names of", "category id 2: name 'class 1'"),
    "no size": (lambda d: [d["images"][0].pop(key) for key in ("height", "width")], "images without h", "image id 6"),
    "no polygons": (change("annotations", 1, segmentation=[]), "objects without polygons", "annotation id 2: segm"),
}


@pytest.mark.parametrize("case", KEPT)
def test_kept_also_when_strict(write: Callable[[Any], Path], sound: dict[str, Any], case: str) -> None:
    edit, kind, example = KEPT[case]
    edit(sound)
    findings = Findings()
    annotations = read_annotations(write(sound), findings=findings, strict=True)
    (finding,) = findings
    assert finding.kind.startswith(kind) and finding.action is Action.KEPT and example in finding.example
    assert annotations.object_counts().sum() == 3 - (case == "crowd")


def test_objects_stay_in_the_files_order(write: Callable[[Any], Path], sound: dict[str, Any]) -> None:
    first = sound["annotations"][0]
    ids = [*range(100, 1, -1), *range(101, 200)]
    sound["annotations"] = [{**first, "id": id_, "image_id": 5 + id_ % 2} for id_ in ids]
    annotations = read_annotations(write(sound))
    for index in range(2):
        assert [a["id"] for a in annotations.objects_of(index)] == [id_ for id_ in ids if id_ % 2 == index]


def test_more_objects_than_queries(write: Callable[[Any], Path], sound: dict[str, Any]) -> None:
    findings = Findings()
    read_annotations(write(sound), findings=findings, num_queries=1)
    assert findings["images with more objects than --num_queries"].example.endswith("image id 5: objects 2")


def test_missing_entries_are_filled_in(write: Callable[[Any], Path], tiny_annotations: dict[str, Any]) -> None:
    coco = read_annotations(write(tiny_annotations)).to_coco()
    assert coco.anns[4]["area"] == 50 and coco.anns[4]["iscrowd"] == 0
    assert coco.anns[2]["area"] == 200.5 and coco.anns[3]["iscrowd"] == 1
    assert sorted(coco.anns) == [1, 2, 3, 4, 5]  # 6 has no width, the bbox of 8 is []


def test_a_repaired_file_needs_no_repair(
    write: Callable[[Any], Path], tiny_annotations: dict[str, Any], tmp_path: Path
) -> None:
    path = write(tiny_annotations)
    before, after = Findings(), Findings()
    repair_file(path, tmp_path / "repaired" / "instances.json", findings=before)
    assert before.worst() is Action.REPAIRED
    repaired = read_annotations(tmp_path / "repaired" / "instances.json", findings=after, strict=True)
    assert after.worst() is Action.KEPT and repaired.to_dict() == read_annotations(path).to_dict()


def test_a_byte_order_mark_and_utf_16_are_read(tmp_path: Path, sound: dict[str, Any]) -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "instances.json").write_text(json.dumps(sound), encoding=encoding)
        assert len(read_annotations(tmp_path / "instances.json")) == 2


def test_a_file_without_annotations_is_read_for_predictions(
    write: Callable[[Any], Path], sound: dict[str, Any]
) -> None:
    del sound["annotations"]
    findings = Findings()
    annotations = read_annotations(write(sound), findings=findings)
    assert len(annotations) == 2 and annotations.object_counts().tolist() == [0, 0]
    assert findings["files without the list annotations"].action is Action.KEPT
