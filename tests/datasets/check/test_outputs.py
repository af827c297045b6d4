"""The sheet of a checked split, and that repairs are written whole or not at all."""

from pathlib import Path

import pytest

from datasets.check.outputs import draw_sheet, renumber_categories, write_json, write_repaired
from datasets.check.split import SplitCheck, check_split
from datasets.image_files import by_base_name
from datasets.layout import Split
from tests.datasets.fault_folder import write_fault_folder
from util.errors import DatasetError


def checked(root: Path, **faults: bool) -> SplitCheck:
    write_fault_folder(root, **faults)
    split = Split(root / "images", root / "annotations" / "train.json")
    return check_split("train", split, by_base_name, num_queries=100, num_classes=None, need_masks=False)


def test_the_sheet_holds_readable_images_with_objects(tmp_path: Path) -> None:
    one = checked(tmp_path / "faults", unreadable=True)
    assert draw_sheet([one], tmp_path / "sheet.png", title="") == 11  # of 15: three cannot be read, one has no objects


def test_no_sheet_where_annotations_are_refused(tmp_path: Path) -> None:
    assert draw_sheet([checked(tmp_path / "faults", refused=True)], tmp_path / "sheet.png", title="") == 0
    assert not (tmp_path / "sheet.png").exists()


def test_nothing_is_written_where_one_split_is_refused(tmp_path: Path) -> None:
    splits = [checked(tmp_path / "one"), checked(tmp_path / "two", refused=True)]
    with pytest.raises(DatasetError, match="--fix .*: nothing is written, the train annotations are refused"):
        write_repaired(splits, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_json_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="cannot be written"):
        write_json({}, tmp_path / "file" / "x.json")


def test_ids_too_large_are_renumbered_alike_in_all_splits() -> None:
    ids = {"train": (7, 2_905_442), "val": (2_905_442,)}
    splits = [
        {"categories": [{"id": i, "name": str(i)} for i in own], "annotations": [{"id": 1, "category_id": own[-1]}]}
        for own in ids.values()
    ]
    renumber_categories(splits)
    assert [[category["id"] for category in data["categories"]] for data in splits] == [[1, 2], [2]]
    assert [data["annotations"][0]["category_id"] for data in splits] == [2, 2]
