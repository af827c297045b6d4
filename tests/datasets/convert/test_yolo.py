"""YOLO: boxes and polygons by hand, the layouts, data.yaml, and what is wrong named by file and line."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasets.coco import CocoDetection
from datasets.convert import __main__ as convert
from datasets.convert.folder import LabelledFolder
from datasets.convert.yolo import parse_label, read_yolo
from util.errors import DatasetError

SETS = {"train": "train", "val": "val"}


def add_image(path: Path, labels: Path | None, text: str = "0 0.5 0.5 1 1\n", size: tuple = (100, 50)) -> None:
    """An image, and its labels unless `labels` is None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    if labels:
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text(text)


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """images/{train,val} and labels/{train,val} with the classes cat and dog; the image train/sub/b has no labels."""
    root = tmp_path / "yolo"
    add_image(root / "images/train/a.jpg", root / "labels/train/a.txt", "1 0.5 0.5 0.2 0.4\n\n0 0.1 0.2 .5 .2 .5 .6\n")
    add_image(root / "images/train/sub/b.png", None)
    add_image(root / "images/val/c.jpg", root / "labels/val/c.txt", "0 0.25 0.25 0.5 0.5", size=(40, 40))
    (root / "labels/train/sub").mkdir()
    (root / "data.yaml").write_text("names: [cat, dog]\nnc: 2\ntrain: images/train\nval: images/val\n")
    return root


def corners(folder: LabelledFolder, split: str, image: int = 0) -> list[np.ndarray]:
    return [o.points for o in folder.splits[split][image].objects]


def refusal(root: Path) -> str:
    """The one line that reading the folder ends with."""
    with pytest.raises(DatasetError) as caught:
        read_yolo(root, sets=SETS)
    assert "\n" not in str(caught.value)
    return caught.value.line()


def test_boxes_and_polygons_in_pixels(yolo: Path) -> None:
    pytest.importorskip("yaml")
    folder = read_yolo(yolo, sets=SETS)
    assert folder.classes == {0: "cat", 1: "dog"} and folder.notes == []
    assert [(p.name, len(p.objects)) for p in folder.splits["train"]] == [("a.jpg", 2), ("sub/b.png", 0)]
    box, polygon = corners(folder, "train")
    np.testing.assert_allclose(box, [[40, 15], [60, 35]])
    np.testing.assert_allclose(polygon, [[10, 10], [50, 10], [50, 30]])
    np.testing.assert_allclose(corners(folder, "val")[0], [[0, 0], [20, 20]])


def test_the_converted_folder_loads_with_masks_of_its_polygons(yolo: Path, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    (yolo / "labels/train/a.txt").write_text("1 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6\n")
    assert convert.cli(["yolo", str(yolo), str(tmp_path / "coco")]) == 0
    root = tmp_path / "coco"
    dataset = CocoDetection(
        img_folder=root / "train2017", ann_file=root / "annotations/instances_train2017.json", return_masks=True
    )
    _, target = dataset.load(0)
    np.testing.assert_allclose(target["boxes"], [[10, 10, 50, 30]], atol=1e-5)
    assert target["masks"][0, 10:30, 10:50].all() and target["masks"].sum() == 800
    assert len(dataset.load(1)[1]["boxes"]) == 0  # sub/b.png


@pytest.mark.parametrize("names", ["[cat, dog]", "{1: dog, 0: cat}", "\n  0: cat\n  1: dog", "\n- cat\n- dog"])
def test_names_as_list_or_dictionary(yolo: Path, names: str) -> None:
    pytest.importorskip("yaml")
    (yolo / "data.yaml").write_text(f"names: {names}\n")
    assert sorted(read_yolo(yolo, sets=SETS).classes.items()) == [(0, "cat"), (1, "dog")]


def test_names_that_yaml_takes_for_something_else(yolo: Path) -> None:
    pytest.importorskip("yaml")
    (yolo / "data.yaml").rename(yolo / "mine.yml")
    (yolo / "mine.yml").write_text("names: [7, dog, no]\n")
    assert read_yolo(yolo, sets=SETS).classes == {0: "7", 1: "dog", 2: "False"}


def test_roboflows_layout_with_its_paths_that_point_beside_it(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    root = tmp_path / "export"
    for name in ("train", "valid"):
        add_image(root / name / "images/a.jpg", root / name / "labels/a.txt")
        add_image(tmp_path / name / "images/other.jpg", tmp_path / name / "labels/other.txt")  # another dataset
    (root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: ['cat']\n")
    folder = read_yolo(root, sets=SETS)
    assert {split: [p.path for p in images] for split, images in folder.splits.items()} == {
        "train": [root / "train/images/a.jpg"],
        "val": [root / "valid/images/a.jpg"],
    }


def test_data_yaml_says_where_the_images_are(yolo: Path) -> None:
    pytest.importorskip("yaml")
    for kind in ("images", "labels"):
        (yolo / kind / "train").rename(yolo / kind / "spring")
    (yolo / "data.yaml").write_text("path: images\ntrain: spring\nval: images/val\nnames: [cat, dog]\n")
    folder = read_yolo(yolo, sets=SETS)
    assert [len(folder.splits[split]) for split in SETS] == [2, 1] and len(corners(folder, "train")) == 2


def test_a_missing_set_and_labels_without_an_image_are_noted(yolo: Path) -> None:
    pytest.importorskip("yaml")
    (yolo / "labels/train/stray.txt").write_text("0 0.5 0.5 1 1")
    (yolo / "labels/train/classes.txt").write_text("cat\ndog\n")
    folder = read_yolo(yolo, sets={"train": "train", "val": "test"})
    assert folder.notes == [
        f"{yolo / 'labels/train'}: 1 files of labels belong to no image",
        f"{yolo}: no set test, so there are no images for val",
    ]


def test_boxes_of_an_upright_image_follow_it_to_how_it_is_stored(yolo: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8  # stored 100 x 50, turned left to be seen: 50 x 100
    Image.new("RGB", (100, 50)).save(yolo / "images/val/c.jpg", exif=exif)
    (yolo / "labels/val/c.txt").write_text("0 0.1 0.1 0.2 0.2")  # upright: x 0 to 10, y 0 to 20
    points = corners(read_yolo(yolo, sets=SETS, classes=["cat", "dog"]), "val")[0]
    np.testing.assert_allclose([points.min(0), points.max(0)], [[80, 0], [100, 10]], atol=1e-9)


def test_given_classes_need_no_yaml(yolo: Path) -> None:
    (yolo / "data.yaml").write_text("][")
    assert read_yolo(yolo, sets=SETS, classes=["cat", "dog"]).classes == {0: "cat", 1: "dog"}


# ---- mistakes


BAD_LABELS = {
    "dog 0.5 0.5 1 1": "'dog 0.5 0.5 1 1' is not made of numbers",
    "0.5 0.5 0.5 1 1": "'0.5 0.5 0.5 1 1' is no class index followed by finite numbers",
    "-1 0.5 0.5 1 1": "'-1 0.5 0.5 1 1' is no class index followed by finite numbers",
    "0 0.5 nan 1 1": "'0 0.5 nan 1 1' is no class index followed by finite numbers",
    "2 0.5 0.5 1 1": "class 2 has no name; the names are of 0 to 1",
    "0 0.5 0.5 1": "3 numbers after the class: 4 are a box, 6, 8, ... a polygon",
    "0": "0 numbers after the class: 4 are a box, 6, 8, ... a polygon",
    "0 0.5 0.5 1 1 0.9": "5 numbers after the class: 4 are a box, 6, 8, ... a polygon",
    "0 50 25 10 10": "'0 50 25 10 10' reaches outside of 0..1: not fractions of the image's size?",
    "0 0.9 0.5 0.3 1": "'0 0.9 0.5 0.3 1' reaches outside of 0..1: not fractions of the image's size?",
    "0 0.5 0.5 0 1": "'0 0.5 0.5 0 1' has no area",
    "0 0.5 0.5 1 -0.1": "'0 0.5 0.5 1 -0.1' has no area",
    "0 .1 .1 .2 .1 .3 .1": "'0 .1 .1 .2 .1 .3 .1' has no area",
    "0 0 0 .25 .25 .5 .5": "'0 0 0 .25 .25 .5 .5' has no area",
}


@pytest.mark.parametrize("line", BAD_LABELS)
def test_a_bad_label_is_named_by_file_and_line(yolo: Path, line: str) -> None:
    pytest.importorskip("yaml")
    (yolo / "labels/val/c.txt").write_text(f"0 0.5 0.5 1 1\n{line}\n")
    assert refusal(yolo) == f"{yolo / 'labels/val/c.txt'}:2: {BAD_LABELS[line]}"


def test_rounding_at_the_border_is_no_mistake(yolo: Path, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    (yolo / "labels/val/c.txt").write_text("0 0.500001 0.5 1 1\n")
    assert convert.cli(["yolo", str(yolo), str(tmp_path / "coco")]) == 0
    root = tmp_path / "coco"
    dataset = CocoDetection(img_folder=root / "val2017", ann_file=root / "annotations/instances_val2017.json")
    x, y, width, height = dataset.coco.anns[1]["bbox"]
    assert 0 < x < 1e-3 and x + width == 40 and (y, height) == (0, 40)


BAD_CONFIGS = {
    "][": "cannot be read as YAML (",
    "- cat": "holds no entries like names: and train:",
    "": "holds no entries like names: and train:",
    "names: cat": "names is no list of class names and no dictionary",
    "names: []": "names is no list of class names and no dictionary",
    "names: {a: cat}": "names is no list of class names and no dictionary",
    "nc: 1": "names is no list of class names and no dictionary",
    "{names: [cat], nc: 2}": "nc is 2, but names has 1 classes",
    "{names: [cat], kpt_shape: [17, 3]}": "kpt_shape says that the labels are poses, which are not read",
    "names: !!python/object/apply:os.system [false]": "cannot be read as YAML (",
}


@pytest.mark.parametrize("content", BAD_CONFIGS)
def test_a_bad_data_yaml(yolo: Path, content: str) -> None:
    pytest.importorskip("yaml")
    (yolo / "data.yaml").write_text(content)
    assert refusal(yolo).startswith(f"{yolo / 'data.yaml'}: {BAD_CONFIGS[content]}")


def test_without_data_yaml_or_the_package_that_reads_it(yolo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    needed = "needs PyYAML to be read: pip install pyyaml, or give --classes FILE"
    assert refusal(yolo) == f"{yolo / 'data.yaml'}: {needed}"
    (yolo / "data.yaml").unlink()
    assert (
        refusal(yolo)
        == f"{yolo}: no data.yaml or obj.names with the names of the classes; give them with --classes FILE"
    )


def test_folders_that_are_missing_or_empty(yolo: Path) -> None:
    pytest.importorskip("yaml")
    (yolo / "images/val/c.jpg").write_bytes(b"broken")
    assert refusal(yolo).startswith(f"{yolo / 'images/val/c.jpg'}: cannot be read as an image (")
    (yolo / "images/val/c.jpg").unlink()
    assert refusal(yolo) == f"{yolo / 'images/val'}: holds no images"
    (yolo / "labels").rename(yolo / "text")
    assert refusal(yolo).startswith(
        f"{yolo / 'labels/train'}: no such folder; the labels of {yolo / 'images/train'} are"
    )
    (yolo / "images").rename(yolo / "photos")
    assert refusal(yolo) == f"{yolo}: no images in images/train or train/images; name the set: --train_set"


def test_labels_that_are_no_text(yolo: Path) -> None:
    pytest.importorskip("yaml")
    (yolo / "labels/val/c.txt").write_bytes(b"\xff\xfe\x00")
    assert refusal(yolo) == f"{yolo / 'labels/val/c.txt'}: cannot be read as text"


# ---- properties


@given(
    st.integers(0, 10**6),
    st.lists(st.floats(0, 1, allow_subnormal=False), min_size=4, max_size=4).filter(
        lambda edges: abs(edges[0] - edges[2]) > 1e-3 and abs(edges[1] - edges[3]) > 1e-3
    ),
)
def test_a_written_box_is_read_back(label: int, edges: list[float]) -> None:
    (x0, x1), (y0, y1) = sorted(edges[0::2]), sorted(edges[1::2])
    line = f"{label} {(x0 + x1) / 2:.6f} {(y0 + y1) / 2:.6f} {x1 - x0:.6f} {y1 - y0:.6f}"
    found, points = parse_label(line)
    assert found == label
    np.testing.assert_allclose(points, [[x0, y0], [x1, y1]], atol=1.01e-6)


@given(st.text(max_size=40) | st.text("0123456789.-+e naif\t", max_size=60))
def test_any_text_is_a_label_or_one_reason(line: str) -> None:
    try:
        label, points = parse_label(line)
        assert label >= 0 and points.shape[1] == 2 and np.isfinite(points).all()
    except ValueError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("line", ["images/train/a.jpg", "./images/train/a.jpg"])
def test_a_file_that_lists_images_is_read(yolo: Path, line: str) -> None:
    pytest.importorskip("yaml")
    add_image(yolo / "images/train/more.jpg", yolo / "labels/train/more.txt")
    (yolo / "some.txt").write_text(f"{line}\n\n")
    (yolo / "data.yaml").write_text("names: [cat, dog]\ntrain: some.txt\nval: [images/val]\n")
    folder = read_yolo(yolo, sets=SETS)
    assert [(p.name, len(p.objects)) for p in folder.splits["train"]] == [("images/train/a.jpg", 2)]
    assert len(folder.splits["val"]) == 1
    (yolo / "some.txt").write_text("images/train/absent.jpg\n")
    assert "some.txt:1: no image images/train/absent.jpg" in refusal(yolo)


@pytest.mark.parametrize("said", ["{a: 1}", "3", "[images/train, elsewhere]"])
def test_an_entry_that_is_not_understood_is_refused_by_name(yolo: Path, said: str) -> None:
    pytest.importorskip("yaml")
    (yolo / "data.yaml").write_text(f"names: [cat, dog]\ntrain: {said}\n")
    assert ": train: " in refusal(yolo)


def test_an_entry_that_points_elsewhere_is_noted(yolo: Path) -> None:
    pytest.importorskip("yaml")
    (yolo / "data.yaml").write_text("names: [cat, dog]\ntrain: ../elsewhere/images\nval: images/val\n")
    (note,) = read_yolo(yolo, sets=SETS).notes
    assert "train: '../elsewhere/images'" in note and "images/train is taken" in note


def test_two_images_with_one_file_of_labels_are_refused(yolo: Path) -> None:
    pytest.importorskip("yaml")
    add_image(yolo / "images/train/a.png", None)
    assert "a.txt: belongs to two images" in refusal(yolo)
