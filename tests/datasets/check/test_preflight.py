"""The look before training: silent on sound data, a line for what is odd, an error for what would stop training."""

import json
from argparse import Namespace
from os.path import isfile
from pathlib import Path

import pytest
from PIL import Image
from torch.utils.data import Subset

from datasets import build_dataset
from datasets.annotations.findings import Findings
from datasets.check import preflight, seen
from datasets.check.preflight import check_before_training
from datasets.check.report import Report, as_text
from datasets.check.split import check_split
from datasets.image_files import by_file_name
from datasets.layout import DatasetSplits, Split
from datasets.shapes.dataset import ShapesDataset
from tests.datasets.fault_folder import exif
from util.errors import DatasetError

pytestmark = pytest.mark.usefixtures("narrow_resnet18")


def build(folder: Path) -> dict:
    args = Namespace(dataset_file="coco", data_path=folder, masks=False)
    return {split: build_dataset(split, args) for split in ("train", "val")}


def test_sound_data_and_data_without_files_are_passed_in_silence(coco_folder: Path) -> None:
    assert check_before_training(build(coco_folder)) == []
    assert check_before_training({"train": ShapesDataset(image_set="train", size=2)}) == []


def test_a_missing_image_is_named_with_the_number_of_its_kind(coco_folder: Path) -> None:
    for name in ("000000000004.png", "000000000007.png"):
        (coco_folder / "val2017" / name).unlink()
    splits = build(coco_folder)
    expected = (
        "000000000004.png: no such file .image id 4 of .*instances_val2017.json.; 2 of the 4 images of the val split"
    )
    with pytest.raises(DatasetError, match=expected):
        check_before_training(splits)
    kept = {"train": splits["train"], "val": Subset(Subset(splits["val"], [3, 0, 1]), [0, 1])}
    assert check_before_training(kept) == []  # only what is used is looked at


def test_many_images_are_looked_up_in_lists_of_their_folders(
    coco_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder and a link to nothing are no files there either; what is not listed as it is named is asked for."""
    monkeypatch.setattr(preflight, "MANY", 1)
    assert check_before_training(build(coco_folder)) == []
    path, images = coco_folder / "annotations" / "instances_val2017.json", coco_folder / "val2017"
    data = json.loads(path.read_text())
    (images / "part").mkdir()
    for image, name in zip(data["images"], ("part/first.png", "./part/second.png", "folder.png", "nothing.png")):
        Image.new("RGB", (image["width"], image["height"])).save(images / "part" / Path(name).name)
        image["file_name"] = name
    path.write_text(json.dumps(data))
    (images / "folder.png").mkdir()
    (images / "nothing.png").symlink_to(images / "gone.png")
    asked = []
    monkeypatch.setattr(preflight, "isfile", lambda place: asked.append(Path(place).name) or isfile(place))
    with pytest.raises(
        DatasetError, match=r"(folder|nothing)\.png: no such file .*; 2 of the 4 images of the val split"
    ):
        check_before_training(build(coco_folder))
    assert set(asked) == {"folder.png", "nothing.png"}


def test_folders_in_which_nothing_came_or_went_are_not_listed_again(
    coco_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "MANY", 1)
    listed, list_files = [], preflight._files_in
    monkeypatch.setattr(preflight, "_files_in", lambda folder: listed.append(folder) or list_files(folder))

    def check(cache: bool = True) -> int:
        listed.clear()
        args = Namespace(dataset_file="coco", data_path=coco_folder, masks=False, cache=cache)
        assert check_before_training({"val": build_dataset("val", args)}) == []
        return len(listed)

    # Nothing is noted of a folder that has just changed, nor with --no_cache.
    assert (check(), check()) == (1, 1)
    monkeypatch.setattr(seen, "SAME_TIME", 0)
    assert [check(cache=False), check(), check(), check(cache=False)] == [1, 1, 0, 1]
    (note,) = (coco_folder / "annotations").glob(".*.seen")
    for damaged in (b"[]", note.read_bytes()[:-4]):
        note.write_bytes(damaged)
        assert (check(), check()) == (1, 0)
    file = coco_folder / "val2017" / "000000000007.png"
    file.rename(file.with_name("away.png"))
    with pytest.raises(DatasetError, match="7.png: no such file"):
        check()
    # What a link leads to goes without a trace in the folder.
    file.symlink_to("away.png")
    assert (check(), check()) == (1, 1)


def test_what_cannot_be_decoded_and_what_is_odd(coco_folder: Path) -> None:
    Image.new("RGB", (60, 40)).save(coco_folder / "train2017" / "000000000001.png", format="JPEG", exif=exif(3))
    Image.new("L", (9, 9)).save(coco_folder / "train2017" / "000000000007.png")
    (line,) = check_before_training(build(coco_folder))  # a turned or a grey image alone is not worth a line
    assert line.startswith("check of a handful of images: images with another height or width than their file: 1 (")
    assert "000000000007.png: 33 x 47 listed, 9 x 9 in the file" in line
    (coco_folder / "train2017" / "000000000009.png").write_text("no image")
    with pytest.raises(DatasetError, match="image 9: .*000000000009.png: .*cannot be decoded .*--no_check"):
        check_before_training(build(coco_folder))


def test_classes_that_change_their_name_between_the_splits(coco_folder: Path) -> None:
    path = coco_folder / "annotations" / "instances_val2017.json"
    data = json.loads(path.read_text())
    data["categories"][0]["name"] = "CAT "
    path.write_text(json.dumps(data))
    assert check_before_training(build(coco_folder)) == []
    data["categories"][0]["name"] = "horse"
    path.write_text(json.dumps(data))
    with pytest.raises(DatasetError, match="id 7: 'cat' in train, 'horse' in val"):
        check_before_training(build(coco_folder))


def test_names_with_backslashes_get_a_way_out(coco_folder: Path) -> None:
    path = coco_folder / "annotations" / "instances_val2017.json"
    data = json.loads(path.read_text())
    data["images"] = [image | {"file_name": f"C:\\set\\{image['file_name']}"} for image in data["images"]]
    path.write_text(json.dumps(data))
    with pytest.raises(DatasetError, match="--dataset_file custom finds it as .*val2017/000000000001.png"):
        check_before_training(build(coco_folder))
    assert "--dataset_file custom finds it as" in describe_check(coco_folder)


def describe_check(folder: Path) -> str:
    """The text that `datasets.check` prints about the validation images."""
    split = Split(folder / "val2017", folder / "annotations" / "instances_val2017.json")
    checked = check_split("val", split, by_file_name, 9, None, False)
    return as_text(Report(DatasetSplits("x", folder, {}), [checked.report], Findings(), 9))
