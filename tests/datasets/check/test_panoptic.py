"""The check of panoptic data: PNGs against the segments that are listed, as the command line gives it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.check import __main__ as check
from tests.datasets.panoptic_folder import DOG, GONE, SKY, panoptic_data, write_panoptic_folder


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
