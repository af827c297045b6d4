"""Numbers of a report, worked out by hand, and its verdict."""

import json
from pathlib import Path

import numpy as np
import pytest

from datasets.annotations.findings import Action, Findings
from datasets.check.report import Report, SplitReport, as_dict, as_text
from datasets.layout import DatasetSplits, Split

SPLIT = Split(Path("images"), Path("train.json"))


def split_report(**fields: object) -> SplitReport:
    numbers = dict(
        images=3,
        class_names={1: "cat", 4: "dog"},
        counts=np.array([2, 0, 3]),
        labels=np.array([4, 4, 4, 4, 4]),
        sides=np.array([7.9, 8.0, 31.9, 32.0, 5000.0]),
    )
    return SplitReport("train", SPLIT, **numbers | fields)


def report(split: SplitReport, strict: bool = False) -> Report:
    return Report(
        DatasetSplits("COCO", Path("data"), {"train": SPLIT}), [split], Findings(), num_queries=100, strict=strict
    )


def with_finding(action: Action) -> SplitReport:
    split = split_report()
    split.findings.add("odd", action, remedy="left", example="train.json: image 1")
    return split


def test_classes_and_sizes_are_counted() -> None:
    split = split_report()
    assert split.class_counts() == {1: 0, 4: 5}
    assert split.histogram() == [1, 1, 1, 1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("split", "strict", "worst"),
    [
        (split_report(), False, Action.KEPT),
        (with_finding(Action.KEPT), True, Action.KEPT),
        (with_finding(Action.REPAIRED), False, Action.REPAIRED),
        (with_finding(Action.REPAIRED), True, Action.REFUSED),
        (with_finding(Action.REFUSED), False, Action.REFUSED),
        (split_report(error="not JSON"), False, Action.REFUSED),
    ],
)
def test_the_verdict_is_the_gravest(split: SplitReport, strict: bool, worst: Action) -> None:
    result = report(split, strict)
    assert result.worst() is worst and as_dict(result)["exit_code"] == int(worst)
    assert f"(exit code {int(worst)})" in as_text(result).splitlines()[-1]


def test_text_and_json_say_the_same() -> None:
    result = report(with_finding(Action.REPAIRED))
    text, data = as_text(result), json.loads(json.dumps(as_dict(result), allow_nan=False))
    assert "3 images, 1 of them without objects; 5 boxes of 2 classes; objects an image: median 2, at most 3" in text
    assert data["splits"]["train"]["images_without_objects"] == 1
    assert data["splits"]["train"]["findings"] == [
        {"kind": "odd", "count": 1, "action": "repaired", "remedy": "left", "example": "train.json: image 1"}
    ]
    assert "  repaired      1  odd: left" in text and "first: train.json: image 1" in text


def test_a_split_without_a_single_box() -> None:
    empty = split_report(counts=np.zeros(3, np.int64), labels=np.zeros(0, np.int64), sides=np.zeros(0))
    assert "0 boxes of 2 classes" in as_text(report(empty)) and as_dict(report(empty))["splits"]["train"]["boxes"] == 0
