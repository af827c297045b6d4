"""What the reader of annotation files fills in, and the line each broken file ends with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pycocotools import mask as rle_tools

from datasets.coco_file import read_coco_file
from util.errors import DatasetError

Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    """Write annotations as the file instances.json."""

    def to_file(data: Any) -> Path:
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(data))
        return path

    return to_file


def refusal(path: Path, **asked: Any) -> str:
    """The one line that reading `path` ends with; it starts with the file's name."""
    with pytest.raises(DatasetError) as caught:
        read_coco_file(path, **asked)
    line = caught.value.line()
    assert line == str(caught.value) and line.startswith(f"{path}: ") and "\n" not in line
    return line


def test_index_is_pycocotools_and_silent(
    write: Callable[[Any], Path], tiny_annotations: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    coco = read_coco_file(write(tiny_annotations))
    assert capfd.readouterr() == ("", "")
    assert sorted(coco.imgs) == [1, 4, 7, 9] and sorted(coco.cats) == [3, 7]
    assert coco.getAnnIds(imgIds=[1], iscrowd=0) == [1, 2]


def test_missing_entries_are_filled_in(write: Callable[[Any], Path], tiny_annotations: dict[str, Any]) -> None:
    coco = read_coco_file(write(tiny_annotations))
    assert coco.anns[4]["area"] == 50 and coco.anns[4]["iscrowd"] == 0
    assert coco.anns[2]["area"] == 200.5 and coco.anns[3]["iscrowd"] == 1
    assert 8 not in coco.anns  # its bbox is []


def test_empty_polygons_become_an_empty_mask(write: Callable[[Any], Path], tiny_annotations: dict[str, Any]) -> None:
    tiny_annotations["annotations"][0]["segmentation"] = [[1, 1, 5, 5]]  # two points: pycocotools would see a box
    coco = read_coco_file(write(tiny_annotations))
    for number in (1, 5, 6):
        assert rle_tools.area(coco.annToRLE(coco.anns[number])) == 0


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "no such annotation file" in refusal(tmp_path / "absent.json")
    assert "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b'{"images": [', b"\xff\xfe\x00", b"[" * 100_000])
def test_not_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "instances.json"
    path.write_bytes(content)
    assert "not JSON" in refusal(path)


@pytest.mark.parametrize("data", [[], 3, {}, {"images": [], "annotations": {}}, {"images": [1]}])
def test_json_that_is_not_coco(write: Callable[[Any], Path], data: Any) -> None:
    assert "not a COCO annotation file: it has no list " in refusal(write(data))


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_each_list_is_needed(write: Callable[[Any], Path], tiny_annotations: dict[str, Any], key: str) -> None:
    del tiny_annotations[key]
    assert f'no list "{key}"' in refusal(write(tiny_annotations))


def change(kind: str, position: int, **entries: Any) -> Edit:
    """An edit of one entry of the list `kind`."""
    return lambda data: data[kind][position].update(entries)


BROKEN: dict[str, tuple[Edit, str]] = {
    "no pictures": (lambda d: d["images"].clear(), "it lists no pictures"),
    "no categories": (lambda d: d["categories"].clear(), "it lists no categories"),
    "image id": (change("images", 0, id="a7"), "image id 'a7' is not an integer"),
    "no file name": (lambda d: d["images"][0].pop("file_name"), "image id 9 has no file_name"),
    "category id": (change("categories", 0, id="7"), "category id '7' is not an integer of at least 0"),
    "negative category": (change("categories", 0, id=-1), "category id -1 is not an integer of at least 0"),
    "text label": (change("annotations", 0, category_id="3"), "annotation id 1: label '3' (category_id) is not an"),
    "true as label": (change("annotations", 0, category_id=True), "annotation id 1: label True (category_id) is not"),
    "no label": (lambda d: d["annotations"][3].pop("category_id"), "annotation id 4: label None (category_id)"),
    "unknown label": (change("annotations", 1, category_id=4), "annotation id 2: label 4 (category_id) is not am"),
    "annotation id": (lambda d: d["annotations"][0].pop("id"), "annotation id None is not an integer"),
    "image of object": (change("annotations", 0, image_id="1"), "annotation id 1: image_id '1' is not an integer"),
    "short box": (change("annotations", 0, bbox=[1, 2, 3]), "annotation id 1: bbox [1, 2, 3] is not [x, y, width"),
    "text in box": (change("annotations", 0, bbox=[1, 2, 3, "4"]), "annotation id 1: bbox [1, 2, 3, '4'] is not"),
    "infinite box": (change("annotations", 0, bbox=[1, 2, 3, float("inf")]), "annotation id 1: bbox [1, 2, 3, inf]"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_entries_are_named(write: Callable[[Any], Path], tiny_annotations: dict[str, Any], case: str) -> None:
    edit, expected = BROKEN[case]
    edit(tiny_annotations)
    assert expected in refusal(write(tiny_annotations))


def test_label_beyond_num_classes(write: Callable[[Any], Path], tiny_annotations: dict[str, Any]) -> None:
    path = write(tiny_annotations)
    assert len(read_coco_file(path, num_classes=8).anns) == 6
    line = refusal(path, num_classes=7)
    assert "annotation id 2: label 7 (category_id) is outside 0..6; --num_classes must be at least 8" in line


def test_masks_need_segmentations_and_picture_sizes(
    write: Callable[[Any], Path], tiny_annotations: dict[str, Any]
) -> None:
    del tiny_annotations["annotations"][0]["segmentation"], tiny_annotations["images"][2]["width"]
    path = write(tiny_annotations)
    assert len(read_coco_file(path).anns) == 6
    assert "image id 7 has no height and width, which --masks needs" in refusal(path, need_masks=True)
    tiny_annotations["images"][2]["width"] = 47
    line = refusal(write(tiny_annotations), need_masks=True)
    assert "annotation id 1 has no segmentation, which --masks needs" in line
