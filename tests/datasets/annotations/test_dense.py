"""Dense labels: category ids far apart become 0 to C - 1, in the file's order of ids or in a given one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.annotations import read_annotations
from datasets.annotations.dense import DenseLabels, listed_ids
from datasets.annotations.findings import Findings
from util.errors import DatasetError


def write(folder: Path, labels: list[int], ids: list[int]) -> Path:
    """One image with an object of each of `labels`, and categories named by their `ids`."""
    objects = [
        {"id": k, "image_id": 1, "category_id": label, "bbox": [k, 1, 5, 5], "area": 25, "iscrowd": 0}
        for k, label in enumerate(labels, start=1)
    ]
    images = [{"id": 1, "file_name": "1.png", "width": 60, "height": 40}]
    data: dict[str, Any] = {"images": images, "annotations": objects}
    path = folder / "some.json"
    path.write_text(json.dumps(data | {"categories": [{"id": id_, "name": f"name {id_}"} for id_ in ids]}))
    return path


@pytest.mark.parametrize(
    ("order", "labels", "names"),
    [
        (None, [2, 0], {0: "name 5", 1: "name 60", 2: "name 2000000000"}),
        ((2_000_000_000, 5), [0, 1], {0: "name 2000000000", 1: "name 5"}),
        ((5, 7, 2_000_000_000), [2, 0], {0: "name 5", 2: "name 2000000000"}),
    ],
    ids=["the file's", "another", "one that the file lacks"],
)
def test_labels_and_names_are_renumbered(tmp_path: Path, order: tuple | None, labels: list, names: dict) -> None:
    path = write(tmp_path, [2_000_000_000, 5], [60, 5, 2_000_000_000])
    annotations = read_annotations(path, num_classes=DenseLabels(order))
    assert annotations.boxes_of(0)[1].tolist() == labels and annotations.class_names == names
    ids = listed_ids(annotations.categories) or {}
    assert [f"name {ids[label]}" for label in labels] == ["name 2000000000", "name 5"]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (DenseLabels((5, 60)), "category id 9 .'name 9'., which --dense_labels gives no label: .*, .5, 60."),
        (DenseLabels(num_classes=2), "3 categories; there is room for 2 .--num_classes."),
    ],
)
def test_what_has_no_label_is_refused(tmp_path: Path, rule: DenseLabels, words: str) -> None:
    with pytest.raises(DatasetError, match=f"some.json: .*{words}"):
        read_annotations(write(tmp_path, [9, 5], [60, 5, 9]), num_classes=rule)


@pytest.mark.parametrize(("ids", "sparse"), [([1, 90], True), ([0, 1, 2], False), ([*np.arange(80), 90], False)])
def test_ids_far_apart_are_noted_with_the_flag(tmp_path: Path, ids: list, sparse: bool) -> None:
    for rule in (None, DenseLabels()):
        findings = Findings()
        read_annotations(write(tmp_path, [int(ids[0])], list(map(int, ids))), num_classes=rule, findings=findings)
        found = [finding for finding in findings if "--dense_labels" in finding.remedy]
        assert len(found) == (sparse and rule is None)
