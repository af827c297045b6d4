"""`datasets.convert auto`: any known folder made ready for training, with validation images set apart."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from datasets.convert.__main__ import cli
from datasets.convert.ready import split_at_random
from util.errors import DatasetError

XML = (
    "<annotation><size><width>40</width><height>30</height></size><object><name>cell</name><bndbox>"
    "<xmin>3</xmin><ymin>3</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object></annotation>"
)


def voc(
    root: Path, *, images: str = "JPEGImages", annotations: str = "Annotations", sets: tuple[str, ...] = ()
) -> Path:
    """Five images with a box each; set k of `sets` lists image k alone, the first one all that are left."""
    for folder in (images, annotations):
        (root / folder).mkdir(parents=True)
    for number in range(5):
        Image.new("RGB", (40, 30), (50 * number, 0, 0)).save(root / images / f"{number}.png")
        (root / annotations / f"{number}.xml").write_text(XML)
    for number, name in enumerate(sets):
        (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        listed = range(len(sets) - 1, 5) if number == 0 else [number - 1]
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(map(str, listed)))
    return root


def counts(root: Path) -> dict[str, int]:
    """Images of each annotation file."""
    files = sorted((root / "annotations").glob("*.json"))
    return {file.stem: len(json.loads(file.read_text())["images"]) for file in files}


@pytest.mark.parametrize(
    ("layout", "val", "word"),
    [
        ({"sets": ("train", "val")}, 1, "Pascal VOC"),
        ({"sets": ("trainval", "test", "val")}, 1, "Pascal VOC"),
        ({"sets": ("train",)}, 1, "set apart at random (seed 42)"),
        ({}, 1, "no ImageSets/Main"),
        ({"images": "images", "annotations": "annotations"}, 1, "set apart at random"),
        ({"images": ".", "annotations": "."}, 1, "set apart at random"),
    ],
)
@pytest.mark.parametrize("deep", ["", "inner/VOC"])
def test_pascal_voc_as_it_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: dict, val: int, word: str, deep: str
) -> None:
    root = voc(tmp_path / "mine" / deep, **layout) if layout.get("images") != "." else beside(tmp_path / "mine" / deep)
    assert cli(["auto", str(tmp_path / "mine"), str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert (
        word in out and out.splitlines()[-1] == f"ready: {tmp_path / 'out'}" and (str(root.parent) in out or not deep)
    )
    found = counts(tmp_path / "out")
    assert found["instances_val2017"] == val and sum(found.values()) == (
        4 if "trainval" in layout.get("sets", ()) else 5
    )


def beside(root: Path) -> Path:
    """Five images with the XML beside each."""
    voc(root / "made")
    for file in [*(root / "made").rglob("*.png"), *(root / "made").rglob("*.xml")]:
        file.rename(root / file.name)
    for folder in ("made/JPEGImages", "made/Annotations", "made"):
        (root / folder).rmdir()
    return root


def test_coco_with_validation_images_stays_where_it_is(
    coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(["auto", str(coco_folder), str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"ready: {coco_folder}" and not (tmp_path / "out").exists()


def test_coco_without_validation_images_is_split(
    write_coco: Callable, tiny_annotations: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every annotation follows its image; the images are a link."""
    source, out = write_coco(tiny_annotations), tmp_path / "out"
    (source / "annotations" / "instances_val2017.json").unlink()
    assert cli(["auto", str(source), str(out), "--val_fraction", "0.4", "--seed", "1"]) == 0
    assert "2 of the 4 images were set apart at random (seed 1)" in capsys.readouterr().out
    parts = [json.loads((out / "annotations" / f"{name}.json").read_text()) for name in ("train", "val")]
    assert sorted(image["id"] for part in parts for image in part["images"]) == [1, 4, 7, 9]
    assert sum(len(part["annotations"]) for part in parts) == len(tiny_annotations["annotations"])
    for part in parts:
        assert {a["image_id"] for a in part["annotations"]} <= {image["id"] for image in part["images"]}
        assert all((out / "images" / image["file_name"]).is_file() for image in part["images"])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("/nowhere out", "/nowhere: no such folder"),
        ("{empty} out", "looked for"),
        ("{empty} out --val_fraction 1", "--val_fraction 1.0: must lie between 0 and 1"),
    ],
)
def test_mistakes_are_one_line(flags: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["auto", *flags.format(empty=tmp_path).split()]) == 2
    err = capsys.readouterr().err
    assert words in err and len(err.splitlines()) == 1


def test_a_split_is_the_same_for_a_seed_and_leaves_an_image_on_each_side() -> None:
    assert split_at_random(range(10), 0.2, 3) == split_at_random(range(10), 0.2, 3)
    assert [len(part) for part in split_at_random(range(10), 0.2, 3)] == [8, 2]
    assert [len(part) for part in split_at_random(range(2), 0.9, 3)] == [1, 1]
    with pytest.raises(DatasetError, match="1 image cannot be split"):
        split_at_random([1], 0.5, 0)
