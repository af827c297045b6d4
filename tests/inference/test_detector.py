"""The detector as an object: what it takes, what it returns, and the same detections in every batch."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inference.detector import Detector
from tests.inference.checkpoints import NAMES, write_checkpoint
from util.coco_classes import COCO_NAMES, COCO_PANOPTIC_NAMES
from util.errors import CheckpointError, ImageError, UserError

pytestmark = pytest.mark.usefixtures("narrow_resnet18")

SIZES = ((90, 60), (64, 64), (50, 130), (200, 40))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model") / "best.pth", names=NAMES)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def images() -> list[Image.Image]:
    return [noise(*size) for size in SIZES]


def test_detections_of_one_image(checkpoint: Path, tmp_path: Path) -> None:
    detector = Detector(checkpoint, device="cpu", threshold=0)
    image = noise(90, 60)
    found = detector(image)
    assert found.boxes.shape == (6, 4) and found.size == (60, 90) and found.masks is None and found.panoptic is None
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all() and (np.diff(found.scores) <= 0).all()
    assert found.names == [detector.class_names.get(label, f"class {label}") for label in found.labels]
    assert sorted(found.queries) == list(range(6))
    image.save(tmp_path / "a.png")
    for same in (tmp_path / "a.png", str(tmp_path / "a.png"), np.asarray(image)):
        assert np.array_equal(detector(same).boxes, found.boxes)
    (listed,) = detector([tmp_path / "a.png"])
    assert np.array_equal(listed.scores, found.scores) and detector([]) == []


def test_images_are_prepared_as_the_run_that_wrote_the_checkpoint_did(checkpoint: Path) -> None:
    detector = Detector(checkpoint, device="cpu")
    assert (detector.image_size, detector.max_size) == (64, 107)
    shapes = [(3, 64, 96), (3, 64, 64), (3, 106, 41), (3, 21, 105)]
    assert [tuple(detector.prepare(image).shape) for image in images()] == shapes


@pytest.mark.slow
@pytest.mark.parametrize("masks", [False, True])
def test_a_batch_of_mixed_sizes_gives_what_each_image_gives_alone(tmp_path: Path, masks: bool) -> None:
    path = write_checkpoint(tmp_path / "best.pth", names=NAMES, masks=masks)
    alone = Detector(path, device="cpu", threshold=0)
    for one, many in zip(map(alone, images()), Detector(path, device="cpu", threshold=0, batch_size=3)(images())):
        assert np.array_equal(one.queries, many.queries) and np.array_equal(one.labels, many.labels)
        assert np.allclose(one.boxes, many.boxes, atol=1e-3) and np.allclose(one.scores, many.scores, atol=1e-5)
        if masks:
            assert one.masks is not None and many.masks is not None and one.masks.shape == (6, *one.size)
            assert (one.masks != many.masks).mean() < 1e-3


def test_padding_leaks_in_where_that_is_asked_for(checkpoint: Path) -> None:
    leaky = Detector(checkpoint, device="cpu", threshold=0, batch_size=4, padding_invariant=False)
    alone = Detector(checkpoint, device="cpu", threshold=0)(images())
    together = leaky(images())
    assert max(np.abs(a.scores - b.scores).max() for a, b in zip(alone, together)) > 1e-3


def test_fewer_detections(checkpoint: Path) -> None:
    found = Detector(checkpoint, device="cpu", threshold=0)(noise(90, 60))
    middle = float(found.scores[2])
    assert len(found.above(middle)) == 3 == len(Detector(checkpoint, device="cpu", threshold=middle)(noise(90, 60)))
    assert len(found.strongest(2)) == 2 and len(found.strongest(99)) == 6
    label = int(found.labels[0])
    assert set(found.of_classes([label]).labels) == {label} and len(found.of_classes([])) == 0
    assert len(found.without_duplicates(1.0)) == 6
    left = found.without_duplicates(0.0)  # of each class no two touch
    assert found.scores[0] == left.scores[0] and (np.diff(left.scores) <= 0).all()


@pytest.mark.slow
def test_classes_of_published_models_are_cocos(tmp_path: Path) -> None:
    for count, names in ((91, COCO_NAMES), (7, {})):
        detector = Detector(write_checkpoint(tmp_path / f"{count}.pth", num_classes=count), device="cpu")
        assert detector.class_names == names
    assert detector.name(3) == "class 3"
    assert len(COCO_NAMES) == 80 and len(COCO_PANOPTIC_NAMES) == 133 and COCO_NAMES[90] == "toothbrush"


def test_panoptic_models_give_a_segment_for_each_pixel(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "detr-r50-panoptic-00ce5173.pth", num_classes=250, masks=True)
    detector = Detector(path, device="cpu")
    detector.postprocessors["panoptic"].threshold = 0.0
    assert detector.class_names == COCO_PANOPTIC_NAMES
    panoptic = detector(noise(90, 60)).panoptic
    assert panoptic is not None and panoptic.ids.shape == (60, 90)
    assert sum(segment["area"] for segment in panoptic.segments) == 60 * 90
    assert len(panoptic.names) == len(panoptic.segments)


def test_to_supervision(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Detector(checkpoint, device="cpu", threshold=0)(noise(90, 60))
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match="pip install supervision"):
        found.to_supervision()


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "1", "I;16", "frames"])
def test_images_of_any_kind_are_read_as_in_training(checkpoint: Path, tmp_path: Path, mode: str) -> None:
    detector, image = Detector(checkpoint, device="cpu"), noise(20, 10)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.gif" if mode == "frames" else "a.png")
    if mode == "I;16":
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)
    elif mode == "frames":
        image.save(path, save_all=True, append_images=[noise(20, 10).rotate(180)], transparency=0)
    else:
        image.convert(mode).save(path)
    read = detector.read(path)
    with Image.open(path) as opened:
        assert np.array_equal(read, detector.read(opened))
    assert (read.mode, read.size) == ("RGB", (20, 10)) and 60 < np.asarray(read).mean() < 190


@pytest.mark.parametrize("image", ["missing.jpg", np.zeros((2, 2, 2, 2), np.uint8), 5])
def test_what_is_no_image_is_one_line(checkpoint: Path, image: object) -> None:
    with pytest.raises(ImageError, match="cannot (be )?read"):
        Detector(checkpoint, device="cpu")(image)  # type: ignore[call-overload]


def test_what_is_no_checkpoint_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        Detector(tmp_path / "best.pth")
