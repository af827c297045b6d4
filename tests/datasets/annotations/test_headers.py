"""Positions and sizes of images, names for one file, and categories that are unused or parents only."""

import numpy as np

from datasets.annotations.categories import note_labels, note_unused, read_categories
from datasets.annotations.findings import Findings
from datasets.annotations.images import Images, NoFiles
from datasets.annotations.kinds import IssueLog
from datasets.annotations.parse import ImageEntry


def found(issues: IssueLog) -> dict[str, int]:
    """Counts by kind."""
    findings = Findings()
    issues.settle(findings, strict=False, fixing=True)
    return {finding.kind: finding.count for finding in findings}


def test_positions_are_by_id_and_minus_one_where_not_listed() -> None:
    entries = [ImageEntry(id=id_, file_name=f"{id_}.png", height=4, width=5) for id_ in (9, -2, 4)]
    images = Images(entries, IssueLog("f.json"), need_sizes=True, files=NoFiles())
    assert images.ids.tolist() == [-2, 4, 9] and images.names[2] == "9.png" and images.size(0) == (4, 5)
    assert images.positions(np.array([4, 9, 5, 100, -2, -3])).tolist() == [1, 2, -1, -1, 0, -1]


def test_sizes_are_measured_where_the_file_is_wrong() -> None:
    entries = [ImageEntry(id=id_, file_name=name, height=7, width=3) for id_, name in ((5, "a.png"), (6, "b.png"))]
    issues = IssueLog("f.json")
    files = NoFiles()
    files.size = lambda *image: {("a.png", 5): (3, 7)}.get(image[:2])
    images = Images(entries, issues, need_sizes=False, files=files)
    images.measure(np.arange(2))
    assert [images.size(position) for position in range(2)] == [(3, 7), (7, 3)]
    assert found(issues) == {"images with another height or width than their file": 1}


def test_parents_are_told_from_classes_that_are_never_seen() -> None:
    names = {0: ("cells", "none"), 1: ("red", "cells"), 2: ("white", "cells"), 3: ("self", "self"), 4: ("used", "used")}
    entries = [{"id": id_, "name": name, "supercategory": parent} for id_, (name, parent) in names.items()]
    issues = IssueLog("f.json")
    note_unused(read_categories(entries, issues), np.array([1, 4]), issues)
    assert found(issues) == {
        "category ids that are only parents of others": 1,
        "category ids that no object uses": 2,
    }


def test_names_that_are_missing_or_no_text() -> None:
    issues = IssueLog("f.json")
    categories = read_categories([{"id": 1}, {"id": 2, "name": ""}, {"id": 3, "name": 33}], issues)
    assert [category["name"] for category in categories.values()] == ["1", "2", "33"]
    assert found(issues) == {"categories without a name": 2}


def test_ids_beyond_any_class_head_are_too_large_not_impossible() -> None:
    issues = IssueLog("f.json")
    categories = read_categories([{"id": 5_000_000_000, "name": "cup"}], issues)
    note_labels(categories, issues)
    assert list(categories) == [5_000_000_000]
    assert found(issues) == {"category ids too large to count up to": 1}
