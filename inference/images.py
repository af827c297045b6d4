"""An image as a caller may have it, made the RGB image that training would see."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.images import DECODE_ERRORS, one_line, read_image, to_rgb
from util.errors import ImageError

#: A file, a PIL image, or pixels (H, W) or (H, W, 3) uint8, red first.
ImageLike = str | os.PathLike | Image.Image | np.ndarray


def as_rgb(image: ImageLike) -> Image.Image:
    """Return an image as 8-bit RGB, converted as in training. Raises ImageError where it cannot be read."""
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image), described="the image")
    try:
        # A copy: the conversion takes transparency out of the image's notes.
        return to_rgb(image.copy() if isinstance(image, Image.Image) else Image.fromarray(image))
    except (*DECODE_ERRORS, TypeError, AttributeError) as error:
        raise ImageError(
            f"a {type(image).__name__} cannot be read as an image ({one_line(error)}); give a file, a PIL image or an "
            "array (H, W) or (H, W, 3) uint8"
        ) from None
