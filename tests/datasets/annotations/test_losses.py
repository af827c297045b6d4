"""Training splits without objects are refused with the cause, and large losses are one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from datasets.annotations import read_annotations
from datasets.annotations.findings import Action, Findings
from datasets.annotations.losses import (
    describe_losses,
    describe_nothing_to_measure,
    explain_no_objects,
    note_no_objects,
    refuse_no_objects,
)
from datasets.annotations.table import Annotations
from util.errors import DatasetError


def split(folder: Path, *changes: dict[str, Any]) -> Annotations:
    """One image of 60 x 40 with a changed copy of one object for each of `changes`."""
    one = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}
    data = {
        "images": [{"id": 1, "file_name": "1.png", "width": 60, "height": 40}],
        "annotations": [{"id": number, **one, **change} for number, change in enumerate(changes, start=1)],
        "categories": [{"id": 1, "name": "cup"}],
    }
    (folder / "train.json").write_text(json.dumps(data))
    return read_annotations(folder / "train.json")


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ((), "it lists 1 images and no annotations"),
        (
            ({"iscrowd": 1},) * 2,
            "all 2 annotations are left out: crowds: 2; iscrowd must be 0 where one annotation is one object",
        ),
        (
            ({"bbox": None}, {"bbox": [90, 1, 5, 5]}),
            "all 2 annotations are left out: annotations without a box: 1; boxes outside their image: 1",
        ),
    ],
)
def test_no_object_is_refused_with_the_cause(tmp_path: Path, changes: tuple, cause: str) -> None:
    annotations = split(tmp_path, *changes)
    assert explain_no_objects(annotations) == cause
    with pytest.raises(DatasetError, match=f"^train.json: there is nothing to learn: {cause}$"):
        refuse_no_objects(Path("train.json"), annotations)
    findings = Findings()
    note_no_objects(Path("train.json"), annotations, findings, training=True)
    assert findings.worst() is Action.REFUSED


def test_a_validation_split_without_objects_is_said(tmp_path: Path) -> None:
    empty, findings = split(tmp_path), Findings()
    words = "warning: val.json: AP cannot be measured on the validation images: it lists 1 images and no annotations"
    assert describe_nothing_to_measure(Path("val.json"), empty) == words
    note_no_objects(Path("val.json"), empty, findings, training=False)
    assert findings.worst() is Action.KEPT and "validation splits without a single object" in findings
    assert describe_nothing_to_measure(Path("val.json"), split(tmp_path, {})) is None


def test_one_object_is_enough(tmp_path: Path) -> None:
    annotations, findings = split(tmp_path, {}, {"iscrowd": 1}), Findings()
    refuse_no_objects(Path("train.json"), annotations)
    note_no_objects(Path("train.json"), annotations, findings, training=True)
    assert explain_no_objects(annotations) is None and not len(findings)


def test_losses_are_said_from_a_tenth_on(tmp_path: Path) -> None:
    few, more = split(tmp_path, *[{}] * 9, {"bbox": []}), split(tmp_path, *[{}] * 8, {"bbox": []})
    assert describe_losses(Path("a.json"), few) is None
    assert describe_losses(Path("a.json"), more) == (
        "warning: a.json: 1 of 9 objects (11%) are not trained on: annotations without a box: 1"
    )
