"""The check of a single split: what is listed, and boxes that only the real size of an image cuts."""

import json
from pathlib import Path
from typing import Any

from datasets.check.split import SplitCheck, check_split, list_images
from datasets.image_files import by_file_name
from datasets.layout import Split
from tests.datasets.fault_folder import annotation, listed, noise


def split_of(root: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> Split:
    path = root / "a.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]})
    )
    return Split(root, path)


def checked(split: Split) -> SplitCheck:
    return check_split("train", split, by_file_name, num_queries=100, num_classes=None, need_masks=False)


def test_images_are_listed_by_id_and_entries_without_one_left_out(tmp_path: Path) -> None:
    entries = [
        listed(9, "b.png"),
        listed("2", "a.png"),
        listed(None, "c.png"),
        {"id": 4},
        listed(5, ""),
        listed(9, "x.png"),
        {"id": 7, "file_name": "d.png", "width": "wide"},
    ]
    images = list_images(split_of(tmp_path, entries, []), by_file_name)
    assert [(p.image_id, p.file_name, p.size) for p in images] == [
        (2, "a.png", (30, 40)),
        (7, "d.png", None),
        (9, "b.png", (30, 40)),
    ]
    assert images[0].path == tmp_path / "a.png" and not images[0].renamed


def test_boxes_beyond_an_image_whose_size_is_not_listed_or_listed_too_large(tmp_path: Path) -> None:
    noise(1).save(tmp_path / "a.png")
    boxes = [
        annotation(1, bbox=(35, 2, 10, 6)),
        annotation(2, bbox=(45, 2, 10, 6)),
        annotation(3, bbox=(1, 1, 39.5, 6)),
    ]
    for entry in ({"id": 1, "file_name": "a.png"}, listed(1, "a.png", 400, 300), listed(1, "a.png", 39, 29)):
        findings = checked(split_of(tmp_path, [entry], boxes)).report.findings
        assert findings["boxes over the edge of their image"].count == 1
        assert findings["boxes outside their image"].count == 1


def test_a_folder_that_is_not_there_is_as_many_missing_images(tmp_path: Path) -> None:
    split = split_of(tmp_path, [listed(1, "a.png"), listed(2, "b.png")], [])
    result = checked(Split(tmp_path / "absent", split.annotations))
    assert result.report.findings["image files that are not there"].count == 2 and result.report.error is None
