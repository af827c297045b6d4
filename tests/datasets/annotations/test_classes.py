"""Chosen classes: objects and categories of the others are as if the file had none; images stay."""

from pathlib import Path
from typing import Any

import pytest

from datasets.annotations import read_annotations
from datasets.annotations.classes import ChosenClasses
from datasets.annotations.dense import DenseLabels, listed_ids
from tests.datasets.annotations.test_dense import write
from util.errors import DatasetError

IDS = [5, 60, 2_000_000_000]


def read(folder: Path, *words: str, **more: Any) -> Any:
    path = write(folder, [60, 2_000_000_000, 5, 60], IDS)
    return read_annotations(path, num_classes=ChosenClasses(words=words, **more))


@pytest.mark.parametrize("words", [("name 60",), ("NAME 60",), ("60",), ("nothing", "60")])
def test_objects_and_names_are_those_of_the_classes(tmp_path: Path, words: tuple) -> None:
    """The id of another class, beyond all labels, does no harm, nor does the number of classes of the chosen."""
    annotations = read(tmp_path, *words, required=len(words) == 1, labels=61)
    assert annotations.class_names == {60: "name 60"}
    assert annotations.boxes_of(0)[1].tolist() == [60, 60] and annotations.object_counts().tolist() == [2]
    coco = annotations.to_coco()
    assert coco.getCatIds() == [60] and sorted(coco.anns) == [1, 4]


def test_dense_labels_are_of_the_classes_alone(tmp_path: Path) -> None:
    annotations = read(tmp_path, "2000000000", "name 5", labels=DenseLabels())
    assert annotations.class_names == {0: "name 5", 1: "name 2000000000"}
    assert listed_ids(annotations.categories) == {0: 5, 1: 2_000_000_000}
    assert annotations.boxes_of(0)[1].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("words", "required", "message"),
    [
        (("nam 5", "60"), True, "--classes nam 5: .*some.json has no such class; near: name 5, name 60"),
        (("dog",), False, "--classes dog: .* no such class; known are name 5, name 60, name 2000000000"),
        (("7",), True, "--classes 7: .* no such class"),
        ((), True, "--classes .none.: "),
        (("2000000000",), True, "category id 2000000000 .a model has a class"),
    ],
)
def test_a_wrong_name_is_one_line_with_near_ones(tmp_path: Path, words: tuple, required: bool, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, *words, required=required)


def test_classes_without_objects_cannot_be_learned(tmp_path: Path) -> None:
    path = write(tmp_path, [60], IDS)
    with pytest.raises(DatasetError, match=r"--classes name 5: .* has 1 objects, none of them"):
        read_annotations(path, num_classes=ChosenClasses(words=("name 5",)))
    assert len(read_annotations(path, num_classes=ChosenClasses(words=("name 5",), required=False))) == 1
