"""Converting: the command, what it writes, and what it says; the formats have tests of their own."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from datasets.coco import CocoDetection
from datasets.convert import __main__ as convert
from datasets.convert.folder import (
    LabelledFolder,
    LabelledImage,
    LabelledObject,
    Mistakes,
    image_size,
    write_coco,
)
from util.errors import DatasetError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command: its exit code, what it printed, and its errors."""

    def call(*words: object) -> tuple[int, str, str]:
        try:
            code = convert.cli([str(word) for word in words])
        except SystemExit as exit_:
            code = exit_.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """A YOLO folder with the classes cat and dog, two images of 100 x 50 to train on and one of 40 x 40."""
    root = tmp_path / "yolo"
    for name, size in (("train/a", (100, 50)), ("train/b", (100, 50)), ("val/c", (40, 40))):
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(root / "images" / f"{name}.png")
    (root / "labels/train/a.txt").write_text("1 0.5 0.5 0.2 0.4\n0 0.1 0.2 0.5 0.2 0.5 0.6\n")
    (root / "labels/val/c.txt").write_text("0 0.25 0.25 0.5 0.5\n")
    (root / "classes.txt").write_text("cat\ndog\n")
    return root


def test_the_command_writes_what_training_reads_and_ends_with_counts(run: Run, yolo: Path, tmp_path: Path) -> None:
    code, out, err = run("yolo", yolo, tmp_path / "coco", "--classes", yolo / "classes.txt")
    assert (code, err) == (0, "")
    assert out == (
        "train: 2 images, 2 objects (1 with polygons), 1 images without objects (kept)\n"
        "val: 1 images, 1 objects (0 with polygons), 0 images without objects (kept)\n"
        "classes (id, name, objects): 1 cat 2, 2 dog 1\n"
    )
    root = tmp_path / "coco"
    dataset = CocoDetection(
        img_folder=root / "train2017", ann_file=root / "annotations/instances_train2017.json", num_classes=3
    )
    assert dataset.class_names == {1: "cat", 2: "dog"} and len(dataset) == 2
    image, target = dataset.load(0)
    assert image.size == (100, 50) and target["labels"].tolist() == [2, 1]
    np.testing.assert_allclose(target["boxes"], [[40, 15, 60, 35], [10, 10, 50, 30]], atol=1e-5)
    np.testing.assert_allclose(target["area"], [20 * 20, 40 * 20 / 2], rtol=1e-6)
    assert len(dataset.load(1)[1]["boxes"]) == 0


def test_ids_start_at_one_and_polygons_are_kept(run: Run, yolo: Path, tmp_path: Path) -> None:
    run("yolo", yolo, tmp_path / "coco", "--classes", yolo / "classes.txt")
    data = json.loads((tmp_path / "coco/annotations/instances_train2017.json").read_text())
    assert [c["id"] for c in data["categories"]] == [1, 2] and [i["id"] for i in data["images"]] == [1, 2]
    assert [(a["id"], a["image_id"], a["iscrowd"]) for a in data["annotations"]] == [(1, 1, 0), (2, 1, 0)]
    assert "segmentation" not in data["annotations"][0]
    np.testing.assert_allclose(data["annotations"][1]["segmentation"], [[10, 10, 50, 10, 50, 30]])


def test_images_are_links_unless_copies_are_asked_for(run: Run, yolo: Path, tmp_path: Path) -> None:
    (yolo / "images/train/b.png").rename(tmp_path / "far.png")
    (yolo / "images/train/b.png").symlink_to(tmp_path / "far.png")
    for folder, same in (("linked", True), ("copied", False)):
        run("yolo", yolo, tmp_path / folder, "--classes", yolo / "classes.txt", *([] if same else ["--copy"]))
        for name in "ab":
            image = tmp_path / folder / "train2017" / f"{name}.png"
            assert image.samefile(yolo / "images/train" / f"{name}.png") == same and not image.is_symlink()


def test_where_links_are_impossible_images_are_copied(
    run: Run, yolo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("another file system")

    monkeypatch.setattr("datasets.convert.folder.os.link", refuse)
    assert run("yolo", yolo, tmp_path / "coco", "--classes", yolo / "classes.txt")[0] == 0
    assert (tmp_path / "coco/val2017/c.png").read_bytes() == (yolo / "images/val/c.png").read_bytes()


def test_a_folder_that_holds_something_is_refused_and_untouched(run: Run, yolo: Path, tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco/mine.txt").write_text("x")
    code, _, err = run("yolo", yolo, tmp_path / "coco", "--classes", yolo / "classes.txt")
    assert (
        code == 2
        and err == f"datasets.convert: error: {tmp_path / 'coco'}: exists and is not empty; name a new folder\n"
    )
    assert [path.name for path in (tmp_path / "coco").iterdir()] == ["mine.txt"]


def test_a_stopped_conversion_leaves_no_folder_and_can_be_run_again(
    run: Run, yolo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("datasets.convert.folder.os.replace", stop)
        code, out, _ = run("yolo", yolo, tmp_path / "coco", "--classes", yolo / "classes.txt")
    assert code == 130 and out == f"stopped; {tmp_path / 'coco'} was not made\n" and not (tmp_path / "coco").exists()
    assert run("yolo", yolo, tmp_path / "coco", "--classes", yolo / "classes.txt")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coco", "yolo"]


def test_a_place_that_cannot_be_written(run: Run, yolo: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    code, _, err = run("yolo", yolo, tmp_path / "file" / "coco", "--classes", yolo / "classes.txt")
    assert code == 2 and "cannot be written (Not a directory)" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "content, reason",
    [
        (None, "cannot be read (No such file or directory)"),
        (b"\xff\xfe", "cannot be read (not text)"),
        (b"", "holds no names, an empty line, or the same name twice"),
        (b"cat\n\ndog\n", "holds no names, an empty line, or the same name twice"),
        (b"cat\ncat\n", "holds no names, an empty line, or the same name twice"),
    ],
)
def test_a_bad_file_of_classes(run: Run, yolo: Path, tmp_path: Path, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "names").write_bytes(content)
    code, _, err = run("yolo", yolo, tmp_path / "coco", "--classes", tmp_path / "names")
    assert code == 2 and err == f"datasets.convert: error: --classes {tmp_path / 'names'}: {reason}\n"


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ("coco", "a", "b"),
            "argument kind: invalid choice: 'coco' (choose from 'voc', 'yolo', 'labelme', 'hf', 'auto')",
        ),
        (("voc", "a"), "the following arguments are required: DEST"),
        (("yolo", "a", "b", "--difficult_as_crowd"), "--difficult_as_crowd is for voc"),
        (("yolo", "/nowhere", "b"), "/nowhere: no such folder"),
        (("voc", "/nowhere", "b"), "/nowhere/JPEGImages: no such folder"),
    ],
)
def test_mistakes_are_one_line(run: Run, words: tuple[str, ...], message: str) -> None:
    code, _, err = run(*words)
    assert code == 2 and err.startswith(f"datasets.convert: error: {message}") and err.count("\n") == 1


# ---- the folder in between


def labelled(path: Path, *boxes: list[list[float]]) -> LabelledFolder:
    objects = [LabelledObject(0, np.array(box, dtype=float)) for box in boxes]
    return LabelledFolder({0: "cat"}, {"train": [LabelledImage(path, "a.png", 100, 50, objects)]})


def test_boxes_are_clipped_and_counted_where_more_than_a_pixel_goes(tmp_path: Path) -> None:
    Image.new("RGB", (100, 50)).save(tmp_path / "a.png")
    folder = labelled(tmp_path / "a.png", [[-0.5, 10], [20, 50.9]], [[90, 0], [110, 10]])
    write_coco(folder, tmp_path / "coco", copy=False)
    data = json.loads((tmp_path / "coco/annotations/instances_train2017.json").read_text())
    assert [a["bbox"] for a in data["annotations"]] == [[0, 10, 20, 40], [90, 0, 10, 10]]
    assert folder.notes == ["1 boxes reached more than a pixel over the border: clipped"]


def test_a_box_outside_of_its_image_is_refused(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "a.png", [[100, 0], [110, 10]], [[0, -9], [1, -5]])
    with pytest.raises(DatasetError) as caught:
        write_coco(folder, tmp_path / "coco", copy=False)
    first = f"{tmp_path / 'a.png'}: a box of class cat lies outside of it"
    assert caught.value.line() == f"{first} (and 1 more mistakes in other places)"
    assert not (tmp_path / "coco").exists()


def test_one_mistake_is_named_alone() -> None:
    mistakes = Mistakes()
    mistakes.raise_any()
    mistakes.add("a.txt:3", "bad")
    with pytest.raises(DatasetError, match="^a.txt:3: bad$"):
        mistakes.raise_any()


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_points_of_the_upright_image_are_found_in_the_stored_one(tmp_path: Path, orientation: int) -> None:
    stored = np.zeros((30, 50), dtype=np.uint8)
    stored[4, 7] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    size = image_size(tmp_path / "a.png")
    assert (size.width, size.height) == (50, 30) and size.upright == upright.shape[::-1]
    row, column = np.argwhere(upright)[0]
    centre = np.array([[(column + 0.5) / upright.shape[1], (row + 0.5) / upright.shape[0]]])
    np.testing.assert_allclose(size.to_stored(centre), [[7.5, 4.5]])


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"a.png: cannot be read as an image \("):
        image_size(tmp_path / "a.png")
