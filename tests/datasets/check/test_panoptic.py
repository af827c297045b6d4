"""The check of panoptic data: PNGs against the segments that are listed, as the command line gives it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.check import __main__ as check
from datasets.check.preflight import check_before_training
from datasets.coco_panoptic import open_split
from tests.datasets.panoptic_folder import DOG, GONE, SKY, panoptic_data, write_panoptic_folder
from util.errors import DatasetError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_panoptic_folder(tmp_path, panoptic_data())


def findings(root: Path, *flags: str) -> tuple[int, dict[str, tuple[str, int, str]]]:
    report = root / "report.json"
    code = check.cli(["--dataset_file", "coco_panoptic", "--data_path", str(root), "--json", str(report), *flags])
    split = json.loads(report.read_text())["splits"]["val"]
    return code, {f["kind"]: (f["action"], f["count"], f["example"]) for f in split["findings"]}


def test_segments_without_pixels_are_dropped_and_numbers_shown(root: Path, capsys: pytest.CaptureFixture) -> None:
    code, found = findings(root, "--num_queries", "3")
    assert code == 1 and set(found) == {
        "segments without a pixel in their PNG",
        "images with more objects than --num_queries",
    }
    action, count, example = found["segments without a pixel in their PNG"]
    assert (action, count) == ("repaired", 1) and example.endswith(
        f"image 9: {root}/annotations/panoptic_val2017/000000000009.png: segment {GONE}"
    )
    out = capsys.readouterr().out
    assert "layout: COCO panoptic" in out and re.search(r"^ +119  sky +2$", out, re.M)
    assert findings(root, "--strict")[0] == 2


def test_segments_that_are_not_listed_and_data_without_things(root: Path) -> None:
    data = panoptic_data()
    data["annotations"][1]["segments_info"] = data["annotations"][1]["segments_info"][1:3]
    for category in data["categories"]:
        category["isthing"] = 0
    (root / "annotations" / "panoptic_val2017.json").write_text(json.dumps(data))
    code, found = findings(root)
    assert code == 0
    assert found["PNGs with pixels of segments that are not listed"][2].endswith(f"000000000009.png: segment {DOG}")
    assert "classes without a single thing" in found


def test_pngs_that_are_missing_or_of_another_size(root: Path) -> None:
    folder = root / "annotations" / "panoptic_val2017"
    (folder / "000000000002.png").unlink()
    pixels = np.broadcast_to(np.array([SKY % 256, SKY // 256 % 256, SKY // 65536], dtype=np.uint8), (9, 9, 3))
    Image.fromarray(pixels.copy()).save(folder / "000000000009.png")
    code, found = findings(root)
    assert code == 2
    assert found["panoptic PNGs that are not there or cannot be decoded"][:2] == ("refused", 1)
    assert "(9, 9) where the image has (6, 8)" in found["panoptic PNGs of another size than their image"][2]


def test_broken_annotations_are_in_the_report(root: Path) -> None:
    (root / "annotations" / "panoptic_val2017.json").write_text("{}")
    assert findings(root)[0] == 2
    assert "not a panoptic annotation file" in json.loads((root / "report.json").read_text())["splits"]["val"]["error"]


@pytest.mark.parametrize(
    ("channels", "cause"),
    [
        ([2, 1, 0], "their channels are in the order blue, green, red"),
        ([1, 1, 1], "none of their colours is a segment"),
    ],
)
def test_pngs_without_a_single_listed_segment_are_refused_with_the_cause(
    root: Path, channels: list[int], cause: str
) -> None:
    data = panoptic_data()
    data["annotations"][1]["segments_info"] = data["annotations"][1]["segments_info"][:3]
    (root / "annotations" / "panoptic_val2017.json").write_text(json.dumps(data))
    dataset = open_split(img_folder=root / "val2017", ann_file=root / "annotations" / "panoptic_val2017.json")
    assert check_before_training({"val": dataset}) is not None
    for path in (root / "annotations" / "panoptic_val2017").iterdir():
        pixels = np.array(Image.open(path))[..., channels]
        Image.fromarray(np.ascontiguousarray(pixels)).save(path)
    code, found = findings(root)
    assert code == 2 and cause in found["splits in whose PNGs not one listed segment is found"][2]
    with pytest.raises(DatasetError, match=f"000000000002.png: not one listed segment is found in 2 PNGs: {cause}"):
        check_before_training({"val": dataset})
