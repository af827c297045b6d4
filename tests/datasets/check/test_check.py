"""The check, finding by finding, on a folder that has every fault, as the command line gives it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasets.check import __main__ as check
from tests.datasets.fault_folder import write_fault_folder

Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Run the command in `tmp_path`: its exit code, what it printed, and its errors."""
    monkeypatch.chdir(tmp_path)

    def call(*flags: object) -> tuple[int, str, str]:
        code = check.cli([str(flag) for flag in flags])
        return code, *capsys.readouterr()

    return call


def report_of(run: Check, *flags: object) -> dict[str, Any]:
    code, _, err = run(*flags, "--json", "report.json")
    report = json.loads(Path("report.json").read_text())
    assert report["exit_code"] == code, err
    return report


def findings_of(split: dict[str, Any]) -> dict[str, tuple[str, int, str]]:
    return {f["kind"]: (f["action"], f["count"], f["example"]) for f in split["findings"]}


#: Kind, action, count, and what the example names beside the annotation file.
TRAIN = [
    ("text or a decimal where an integer belongs", "repaired", 4, "image id '12'"),
    ("image ids listed twice for one file", "repaired", 1, "image id 1: "),
    ("annotations listed twice", "repaired", 1, "annotation id 1: "),
    ("annotations of images that are not listed", "repaired", 1, "annotation id 14: image_id 77"),
    ("annotations without iscrowd", "repaired", 1, "annotation id 12: "),
    ("annotations without area", "repaired", 1, "annotation id 11: "),
    ("annotations without a box", "repaired", 1, "annotation id 13: "),
    ("boxes with numbers as text", "repaired", 1, "annotation id 2: "),
    ("boxes with NaN, infinite or absurdly large numbers", "repaired", 1, "annotation id 3: "),
    ("boxes without width or height", "repaired", 1, "annotation id 4: "),
    ("boxes outside their image", "repaired", 2, "annotation id 5: "),
    ("boxes over the edge of their image", "repaired", 2, "annotation id 6: "),
    (
        "images with another height or width than their file",
        "repaired",
        1,
        "image 4: {images}/wrong_size.png: ",
    ),
    ("crowds", "kept", 1, "annotation id 10: "),
    ("boxes that disagree with their polygon or mask", "kept", 19, "annotation id 6: "),
    ("objects with the box and the label of another", "kept", 5, "annotation id 2: "),
    ("objects without polygons", "kept", 1, "annotation id 9: "),
    ("category ids that are only parents of others", "kept", 1, "category id 0: name 'animal'"),
    ("category ids that no object uses", "kept", 1, "category id 7: name 'car'"),
    ("images without objects", "kept", 1, "image id 2: "),
    ("images with more objects than --num_queries", "kept", 1, "image id 8: objects 16"),
    (
        "images that EXIF turns, with the turned size listed",
        "kept",
        1,
        "image 3: {images}/turned.jpg: EXIF orientation 6",
    ),
    ("images that EXIF turns", "kept", 1, "image 10: {images}/upside_down.jpg: EXIF orientation 3"),
    ("images with 16 bits a pixel", "kept", 1, "image 5: {images}/deep.png: mode I;16"),
    ("images that are not RGB", "kept", 2, "image 6: {images}/palette.png: mode P"),
    ("image files with another name than listed", "kept", 1, "image 11: {images}/prefixed.png: /home/someone"),
    (
        "images listed more than once in a split",
        "kept",
        1,
        "images 1 and 9: {images}/good.png and {images}/good_again.bmp",
    ),
]


def test_every_fault_is_found_with_its_count_example_and_action(run: Check, tmp_path: Path) -> None:
    root = write_fault_folder(tmp_path / "faults")
    report = report_of(run, "--data_path", root, "--num_queries", 12)
    assert report["exit_code"] == 1 and report["verdict"] == "repaired"
    assert report["layout"] == "one folder of images" and report["data_path"] == str(root)
    train = findings_of(report["splits"]["train"])
    for kind, action, count, words in TRAIN:
        assert train[kind][:2] == (action, count), kind
        assert train[kind][2].startswith(f"{root}/annotations/train.json: {words.format(images=root / 'images')}")
    assert set(train) == {kind for kind, *_ in TRAIN}
    (leak,) = report["across_splits"]
    assert (leak["kind"], leak["count"], leak["action"]) == ("images in several splits", 1, "kept")
    assert leak["example"].startswith(
        f"{root}/images/good.png (image 1 of train) and {root}/images/good.png (image 2 of val"
    )


def test_numbers_of_a_split(run: Check, tmp_path: Path) -> None:
    report = report_of(run, "--data_path", write_fault_folder(tmp_path / "faults"))
    train = report["splits"]["train"]
    assert (train["images"], train["images_without_objects"], train["boxes"]) == (12, 1, 34)
    assert train["boxes_by_class"] == {"0": 0, "1": 33, "2": 1, "7": 0}
    assert report["class_names"] == {"0": "animal", "1": "cat", "2": "dog", "7": "car"}
    assert train["most_objects_in_an_image"] == 16
    sizes = train["box_sizes"]
    assert sizes["edges"][:4] == [0, 8, 16, 32] and sizes["edges"][-1] is None and sum(sizes["counts"]) == 34


def test_images_that_stop_training_are_refused_and_the_rest_is_still_reported(run: Check, tmp_path: Path) -> None:
    root = write_fault_folder(tmp_path / "faults", unreadable=True)
    report = report_of(run, "--data_path", root)
    found = findings_of(report["splits"]["train"])
    assert report["exit_code"] == 2
    assert found["image files that are not there"][:2] == ("refused", 1)
    assert found["image files that are not there"][2].endswith("missing.png")
    assert found["image files that cannot be decoded"][:2] == ("refused", 2)
    assert "truncated.png: " in found["image files that cannot be decoded"][2]
    assert "crowds" in found


def test_refused_annotations_are_named_and_the_images_looked_at_all_the_same(run: Check, tmp_path: Path) -> None:
    root = write_fault_folder(tmp_path / "faults", unreadable=True, refused=True)
    report = report_of(run, "--data_path", root)
    train = report["splits"]["train"]
    found = findings_of(train)
    assert report["exit_code"] == 2 and train["images"] == 15
    assert "annotation id 400: category_id 99" in train["error"]
    assert found["labels that are no category"][:2] == ("refused", 1)
    assert found["image files that are not there"][1] == 1 and found["boxes without width or height"][1] == 1
    assert report["splits"]["val"]["error"] is None


def test_what_people_read(run: Check, tmp_path: Path) -> None:
    root = write_fault_folder(tmp_path / "faults")
    code, out, err = run("--data_path", root, "--num_queries", 12)
    assert code == 1 and "images:" not in out
    assert f"  train: {root}/annotations/train.json, images in {root}/images" in out
    assert (
        "train: 12 images, 1 of them without objects; 34 boxes of 4 classes; objects an image: median 1, at most 16"
        in out
    )
    assert "    1  cat               33             2" in out
    assert "repaired      2  boxes over the edge of their image: clamped to the image" in out
    assert "first: " in out and "across splits:" in out
    assert "0 to 8 small" in out and "####" in out
    assert out.splitlines()[-2] == "repaired: it loads, with the repairs above (exit code 1)"


def test_a_sheet_is_drawn_only_where_it_is_asked_for(run: Check, tmp_path: Path) -> None:
    root, before = write_fault_folder(tmp_path / "faults"), set(Path().iterdir())
    _, out, _ = run("--data_path", root)
    assert set(Path().iterdir()) == before and out.splitlines()[-1].startswith("--sheet FILE draws")
    _, out, _ = run("--data_path", root, "--sheet", "boxes.png")
    assert out.splitlines()[-1].startswith("wrote boxes.png: ")
    with Image.open("boxes.png") as sheet:
        assert sheet.width > 4 * 320 and sheet.height > 2 * 240


def test_strict_refuses_what_loading_would_repair(run: Check, tmp_path: Path) -> None:
    root = write_fault_folder(tmp_path / "faults")
    code, out, _ = run("--data_path", root, "--strict")
    assert code == 2 and "--strict refuses" in out


@pytest.mark.parametrize("unreadable", [False, True])
def test_what_fix_writes_is_sound(run: Check, tmp_path: Path, unreadable: bool) -> None:
    root = write_fault_folder(tmp_path / "faults", unreadable=unreadable)
    code, out, _ = run("--data_path", root, "--fix", "fixed")
    assert code == (2 if unreadable else 1) and "wrote fixed/train.json, fixed/val.json" in out
    (flags,) = re.findall("to use them: (.*)", out)
    report = report_of(run, *flags.split(), "--strict")
    assert report["exit_code"] == 0 and report["verdict"] == "sound"
    data = json.loads(Path("fixed/train.json").read_text())
    images = {image["id"]: image for image in data["images"]}
    assert len(images) == 12 and images[11]["file_name"] == "prefixed.png"
    assert (images[4]["width"], images[4]["height"], images[12]["file_name"]) == (40, 30, "text_id.png")
    boxes = {a["id"]: a["bbox"] for a in data["annotations"]}
    assert boxes[6] == [35, 2, 5, 6] and boxes[20] == [30, 10, 10, 10] and 2 not in boxes  # equal to 1
    assert not {3, 4, 5, 13, 21} & set(boxes)


def test_a_single_file_can_be_repaired_into_a_single_file(run: Check, tmp_path: Path) -> None:
    root = write_fault_folder(tmp_path / "faults")
    parts = ("--train_images", root / "images", "--train_annotations", root / "annotations" / "train.json")
    assert run(*parts, "--fix", "all.json")[0] == 1
    assert len(json.loads(Path("all.json").read_text())["images"]) == 12


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data_path", "faults", "--fix", "one.json"], ["--fix one.json", "2 splits"]),
        (["--data_path", "faults", "--fix", "faults/annotations"], ["that is the file to be repaired"]),
        (
            ["--data_path", "refused", "--fix", "out"],
            ["--fix out", "the train annotations are refused", "category_id 99"],
        ),
        (["--data_path", "absent"], ["absent: no such folder"]),
        (["--data_path", "faults", "--coco_path", "absent"], ["two values"]),
        (["--dataset_file", "shapes"], ["--dataset_file shapes"]),
        (["--dataset_file", "coco_panoptic", "--fix", "out"], ["--fix"]),
        (["--dataset_file", "voc"], ["--dataset_file voc: no such dataset"]),
        (["--data_path", "faults", "--json", "faults/images/good.png/x"], ["cannot be written"]),
        (["--data_path", "faults", "--sheet", "faults/images/good.png/x"], ["cannot be written"]),
    ],
)
def test_mistakes_are_one_line(run: Check, tmp_path: Path, flags: list[str], words: list[str]) -> None:
    write_fault_folder(tmp_path / "faults")
    write_fault_folder(tmp_path / "refused", refused=True)
    before = (tmp_path / "faults" / "annotations" / "train.json").read_bytes()
    code, _, err = run(*flags)
    assert code == 2 and len(err.splitlines()) == 1 and err.startswith("check: error: "), err
    for word in words:
        assert word in err
    assert (tmp_path / "faults" / "annotations" / "train.json").read_bytes() == before


@pytest.mark.parametrize(
    "odd", ["x" * 5000, "a\nb", "\ud800", "\x00", "../..", 10**30, -1, 2.5, None, [], {"a": 1}, True]
)
def test_odd_values_are_reported_and_end_nothing_else(run: Check, tmp_path: Path, odd: Any) -> None:
    root = write_fault_folder(tmp_path / "faults")
    path = root / "annotations" / "train.json"
    whole = path.read_text()
    for part, index, key in (
        ("images", 0, "file_name"),
        ("images", 0, "id"),
        ("images", 0, "width"),
        ("categories", 1, "name"),
        ("annotations", 0, "bbox"),
        ("annotations", 0, "category_id"),
    ):
        data = json.loads(whole)
        data[part][index][key] = odd
        path.write_text(json.dumps(data))
        code, out, _ = run("--data_path", root, "--json", "report.json")
        assert code in (1, 2) and out.encode(), (part, key)
        assert json.loads(Path("report.json").read_text())["exit_code"] == code


def test_broken_json_is_refused_and_the_other_split_checked(run: Check, tmp_path: Path) -> None:
    root = write_fault_folder(tmp_path / "faults")
    (root / "annotations" / "train.json").write_text("{")
    report = report_of(run, "--data_path", root)
    assert report["exit_code"] == 2 and "not JSON" in report["splits"]["train"]["error"]
    assert report["splits"]["val"]["images"] == 2


def test_sound_data_and_classes_that_differ(run: Check, coco_folder: Path) -> None:
    """The tiny folder of the other tests has two boxes to repair; without them it is sound."""
    for split in ("train2017", "val2017"):
        path = coco_folder / "annotations" / f"instances_{split}.json"
        data = json.loads(path.read_text())
        data["annotations"] = [a for a in data["annotations"] if a["id"] in (1, 2, 3)]
        path.write_text(json.dumps(data))
    assert run("--dataset_file", "coco", "--data_path", coco_folder)[0] == 0
    data["categories"][0]["name"] = "horse"
    path.write_text(json.dumps(data))
    report = report_of(run, "--data_path", coco_folder)
    (renamed,) = [f for f in report["across_splits"] if f["action"] == "refused"]
    assert report["exit_code"] == 2 and renamed["example"] == "id 7: 'cat' in train, 'horse' in val"


def test_labels_of_the_validation_split_beyond_the_training_classes(run: Check, coco_folder: Path) -> None:
    path = coco_folder / "annotations" / "instances_val2017.json"
    data = json.loads(path.read_text())
    data["categories"].append({"id": 50, "name": "new"})
    data["annotations"][0]["category_id"] = 50
    path.write_text(json.dumps(data))
    report = report_of(run, "--data_path", coco_folder)
    assert report["exit_code"] == 2 and report["splits"]["train"]["error"] is None
    assert "labels beyond --num_classes" in findings_of(report["splits"]["val"])


def test_hgp_names_are_found_by_their_rule(run: Check, tmp_path: Path) -> None:
    root = write_fault_folder(tmp_path / "faults")
    hgp = tmp_path / "HGP" / "images"
    (hgp / "annotations").mkdir(parents=True)
    for split, prefix in (("train2017", "T"), ("val2017", "V")):
        (hgp / split).mkdir()
        data = {"images": [], "annotations": [], "categories": [{"id": 0, "name": "phone"}]}
        for id_, name in ((0, "good.png"), (4, "alpha.png")):
            shutil.copy(root / "images" / name, hgp / split / f"{prefix}{id_:08d}.png")
            data["images"].append({"id": id_, "file_name": f"{id_:08d}.png", "width": 40, "height": 30})
            data["annotations"].append(
                {"id": id_ + 1, "image_id": id_, "category_id": 0, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
            )
        (hgp / "annotations" / f"instances_{split}.json").write_text(json.dumps(data))
    report = report_of(run, "--dataset_file", "hgp")  # ./HGP, where the command runs
    found = findings_of(report["splits"]["val"])
    assert report["exit_code"] == 0 and report["layout"] == "HGP"
    assert found["image files with another name than listed"][:2] == ("kept", 2)
    assert report["across_splits"][0]["count"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "layout", "images", "boxes"),
    [("coco_mini", "COCO", [64, 64], [542, 440]), ("bccd", "one folder of images", [205, 87, 72], [2804, 1137, 945])],
)
def test_real_data_is_sound(
    run: Check, shared_dir: Path, folder: str, layout: str, images: list[int], boxes: list[int]
) -> None:
    report = report_of(run, "--data_path", shared_dir / "data" / folder)
    splits = report["splits"].values()
    assert report["exit_code"] == 0 and report["layout"] == layout and report["across_splits"] == []
    assert [split["images"] for split in splits] == images and [split["boxes"] for split in splits] == boxes
