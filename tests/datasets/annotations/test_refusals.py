"""Annotation files that cannot be read, each with the one line that names file, id and value."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets.annotations import read_annotations, write_annotations
from datasets.annotations.findings import Action, Findings
from tests.datasets.annotations.edits import Edit, add, change, lose, refusal
from util.errors import DatasetError

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


@pytest.mark.parametrize("data", [[], 3, {}, {"images": [], "annotations": {}}, {"images": [1]}])
def test_json_that_is_not_coco(write: Callable[[Any], Path], data: Any) -> None:
    assert "not a COCO annotation file: it has no list " in refusal(write(data))


@pytest.mark.parametrize("key", ["images", "categories"])
def test_each_list_is_needed(write: Callable[[Any], Path], sound: dict[str, Any], key: str) -> None:
    del sound[key]
    assert f'no list "{key}"' in refusal(write(sound))


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
