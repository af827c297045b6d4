"""Images of every mode come out as the 8-bit RGB that a person would expect; what cannot is one line."""

import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.image_files import by_base_name, by_file_name
from datasets.images import ImageFolder, allow_pixels, decode_rgb, read_image, to_rgb
from util.errors import ImageError

GREY = np.array([[0, 128, 256, 32768, 65280, 65535]], dtype=np.uint16)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"grey.{suffix}"
    Image.fromarray(GREY).save(path)
    pixels = np.asarray(decode_rgb(path))
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 128, 254, 255]
    assert (pixels == pixels[..., :1]).all()


def test_big_endian_and_32_bit_integers_of_16_bit_range() -> None:
    assert np.asarray(to_rgb(Image.fromarray(GREY.astype(np.int32))))[0, :, 1].tolist() == [0, 0, 1, 128, 254, 255]
    big = Image.frombytes("I;16B", (6, 1), GREY.astype(">u2").tobytes())
    assert np.asarray(to_rgb(big))[0, :, 1].tolist() == [0, 0, 1, 128, 254, 255]


@pytest.mark.parametrize(
    ("mode", "suffix", "colour", "expected"),
    [
        ("1", "png", 1, (255, 255, 255)),
        ("L", "jpg", 90, (90, 90, 90)),
        ("LA", "png", (90, 10), (90, 90, 90)),
        ("RGB", "png", (200, 100, 50), (200, 100, 50)),
        ("RGBA", "png", (200, 100, 50, 7), (200, 100, 50)),
        ("CMYK", "tif", (0, 255, 255, 0), (255, 0, 0)),
    ],
)
def test_modes(tmp_path: Path, mode: str, suffix: str, colour: object, expected: tuple[int, int, int]) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.new(mode, (8, 8), colour).save(path)
    image = decode_rgb(path)
    assert image.mode == "RGB" and image.size == (8, 8) and image.getpixel((3, 3)) == expected


def test_a_palette_with_transparency_is_its_colours_and_no_warning(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 250, 120, 30])
    image.save(tmp_path / "palette.png", transparency=b"\x00\x80")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_rgb(tmp_path / "palette.png").getpixel((0, 0)) == (250, 120, 30)


def test_exif_orientation_is_ignored_as_in_detr(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert decode_rgb(tmp_path / "turned.jpg").size == (30, 20)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file"),
        (b"", "cannot identify"),
        (b"not an image", "cannot identify"),
        ("truncated", "truncated"),
        ("float", "floating-point"),
        ("deep", "more than 16 bits"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, content: bytes | str | None, reason: str) -> None:
    path = tmp_path / "image.tif"
    if content == "truncated":
        noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, format="PNG")
        path.write_bytes(path.read_bytes()[:3000])
    elif content == "float":
        Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(path)
    elif content == "deep":
        Image.fromarray(np.full((4, 4), 70000, dtype=np.int32)).save(path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(path, described="the image with image id 7")
    assert str(caught.value).startswith(f"{path}: cannot read the image with image id 7 (")
    assert "\n" not in str(caught.value)


def test_names_with_the_folders_of_another_machine(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    for name in ("a.png", "/home/someone/data/a.png", "C:\\data\\a.png", "data/images/a.png"):
        assert by_base_name(tmp_path, name, 1) == tmp_path / "a.png"
    assert by_base_name(tmp_path, "sub/b.png", 1) == by_file_name(tmp_path, "sub/b.png", 1) == tmp_path / "sub/b.png"


def test_sizes_by_a_datasets_own_names(tmp_path: Path) -> None:
    Image.new("L", (7, 3)).save(tmp_path / "wide.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    size_of_file = ImageFolder(tmp_path, by_base_name).size
    assert size_of_file("wide.png", 1) == size_of_file("/elsewhere/wide.png", 1) == (3, 7)
    assert [size_of_file(name, 1) for name in ("broken.png", "absent.png", "\0", "x" * 5000)] == [None] * 4


def test_huge_images_are_refused_with_the_flag_that_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (60, 50)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match=r"cannot read it \(3000 pixels, .*; --max_pixels 3000 reads them\)"):
        read_image(tmp_path / "a.png", described="it")
    allow_pixels(None)
    assert ImageFolder(tmp_path).size("a.png", 1) is None, "no flag, no other limit"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        allow_pixels(3000)
        assert read_image(tmp_path / "a.png", described="it").size == (60, 50)
    allow_pixels(2998)
    with pytest.raises(ImageError, match="--max_pixels 3000"):
        read_image(tmp_path / "a.png", described="it")


def test_a_folder_may_have_another_form_of_accents_than_the_file(tmp_path: Path) -> None:
    folder, name = (unicodedata.normalize(form, "\u00fc") for form in ("NFC", "NFD"))
    (tmp_path / folder).mkdir()
    (tmp_path / folder / f"{name}.png").touch()
    for form in ("NFC", "NFD"):
        listed = unicodedata.normalize(form, "\u00fc/\u00fc.png")
        assert by_file_name(tmp_path, listed, 1) == tmp_path / folder / f"{name}.png"
