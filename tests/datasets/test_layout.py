"""Every layout is recognised by its shape alone, and what is none of them ends in one line."""

from argparse import Namespace
from pathlib import Path

import pytest

from datasets import dataset_file_from_flags
from datasets.layout import Split, find_layout
from util.errors import DatasetError


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("{}")
    return root


COCO = ("annotations/instances_train2017.json", "annotations/instances_val2017.json")
HGP = tuple(f"images/{path}" for path in COCO)
ROBOFLOW = ("train/_annotations.coco.json", "valid/_annotations.coco.json")
CPPE5 = ("annotations/train.json", "annotations/test.json")
ONE_FOLDER = ("annotations/train.json", "annotations/val.json", "annotations/test.json")


@pytest.mark.parametrize(
    ("files", "dataset_file", "name", "expected"),
    [
        (COCO, "coco", "COCO", {"train": ("train2017", COCO[0]), "val": ("val2017", COCO[1])}),
        (COCO[1:], "coco", "COCO", {"val": ("val2017", COCO[1])}),
        (HGP, "hgp", "HGP", {"train": ("images/train2017", HGP[0]), "val": ("images/val2017", HGP[1])}),
        (ROBOFLOW, "custom", "Roboflow", {"train": ("train", ROBOFLOW[0]), "val": ("valid", ROBOFLOW[1])}),
        (
            ("train/_annotations.coco.json", "val/_annotations.coco.json", "test/_annotations.coco.json"),
            "custom",
            "Roboflow",
            {split: (split, f"{split}/_annotations.coco.json") for split in ("train", "val", "test")},
        ),
        (CPPE5, "cppe5", "CPPE-5", {"train": ("images", CPPE5[0]), "val": ("images", CPPE5[1])}),
        (
            ONE_FOLDER,
            "custom",
            "one folder of images",
            {split: ("images", f"annotations/{split}.json") for split in ("train", "val", "test")},
        ),
    ],
)
def test_recognised_by_name_and_as_custom(
    tmp_path: Path, files: tuple[str, ...], dataset_file: str, name: str, expected: dict
) -> None:
    touch(tmp_path, *files)
    for asked in (dataset_file, "custom"):
        layout = find_layout(asked, tmp_path)
        assert layout.name == name
        assert layout.splits == {
            split: Split(tmp_path / images, tmp_path / file) for split, (images, file) in expected.items()
        }
    for split in expected:
        assert f"  {split}: {layout.splits[split].annotations}, images in" in layout.describe()


@pytest.mark.parametrize(("dataset_file", "inside", "files"), [("hgp", "HGP", HGP), ("cppe5", "data", CPPE5)])
def test_one_folder_further_in_as_archives_unpack(
    tmp_path: Path, dataset_file: str, inside: str, files: tuple[str, ...]
) -> None:
    touch(tmp_path / inside, *files)
    assert find_layout(dataset_file, tmp_path).split("train").annotations == tmp_path / inside / files[0]


def test_hgp_lies_in_the_working_folder_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "HGP", *HGP)
    monkeypatch.chdir(tmp_path)
    assert find_layout("hgp", None).split("val").images == Path("HGP/images/val2017")


def test_panoptic_annotations_may_lie_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path / "panoptic", "annotations/panoptic_val2017.json")
    layout = find_layout("coco_panoptic", tmp_path / "coco", annotations_path=tmp_path / "panoptic")
    assert layout.split("val") == Split(
        tmp_path / "coco/val2017", tmp_path / "panoptic/annotations/panoptic_val2017.json"
    )


def test_named_parts_need_no_folder_and_stand_before_what_was_found(tmp_path: Path) -> None:
    named = {"val_images": "images", "val_annotations": "some.json"}
    alone = find_layout("custom", None, **named)
    assert alone.splits == {"val": Split(Path("images"), Path("some.json"))} and alone.name == "named by flags"
    both = find_layout("custom", touch(tmp_path, *ROBOFLOW), **named)
    assert both.split("val") == alone.split("val") and both.split("train").images == tmp_path / "train"
    assert both.name == "Roboflow, named by flags"


@pytest.mark.parametrize(
    ("dataset_file", "flags", "words"),
    [
        ("coco", {"data_path": None}, ["--dataset_file coco needs --data_path", "--coco_path", "--val_annotations"]),
        ("hgp", {"data_path": None}, ["HGP: no such folder", "images/annotations/instances_train2017.json"]),
        ("custom", {"data_path": "absent"}, ["absent: no such folder"]),
        ("custom", {"data_path": "."}, ["looked for", "(COCO)", "(Roboflow)", "(CPPE-5)", "(HGP)", "--train_images"]),
        ("custom", {"data_path": None, "train_images": "x"}, ["--train_images needs --train_annotations"]),
        ("custom", {"data_path": ".", "val_annotations": "x"}, ["--val_annotations needs --val_images"]),
    ],
)
def test_what_is_none_of_them_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset_file: str, flags: dict, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError) as caught:
        find_layout(dataset_file, **flags)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_another_layout_than_the_dataset_has_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="it looks like Roboflow: --dataset_file custom reads that"):
        find_layout("coco", touch(tmp_path, *ROBOFLOW))


def test_a_split_that_is_not_there_names_its_flags(tmp_path: Path) -> None:
    layout = find_layout("coco", touch(tmp_path, COCO[0]))
    with pytest.raises(DatasetError, match="instances_val2017.json is not there.*--val_images --val_annotations"):
        layout.split("val")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (COCO, "coco"),
        (("annotations/panoptic_val2017.json",), "coco_panoptic"),
        (HGP, "custom"),
        (ROBOFLOW, "custom"),
        (CPPE5, "custom"),
        (ONE_FOLDER, "custom"),
        (("nothing.txt",), "custom"),
    ],
)
def test_the_folder_decides_on_the_dataset(tmp_path: Path, files: tuple[str, ...], expected: str) -> None:
    args = Namespace(dataset_file=None, data_path=str(touch(tmp_path, *files)))
    assert dataset_file_from_flags(args) == expected
    assert dataset_file_from_flags(Namespace(dataset_file="hgp", data_path=str(tmp_path))) == "hgp"


def test_flags_decide_on_the_dataset_where_there_is_no_folder() -> None:
    assert dataset_file_from_flags(Namespace()) == "coco"
    assert dataset_file_from_flags(Namespace(val_images="a", val_annotations="b")) == "custom"
    assert dataset_file_from_flags(Namespace(coco_path="a", coco_panoptic_path="b")) == "coco_panoptic"


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (("Annotations/a.xml", "JPEGImages/a.jpg"), "voc"),
        (("train/a.xml", "train/a.jpg"), "voc"),
        (("data.yaml", "train/images/a.jpg"), "yolo"),
        (("labels/train/a.txt", "images/train/a.jpg"), "yolo"),
        (("obj.names", "obj_train_data/a.jpg", "obj_train_data/a.txt"), "yolo"),
    ],
)
@pytest.mark.parametrize("dataset_file", ["coco", "custom"])
def test_the_command_that_converts_is_named(
    tmp_path: Path, files: tuple[str, ...], kind: str, dataset_file: str
) -> None:
    root = touch(tmp_path / "mine", *files)
    with pytest.raises(DatasetError) as caught:
        find_layout(dataset_file, root)
    assert f"python -m datasets.convert {kind} {root} {root}_coco converts it" in str(caught.value)
