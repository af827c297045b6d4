"""Images of --fast_resize have PIL's pixels, layout in memory and errors, also where torchvision decodes them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.io
from PIL import Image

from datasets import transforms as T
from datasets.coco import CocoDetection
from datasets.images import decode_rgb, read_image
from datasets.pixels import decode_pixels, read_pixels
from util.errors import ImageError

pytestmark = pytest.mark.filterwarnings("ignore:.*of TorchVision are deprecated:DeprecationWarning")

NOISE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
IMAGE = Image.fromarray(NOISE).resize((213, 131), Image.Resampling.BICUBIC)


def quarter_turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.fixture
def by_torchvision(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The images that torchvision has decoded."""
    decoded, decode = [], torchvision.io.decode_jpeg
    monkeypatch.setattr(torchvision.io, "decode_jpeg", lambda *a, **k: decoded.append(decode(*a, **k)) or decoded[-1])
    return decoded


@pytest.mark.parametrize(
    ("mode", "options", "fast"),
    [
        ("RGB", {"quality": 95, "subsampling": 0}, True),
        ("RGB", {"quality": 30, "subsampling": 2}, True),
        ("RGB", {"progressive": True, "subsampling": 1}, True),
        ("RGB", {"keep_rgb": True}, True),
        ("RGB", {"exif": quarter_turned()}, True),
        ("L", {}, True),
        ("L", {"progressive": True}, True),
        ("CMYK", {}, False),
        ("RGB", {"format": "png"}, False),
        ("RGBA", {"format": "png"}, False),
    ],
)
def test_pixels_are_those_of_pil(
    tmp_path: Path, mode: str, options: dict[str, Any], fast: bool, by_torchvision: list[Any]
) -> None:
    path = tmp_path / "image"
    IMAGE.convert(mode).save(path, **{"format": "jpeg"} | options)
    expected = T.to_pixels(decode_rgb(path))
    pixels = decode_pixels(path)
    assert pixels.equal(expected) and pixels.stride() == expected.stride()
    assert len(by_torchvision) == fast


def test_an_image_is_turned_to_the_listed_size(tmp_path: Path) -> None:
    path, listed = tmp_path / "turned.jpg", (213, 131)
    IMAGE.save(path, exif=quarter_turned())
    assert decode_pixels(path).shape == (3, 131, 213)
    assert decode_pixels(path, listed).equal(T.to_pixels(decode_rgb(path, listed)))


@pytest.mark.parametrize("content", [None, b"", b"not an image", "cut", "marker"])
def test_what_cannot_be_read_is_the_same_line(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "image.jpg"
    IMAGE.save(path)
    data = bytearray(path.read_bytes())
    if content == "marker":
        start = data.index(b"\xff\xda")
        data[start : start + 2] = b"\xff\x0c"
    path.write_bytes(data[:-500] if content == "cut" else data if isinstance(content, str) else content or b"")
    if content is None:
        path.unlink()
    lines = []
    for read in (read_image, read_pixels):
        with pytest.raises(ImageError) as caught:
            read(path, described="the image with image id 7")
        lines.append(str(caught.value))
    assert lines[0] == lines[1] and str(path) in lines[0]


def test_without_torchvisions_decoder_pil_decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such operator image::decode_jpeg")

    IMAGE.save(tmp_path / "a.jpg")
    monkeypatch.setattr(torchvision.io, "decode_jpeg", missing)
    assert decode_pixels(tmp_path / "a.jpg").equal(T.to_pixels(decode_rgb(tmp_path / "a.jpg")))


@pytest.mark.parametrize("fast_resize", [True, False])
def test_only_fast_resize_decodes_to_a_tensor(
    coco_folder: Path, fast_resize: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = coco_folder / "annotations" / "instances_train2017.json"
    dataset = CocoDetection(coco_folder / "train2017", file, T.make_coco_transforms("train", fast_resize=fast_resize))
    image, target = dataset.load(0)
    pixels, same = dataset.load_pixels(0)
    assert pixels.equal(T.to_pixels(image)) and all(torch.equal(same[key], value) for key, value in target.items())
    other = "load" if fast_resize else "load_pixels"
    monkeypatch.setattr(dataset, other, lambda index: pytest.fail(f"{other} was called"))
    dataset[0]
