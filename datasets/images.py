"""Decode image files of any kind to 8-bit RGB."""

from pathlib import Path

import numpy as np
from PIL import Image

from util.errors import ImageError

from .annotations.headers import SizeOfFile
from .annotations.masks import Size
from .image_files import FindImage

#: What PIL's decoders raise on broken bytes; OSError covers missing files, unknown formats and truncated ones.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)

#: PIL's modes of more than 8 bits a pixel.
DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")


def size_finder(folder: Path, find_image: FindImage) -> SizeOfFile:
    """Return a function to the size in the header of an image in `folder`; one that is absent or broken has none."""

    def size_of_file(file_name: str, image_id: int) -> Size | None:
        try:
            with Image.open(find_image(folder, file_name, image_id)) as image:
                return image.height, image.width
        except DECODE_ERRORS:
            return None

    return size_of_file


def read_image(path: Path, *, described: str) -> Image.Image:
    """Decode the file at `path` to RGB. Raises ImageError, which names the file and `described`, where it cannot."""
    try:
        return decode_rgb(path)
    except FileNotFoundError:
        reason = "no such file"
    except DECODE_ERRORS as error:
        reason = one_line(error)
    raise ImageError(f"{path}: cannot read {described} ({reason})")


def decode_rgb(path: Path) -> Image.Image:
    """Decode the file at `path` to RGB as DETR does: alpha is dropped, EXIF's orientation ignored.

    Raises one of DECODE_ERRORS.
    """
    with Image.open(path) as image:
        return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB. 16-bit grey is scaled (0..65535 to 0..255), where PIL alone would clip it to white.

    Raises ValueError for pixels that have no fixed range to scale from: floats, and integers beyond 16 bits.
    """
    if image.mode in DEEP_MODES:
        image = _to_8_bits(image)
    image.info.pop("transparency", None)  # dropped in any case; PIL would warn about some palettes
    return image.convert("RGB")


def one_line(error: BaseException) -> str:
    """Return an error's message in one line, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def _to_8_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, which have no fixed range; save it with 8 or 16 bits")
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its pixels have more than 16 bits; save it with 8 or 16")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
