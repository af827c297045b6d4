"""Pascal VOC: boxes by hand, sets, classes, and what is wrong named by file and line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasets.coco import CocoDetection
from datasets.convert import __main__ as convert
from datasets.convert.folder import LabelledFolder
from datasets.convert.voc import parse_xml, read_voc
from util.errors import DatasetError

Read = Callable[..., LabelledFolder]


def thing(name: str, box: tuple, *, difficult: int | None = None, more: str = "") -> str:
    """An <object> on one line."""
    edges = "".join(f"<{edge}>{value}</{edge}>" for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), box))
    mark = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return f"<object>{more}<name>{name}</name>{mark}<bndbox>{edges}</bndbox></object>\n"


def annotation(*objects: str, size: tuple[int, int] | None = (100, 50)) -> str:
    """A file of Annotations; its first object stands on line 3."""
    sides = "<size><width>{}</width><height>{}</height><depth>3</depth></size>".format(*size) if size else ""
    return f"<annotation>\n<filename>other.jpg</filename>{sides}\n{''.join(objects)}</annotation>"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A folder with the images a, b (train) and c (val) of 100 x 50; b has no XML."""
    root = tmp_path / "voc"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for name in "abc":
        Image.new("RGB", (100, 50)).save(root / "JPEGImages" / f"{name}.jpg")
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    (root / "Annotations/a.xml").write_text(
        annotation(thing("dog", (1, 1, 100, 50)), thing("cat", (11, 6, 30, 25), difficult=1, more=part))
    )
    (root / "Annotations/c.xml").write_text(annotation(thing("bird", ("48.5", 8, 60, 9), difficult=0)))
    (root / "ImageSets/Main/train.txt").write_text("a\nb\n")
    (root / "ImageSets/Main/val.txt").write_text("c\n")
    return root


def annotations_of(root: Path, *, image_id: int) -> list[dict]:
    """The converted file's own entries: loading keeps only what training and evaluation need."""
    entries = json.loads((root / "annotations/instances_train2017.json").read_text())["annotations"]
    return [entry for entry in entries if entry["image_id"] == image_id]


@pytest.fixture
def read(voc: Path) -> Read:
    """Read the folder's train and val."""
    return lambda **options: read_voc(voc, **{"sets": {"train": "train", "val": "val"}, **options})


def test_boxes_count_from_zero_and_classes_are_in_alphabetical_order(read: Read) -> None:
    folder = read()
    assert folder.classes == {0: "bird", 1: "cat", 2: "dog"} and folder.notes == []
    a, b = folder.splits["train"]
    assert (a.name, a.width, a.height) == ("a.jpg", 100, 50) and b.objects == []
    assert [o.label for o in a.objects] == [2, 1]
    np.testing.assert_array_equal(a.objects[0].points, [[0, 0], [100, 50]])  # the whole image
    np.testing.assert_array_equal(a.objects[1].points, [[10, 5], [30, 25]])
    np.testing.assert_array_equal(folder.splits["val"][0].objects[0].points, [[47.5, 7], [60, 9]])


def test_the_converted_folder_loads(voc: Path, tmp_path: Path) -> None:
    assert convert.cli(["voc", str(voc), str(tmp_path / "coco")]) == 0
    root = tmp_path / "coco"
    dataset = CocoDetection(img_folder=root / "train2017", ann_file=root / "annotations/instances_train2017.json")
    assert dataset.class_names == {1: "bird", 2: "cat", 3: "dog"} and len(dataset) == 2
    _, target = dataset.load(0)
    assert target["boxes"].tolist() == [[0, 0, 100, 50], [10, 5, 30, 25]] and target["labels"].tolist() == [3, 2]
    assert target["area"].tolist() == [5000, 400]
    assert [a["difficult"] for a in annotations_of(root, image_id=1)] == [0, 1]


def test_difficult_objects_become_crowds_only_when_asked(voc: Path, tmp_path: Path) -> None:
    assert convert.cli(["voc", str(voc), str(tmp_path / "coco"), "--difficult_as_crowd"]) == 0
    root = tmp_path / "coco"
    dataset = CocoDetection(img_folder=root / "train2017", ann_file=root / "annotations/instances_train2017.json")
    annotations = annotations_of(root, image_id=1)
    assert [(a["iscrowd"], a["difficult"]) for a in annotations] == [(0, 0), (1, 1)]
    assert dataset.load(0)[1]["labels"].tolist() == [3]


def test_given_classes_decide_the_order(read: Read) -> None:
    folder = read(classes=["dog", "cat", "bird", "fish"])
    assert folder.classes == {0: "dog", 1: "cat", 2: "bird", 3: "fish"}
    assert [o.label for o in folder.splits["train"][0].objects] == [0, 1]


def test_sets_can_be_named_and_those_of_one_class_be_read(voc: Path, read: Read) -> None:
    (voc / "ImageSets/Main/dog_trainval.txt").write_text("a  1\n\nc -1\n")
    folder = read(sets={"train": "dog_trainval", "val": "test"})
    assert [p.name for p in folder.splits["train"]] == ["a.jpg", "c.jpg"] and list(folder.splits) == ["train"]
    path = voc / "ImageSets/Main/test.txt"
    assert folder.notes == [f"{path}: no such set, so there are no images for val"]


def test_boxes_of_an_upright_image_follow_it_to_how_it_is_stored(voc: Path, read: Read) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored 100 x 50, turned right to be seen: 50 x 100
    Image.new("RGB", (100, 50)).save(voc / "JPEGImages/c.jpg", exif=exif)
    (voc / "Annotations/c.xml").write_text(annotation(thing("bird", (1, 1, 10, 20)), size=(50, 100)))
    image = read().splits["val"][0]
    assert (image.width, image.height) == (100, 50)
    # Upright, the box lies in the left upper corner, 10 wide and 20 high; stored, that is the left lower corner.
    points = image.objects[0].points
    np.testing.assert_allclose([points.min(0), points.max(0)], [[0, 40], [20, 50]])


def test_a_size_that_is_another_one_is_noted(voc: Path, read: Read) -> None:
    (voc / "Annotations/a.xml").write_text(annotation(thing("dog", (1, 1, 10, 20)), size=(200, 50)))
    (voc / "Annotations/c.xml").write_text(annotation(thing("dog", (1, 1, 10, 20)), size=None))
    assert read().notes == ["1 images have another size than their XML says: theirs counts"]


# ---- mistakes


BAD_OBJECTS = {
    "no name": (thing(" ", (1, 1, 2, 2)), "object without a name"),
    "no box": ("<object><name>dog</name></object>", "bndbox has no xmin"),
    "text": (thing("dog", (1, 1, "two", 2)), "bndbox has xmax 'two', not a number"),
    "NaN": (thing("dog", (1, "nan", 2, 2)), "bndbox has ymin 'nan', not a number"),
    "swapped": (
        thing("dog", (9, 1, 2, 2)),
        "box {'xmin': 9.0, 'ymin': 1.0, 'xmax': 2.0, 'ymax': 2.0} has no area",
    ),
}


@pytest.mark.parametrize("case", BAD_OBJECTS)
def test_a_bad_object_is_named_by_file_and_line(voc: Path, read: Read, case: str) -> None:
    bad, reason = BAD_OBJECTS[case]
    (voc / "Annotations/a.xml").write_text(annotation(thing("dog", (1, 1, 2, 2)), bad))
    with pytest.raises(DatasetError) as caught:
        read()
    assert caught.value.line() == f"{voc / 'Annotations/a.xml'}:4: {reason}"


def test_all_mistakes_are_counted(voc: Path, read: Read) -> None:
    (voc / "Annotations/a.xml").write_text(annotation(*(bad for bad, _ in BAD_OBJECTS.values())))
    (voc / "Annotations/c.xml").write_text("<annotation>")
    with pytest.raises(DatasetError, match=r"a.xml:3: object without a name \(and 5 more mistakes in other places\)$"):
        read()


def test_a_class_beyond_the_given_ones(voc: Path, read: Read) -> None:
    with pytest.raises(DatasetError, match="a.xml:4: class 'cat' is not among the given classes"):
        read(classes=["dog", "bird"])


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"<annotation>\n<object>", ":2: not XML (no element found)"),
        (b"", ":1: not XML (no element found)"),
        (b"<a>\n\xff\xfe</a>", ":2: not XML (not well-formed (invalid token))"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', ": cannot be read (unknown encoding: klingon)"),
        (b'<!DOCTYPE a [\n<!ENTITY b "bbb">]><a>&b;</a>', ":1: has a document type (DOCTYPE), which is not read"),
        (b'\n<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', ":2: has a document type (DOCTYPE), which is not read"),
    ],
)
def test_what_is_no_xml_or_could_do_harm(voc: Path, read: Read, content: bytes, reason: str) -> None:
    (voc / "Annotations/c.xml").write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read()
    assert caught.value.line() == f"{voc / 'Annotations/c.xml'}{reason}"


def test_mistakes_in_a_set(voc: Path, read: Read) -> None:
    listed = voc / "ImageSets/Main/train.txt"
    listed.write_text("a\nmissing\na\n")
    with pytest.raises(DatasetError, match=r"train.txt:2: no image missing in .*JPEGImages \(and 1 more mistakes"):
        read()
    listed.write_text("a\na\n")
    with pytest.raises(DatasetError, match="train.txt:2: image a is listed for the second time$"):
        read()
    listed.write_text("\n")
    with pytest.raises(DatasetError, match="train.txt: lists no image$"):
        read()
    listed.unlink()
    with pytest.raises(DatasetError, match=r"train.txt: cannot be read \(No such file.*\); sets that are there: val$"):
        read()


def test_a_broken_image_and_no_objects_at_all(voc: Path, read: Read) -> None:
    for name in "ac":
        (voc / f"Annotations/{name}.xml").unlink()
    with pytest.raises(DatasetError, match="Annotations: the files of the sets hold no object"):
        read()
    (voc / "JPEGImages/a.jpg").write_bytes(b"broken")
    with pytest.raises(DatasetError, match="JPEGImages/a.jpg: cannot be read as an image"):
        read()


@given(data=st.data())
def test_changed_bytes_never_end_otherwise_than_in_objects_or_one_line(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("mutated") / "a.xml"
    content = bytearray(annotation(thing("dog", (1, 1, 10, 10), difficult=1)).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        root, lines = parse_xml(path)
        assert root in lines
    except DatasetError as error:
        assert error.line().startswith(f"{path}:")


@pytest.mark.parametrize("said", ["a.jpg", "a.png"])
def test_of_two_images_with_one_xml_the_one_that_it_names_is_read(voc: Path, said: str) -> None:
    Image.new("RGB", (100, 50)).save(voc / "JPEGImages" / "a.png")
    xml = voc / "Annotations" / "a.xml"
    xml.write_text(xml.read_text().replace("other.jpg", said))
    assert said in [image.name for image in read_voc(voc, sets={"train": "train"}).splits["train"]]


def test_two_images_of_which_the_xml_names_neither_are_refused(voc: Path) -> None:
    Image.new("RGB", (100, 50)).save(voc / "JPEGImages" / "a.png")
    with pytest.raises(DatasetError, match="a.xml: belongs to two images, a.jpg and a.png: <filename> must name one"):
        read_voc(voc, sets={"train": "train"})


@pytest.mark.parametrize("validation", ["val", "valid", "test"])
def test_xml_beside_the_images_of_each_set(tmp_path: Path, validation: str) -> None:
    for folder in ("train", validation):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (100, 50)).save(tmp_path / folder / "a.jpg")
        (tmp_path / folder / "a.xml").write_text(annotation(thing(folder, (11, 11, 40, 40))))
    read = read_voc(tmp_path, sets={"train": "train", "val": "val"})
    assert {split: len(images[0].objects) for split, images in read.splits.items()} == {"train": 1, "val": 1}
    assert sorted(read.classes.values()) == sorted(["train", validation])


def test_xml_beside_images_in_one_folder_is_all_for_training(tmp_path: Path) -> None:
    Image.new("RGB", (100, 50)).save(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_text(annotation(thing("cup", (11, 11, 40, 40))))
    read = read_voc(tmp_path, sets={"train": "train", "val": "val"})
    assert len(read.splits["train"]) == 1 and "no images for val" in read.notes[0]
