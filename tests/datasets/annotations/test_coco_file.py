"""What the reader of annotation files repairs, keeps and refuses, and the line each refusal ends with."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pycocotools import mask as rle_tools

from datasets.annotations import describe_repairs, read_annotations, repair_file, write_annotations
from datasets.annotations.findings import Action, Findings
from util.errors import DatasetError

Edit = Callable[[dict[str, Any]], Any]
NAN, INFINITE = float("nan"), float("inf")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    """Write annotations as the file instances.json."""

    def to_file(data: Any) -> Path:
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(data))
        return path

    return to_file


@pytest.fixture
def sound() -> dict[str, Any]:
    """A file about which nothing is odd: two images of 60 x 40 (w x h), three objects, two categories."""
    square = {"bbox": [10, 10, 20, 10], "area": 200, "iscrowd": 0, "segmentation": [[10, 10, 30, 10, 30, 20, 10, 20]]}
    objects = [
        {"id": 1, "image_id": 5, "category_id": 2, **square},
        {"id": 2, "image_id": 6, "category_id": 1, **square},
        {"id": 3, "image_id": 5, "category_id": 1, **square, "bbox": [0.5, 1.5, 7.25, 9]},
    ]
    objects[2]["segmentation"] = [[0.5, 1.5, 7.75, 1.5, 7.75, 10.5, 0.5, 10.5]]
    images = [{"id": id_, "file_name": f"{id_}.png", "height": 40, "width": 60} for id_ in (6, 5)]
    categories = [{"id": id_, "name": f"class {id_}"} for id_ in (1, 2)]
    return {"images": images, "annotations": [copy.deepcopy(one) for one in objects], "categories": categories}


def change(kind: str, position: int, **entries: Any) -> Edit:
    """An edit of one entry of the list `kind`."""
    return lambda data: data[kind][position].update(entries)


def lose(kind: str, position: int, key: str) -> Edit:
    """An edit that removes a key of one entry."""
    return lambda data: data[kind][position].pop(key)


def add(kind: str, position: int, **entries: Any) -> Edit:
    """An edit that appends a changed copy of one entry."""
    return lambda data: data[kind].append({**data[kind][position], **entries})


def refusal(path: Path, **asked: Any) -> str:
    """The one line that reading `path` ends with; it starts with the file's name."""
    with pytest.raises(DatasetError) as caught:
        read_annotations(path, **asked)
    line = caught.value.line()
    assert line == str(caught.value) and line.startswith(f"{path}: ") and "\n" not in line
    return line


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


REFUSED: dict[str, tuple[Edit, str]] = {
    "no images": (lambda d: d["images"].clear(), "it lists no images"),
    "no categories": (lambda d: d["categories"].clear(), "it lists no categories"),
    "image id": (change("images", 0, id="a7"), "image id 'a7' (an id must be an integer)"),
    "true as image id": (change("images", 0, id=True), "image id True (an id must be an integer)"),
    "no image id": (lose("images", 0, "id"), "image id None (an id must be an integer)"),
    "huge image id": (change("images", 0, id=2**63), "image id 9223372036854775808 (an id must be"),
    "two files": (add("images", 0, file_name="other.png"), "image id 6: file_name 'other.png' (which one is"),
    "no file name": (lose("images", 0, "file_name"), "image id 6: file_name None (file_name must be text)"),
    "empty file name": (change("images", 0, file_name=""), "image id 6: file_name '' (file_name must be text)"),
    "category id": (change("categories", 0, id="x"), "category id 'x' (an id must be an integer)"),
    "negative category": (change("categories", 0, id=-1), "category id -1 (a label must be at least 0"),
    "two names": (add("categories", 0, name="other"), "category id 1 (which one is meant is not known)"),
    "word as label": (change("annotations", 0, category_id="cat"), "annotation id 1: category_id 'cat' (an id must"),
    "true as label": (change("annotations", 0, category_id=True), "annotation id 1: category_id True (an id must"),
    "no label": (lose("annotations", 1, "category_id"), "annotation id 2: category_id None (an id must"),
    "unknown label": (change("annotations", 1, category_id=4), "annotation id 2: category_id 4 (the label (cat"),
    "annotation id": (change("annotations", 0, id="one"), "annotation id 'one': id 'one' (an id must be an integer)"),
    "no image": (change("annotations", 0, image_id=None), "annotation id 1: image_id None (an id must be an integer)"),
    "short box": (change("annotations", 0, bbox=[1, 2, 3]), "annotation id 1: bbox [1, 2, 3] (a box must be"),
    "words in box": (change("annotations", 0, bbox=[1, 2, 3, "wide"]), "annotation id 1: bbox [1, 2, 3, 'wide'] (a"),
    "null in box": (change("annotations", 0, bbox=[1, 2, 3, None]), "annotation id 1: bbox [1, 2, 3, None] (a box"),
    "half a crowd": (change("annotations", 0, iscrowd=2), "annotation id 1: iscrowd 2 (whether it is one object"),
    "a long line": (change("annotations", 0, bbox=["\n" * 9999] * 4), "annotation id 1: bbox ['\\n"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_file_and_id(write: Callable[[Any], Path], sound: dict[str, Any], case: str) -> None:
    edit, expected = REFUSED[case]
    edit(sound)
    line = refusal(write(sound))
    assert expected in line and len(line) < 400


def test_all_that_is_refused_is_found_before_the_error(write: Callable[[Any], Path], sound: dict[str, Any]) -> None:
    for annotation in sound["annotations"][:2]:
        annotation["category_id"] = 8
    sound["annotations"][2]["bbox"] = 3
    findings = Findings()
    assert "annotation id 1: category_id 8" in refusal(write(sound), findings=findings)
    assert [(f.action.name, f.count) for f in findings if f.action is Action.REFUSED] == [
        ("REFUSED", 2),
        ("REFUSED", 1),
    ]


def test_label_beyond_num_classes(write: Callable[[Any], Path], sound: dict[str, Any]) -> None:
    path = write(sound)
    assert read_annotations(path, num_classes=3).object_counts().sum() == 3
    assert "annotation id 1: category_id 2 (--num_classes must be larger" in refusal(path, num_classes=2)


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


def test_a_place_that_cannot_be_written(write: Callable[[Any], Path], sound: dict[str, Any], tmp_path: Path) -> None:
    path = write(sound)
    with pytest.raises(DatasetError, match="cannot be written"):
        write_annotations(read_annotations(path), path / "below a file.json")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "no such annotation file" in refusal(tmp_path / "absent.json")
    assert "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b'{"images": [', b"\xff\xfe\x00", b"[" * 100_000])
def test_not_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "instances.json"
    path.write_bytes(content)
    assert "not JSON" in refusal(path)


def test_a_byte_order_mark_and_utf_16_are_read(tmp_path: Path, sound: dict[str, Any]) -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "instances.json").write_text(json.dumps(sound), encoding=encoding)
        assert len(read_annotations(tmp_path / "instances.json")) == 2


@pytest.mark.parametrize("data", [[], 3, {}, {"images": [], "annotations": {}}, {"images": [1]}])
def test_json_that_is_not_coco(write: Callable[[Any], Path], data: Any) -> None:
    assert "not a COCO annotation file: it has no list " in refusal(write(data))


def test_a_file_without_annotations_is_read_for_predictions(
    write: Callable[[Any], Path], sound: dict[str, Any]
) -> None:
    del sound["annotations"]
    findings = Findings()
    annotations = read_annotations(write(sound), findings=findings)
    assert len(annotations) == 2 and annotations.object_counts().tolist() == [0, 0]
    assert findings["files without the list annotations"].action is Action.KEPT


@pytest.mark.parametrize("key", ["images", "categories"])
def test_each_list_is_needed(write: Callable[[Any], Path], sound: dict[str, Any], key: str) -> None:
    del sound[key]
    assert f'no list "{key}"' in refusal(write(sound))


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


@pytest.mark.parametrize("names", [("a.png", "a.png"), ("b/a.png", "b\\a.png")])
def test_one_file_under_two_ids_is_refused_naming_both(
    write: Callable[[Any], Path], sound: dict[str, Any], names: tuple[str, str]
) -> None:
    for image, name in zip(sound["images"], names):
        image["file_name"] = name
    line = refusal(write(sound))
    assert "image id 6: file_name (image id 5 has the same file)" in line and "--fix OUT merges them" in line
    merged = read_annotations(write(sound), fixing=True)
    assert merged.image_ids.tolist() == [5] and merged.object_counts().tolist() == [3]


def test_ids_too_large_for_a_class_count_are_refused(write: Callable[[Any], Path], sound: dict[str, Any]) -> None:
    sound["categories"][0]["id"] = sound["annotations"][1]["category_id"] = 2_905_422
    sound["annotations"][2]["category_id"] = 2_905_422
    line = refusal(write(sound))
    assert "category id 2905422" in line and "renumber them" in line and "--fix" in line
