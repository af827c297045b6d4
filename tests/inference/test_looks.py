"""The flags --attention and --queries of predict.py: the files they write."""

import csv
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import predict
from inference.items import FrameTime, Item
from inference.query_plot import kinds_of
from inference.writers.looks import AttentionPages
from tests.inference.checkpoints import NAMES, write_checkpoint
from util.errors import UserError

pytestmark = pytest.mark.usefixtures("narrow_resnet18")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for name, size in {"a.jpg": (90, 60), "b.png": (40, 200)}.items():
        Image.fromarray(random.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(tmp_path / "images" / name)
    return tmp_path / "images"


def run(checkpoint: Path, images: Path, *flags: str) -> int:
    out = checkpoint.parent / "out"
    words = ["--resume", checkpoint, "--input", images, "--output", out, "--device", "cpu", *flags]
    return predict.cli(list(map(str, words)))


@pytest.mark.slow
@pytest.mark.parametrize("parts", [{"masks": True, "num_classes": 250, "enc_layers": 0}, {"dec_layers": 2}])
def test_each_image_gets_a_page_and_a_figure(parts: dict, images: Path) -> None:
    checkpoint = write_checkpoint(images.parent / "best.pth", names=NAMES, **parts)
    encoder = parts.get("enc_layers", 1)
    name, threshold = ("b.png", "0.9999") if "masks" in parts else ("a.jpg", "0.3")
    assert run(checkpoint, images / name, "--attention", "--no_images", "--threshold", threshold) == 0
    page, picture = sorted((images.parent / "out").iterdir())
    assert (page.name, picture.name) == (f"{name[0]}.attention.html", f"{name[0]}.attention.png")
    text = page.read_text()
    assert f"<title>Attention: {name} (best.pth)</title>" in text
    assert ('"found":false' in text) == ("masks" in parts) and '"layers":{"encoder":' + str(encoder) in text


@pytest.mark.slow
def test_boxes_of_the_first_queries_over_all_images(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = write_checkpoint(images.parent / "best.pth", names=NAMES)
    assert run(checkpoint, images, "--queries", "4", "--no_images", "--json") == 0
    out = images.parent / "out"
    with open(out / "queries.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["query"]) for row in rows] == [
        (name, str(k)) for name in ("a.jpg", "b.png") for k in range(4)
    ]
    detector = predict.Detector(checkpoint, device="cpu", threshold=0)
    found = detector(images / "a.jpg")
    left, top, right, bottom = found.boxes[found.queries.tolist().index(2)] / [90, 60, 90, 60]
    box = [float(rows[2][name]) for name in ("center_x", "center_y", "width", "height")]
    assert box == pytest.approx([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], abs=2e-4)
    assert "8 boxes of 4 queries" in capsys.readouterr().out
    with Image.open(out / "queries.png") as picture:
        assert np.asarray(picture.convert("RGB")).std() > 5


def test_kinds_of_boxes_are_those_of_the_paper() -> None:
    boxes = np.array([[0.5, 0.5, 0.1, 0.1], [0.5, 0.5, 0.5, 0.4], [0.5, 0.5, 0.4, 0.5], [0.5, 0.5, 0.4, 0.5]])
    assert kinds_of(boxes, 1.0).tolist() == [0, 1, 2, 2]
    assert kinds_of(boxes, 1.5).tolist() == [0, 1, 1, 1]  # in pixels it is wider than high


def test_frames_of_videos_get_no_pages_and_the_writer_says_so(tmp_path: Path) -> None:
    detector = predict.Detector(write_checkpoint(tmp_path / "best.pth"), device="cpu")
    pages = AttentionPages(tmp_path, detector, checkpoint="best.pth")
    image, time = Image.new("RGB", (9, 9)), FrameTime(0, 0, Fraction(1, 25), Fraction(25))
    frame = Item(image, detector.resize(image), None, Path("v.mp4"), None, time)
    pages.write(frame, detector(image), {})
    assert pages.close() == "no attention pages of 1 frames: --attention is for images"
    detector.model = lambda batch: {}  # type: ignore[assignment] # as a detector from an exported file has it
    with pytest.raises(UserError, match="--attention needs a checkpoint"):
        AttentionPages(tmp_path, detector, checkpoint="model.onnx")
