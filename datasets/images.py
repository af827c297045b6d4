"""Decode image files of any kind to 8-bit RGB."""

import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from util.errors import ImageError

from .annotations.images import last_part
from .annotations.masks import Size
from .image_files import FindImage, by_base_name, by_file_name
from .interface import DetectionDataset

#: Of an image: PIL's, or a uint8 tensor.
Pixels = TypeVar("Pixels")

#: What PIL's decoders raise on broken bytes; OSError covers missing files, unknown formats and truncated ones.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)

#: PIL's modes of more than 8 bits a pixel.
DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")


EXIF_ORIENTATION = 0x0112
#: Orientations of EXIF that turn an image by a quarter, so that width and height change places, and how to turn it.
QUARTER_TURNS = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageFolder:
    """The image files of a split in one folder: their places by the dataset's rule, their sizes by their headers."""

    sizes_known = False

    def __init__(self, folder: Path, find: FindImage = by_file_name) -> None:
        self.folder = folder
        self.find = find
        self.ambiguous: frozenset[str] = frozenset()

    def path(self, file_name: str, image_id: int) -> Path:
        """Return the file of an image, which may not exist."""
        if self.ambiguous and self.find is by_base_name and last_part(file_name) in self.ambiguous:
            return by_base_name(self.folder, file_name, image_id, least_parts=2)
        return self.find(self.folder, file_name, image_id)

    def size(self, file_name: str, image_id: int, listed: Size | None = None) -> Size | None:
        """Return (height, width) as `read_image` reads it, by the header; one that is absent or broken has none."""
        try:
            with Image.open(self.path(file_name, image_id)) as image:
                # The header suffices: decoding 100,000 images for their sizes would take minutes.
                return listed if quarter_turn(image, listed) else (image.height, image.width)
        except DECODE_ERRORS:
            return None

    def set_ambiguous(self, last_parts: Iterable[str]) -> None:
        """Look names that end in one of these up by more than their last part."""
        self.ambiguous = frozenset(last_parts)


def read_image(path: Path, *, described: str, listed: Size | None = None) -> Image.Image:
    """Decode the file at `path` to RGB, as `decode_rgb` does.

    Raises ImageError, which names the file and `described`, where it cannot be read.
    """
    return one_image(decode_rgb, path, described, listed)


def one_image(decode: Callable[[Path, Size | None], Pixels], path: Path, described: str, listed: Size | None) -> Pixels:
    """Return what `decode` makes of a file. Raises ImageError where that raises one of DECODE_ERRORS."""
    try:
        return decode(path, listed)
    except FileNotFoundError:
        reason = "no such file"
    except DECODE_ERRORS as error:
        reason = one_line(error)
    raise ImageError(f"{path}: cannot read {described} ({reason})")


def decode_rgb(path: Path, listed: Size | None = None) -> Image.Image:
    """Decode the file at `path` to RGB as DETR does: alpha is dropped, EXIF's orientation ignored.

    With one exception: where EXIF turns the image by a quarter and `listed`, the (height, width) that annotations give,
    is that of the turned image, the boxes are drawn on it, and it is turned. Raises one of DECODE_ERRORS.
    """
    with Image.open(path) as image:
        turn = quarter_turn(image, listed)
        rgb = to_rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


def quarter_turn(image: Image.Image, listed: Size | None) -> Image.Transpose | None:
    """Return the turn of EXIF's that gives an image the size `listed`, (height, width); None where it needs none."""
    # `listed` is (height, width), and compared with (width, height): equal means that the listed image is the turned
    # one.
    if listed != (image.width, image.height) or image.width == image.height:
        return None
    return QUARTER_TURNS.get(exif_orientation(image))


def exif_orientation(image: Image.Image) -> int:
    """Return EXIF's orientation of an image, 1 to 8; 1, upright, where it has none."""
    try:
        value = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # a broken EXIF block raises whatever its parser stumbles on, and pixels do not depend on it
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB. 16-bit grey is scaled (0..65535 to 0..255), where PIL alone would clip it to white.

    Raises ValueError for pixels that have no fixed range to scale from: floats, and integers beyond 16 bits.
    """
    if image.mode in DEEP_MODES:
        image = _to_8_bits(image)
    image.info.pop("transparency", None)  # dropped in any case; PIL would warn about some palettes
    return image.convert("RGB")


def allow_pixels(most: int | None) -> None:
    """Let PIL open images of up to `most` pixels; None leaves its own limit, about 179 million."""
    if most is not None:
        Image.MAX_IMAGE_PIXELS = -(-most // 2)  # PIL refuses beyond twice that, and warns from it on
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def one_line(error: BaseException) -> str:
    """Return an error's message in one line, or its kind where it has none."""
    if isinstance(error, Image.DecompressionBombError) and (numbers := re.findall(r"\d+", str(error))):
        return f"{numbers[0]} pixels, more than are safe to read from any source; --max_pixels {numbers[0]} reads them"
    return " ".join(str(error).split()) or type(error).__name__


def _to_8_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, which have no fixed range; save it with 8 or 16 bits")
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its pixels have more than 16 bits; save it with 8 or 16")
    # 65535 / 255 = 257, rounded to the nearest.
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def load_transformed(dataset: DetectionDataset, index: int) -> tuple[Any, Any]:
    """Return the image and the target of a number after the dataset's transforms. Raises ImageError with the file."""
    # A dataset that can decodes to a tensor at once where the first transform would make one.
    pixels_first = getattr(dataset.transforms, "pixels_first", False)
    load = getattr(dataset, "load_pixels", dataset.load) if pixels_first else dataset.load
    image, target = load(index)
    if dataset.transforms is None:
        return image, target
    try:
        return dataset.transforms(image, target)
    except ImageError as error:
        raise ImageError(f"{dataset.image_path(index)}: {error}") from None
