"""Facts of image files, and the digest by which the same image is known again."""

from pathlib import Path

import pytest
from PIL import Image

from datasets.annotations.findings import Findings
from datasets.check.across import note_leaks
from datasets.check.images import ImageFacts, ListedImage, inspect, inspect_all
from tests.datasets.fault_folder import exif, noise


def test_facts_of_an_image(tmp_path: Path) -> None:
    noise(1, width=7, height=5).convert("L").save(tmp_path / "a.jpg", exif=exif(6))
    facts = inspect(tmp_path / "a.jpg")
    assert (facts.size, facts.mode, facts.orientation, facts.error, facts.missing) == ((5, 7), "L", 6, None, False)
    assert inspect(tmp_path / "absent.jpg").missing


@pytest.mark.parametrize("suffix", ["bmp", "tif", "webp"])
def test_the_same_pixels_in_another_file_are_known_again(tmp_path: Path, suffix: str) -> None:
    noise(1).save(tmp_path / "a.png")
    noise(1).save(tmp_path / f"b.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    noise(2).save(tmp_path / "c.png")
    names = ("a.png", f"b.{suffix}", "c.png")
    a, b, c = inspect_all([ListedImage(1, name, None, tmp_path / name) for name in names], label="")
    assert a.digest == b.digest != c.digest


def test_blank_images_of_as_many_pixels_are_different(tmp_path: Path) -> None:
    for name, size in (("a.png", (4, 6)), ("b.png", (6, 4))):
        Image.new("RGB", size).save(tmp_path / name)
    assert inspect(tmp_path / "a.png").digest != inspect(tmp_path / "b.png").digest


def test_leaks_count_each_later_image_once_and_leave_out_what_cannot_be_read() -> None:
    def split(name: str, *digests: bytes) -> tuple[str, list[ListedImage], list[ImageFacts]]:
        facts = [ImageFacts(digest=d) if d else ImageFacts(error="broken") for d in digests]
        return name, [ListedImage(k, f"{k}.png", None, Path(name, f"{k}.png")) for k in range(len(digests))], facts

    findings = Findings()
    note_leaks(
        [split("train", b"a", b"a", b"b", b""), split("val", b"c", b"a", b"a", b""), split("test", b"c")], findings
    )
    (leak,) = findings
    assert leak.count == 3 and leak.example == "train/0.png (image 0 of train) and val/1.png (image 1 of val)"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_block_does_not_matter(tmp_path: Path) -> None:
    noise(1).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff\xff\xff")
    assert inspect(tmp_path / "a.jpg").orientation == 1 and inspect(tmp_path / "a.jpg").error is None
