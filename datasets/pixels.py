"""Decode image files to uint8 tensors for --fast_resize: JPEG by torchvision, all else by PIL, with PIL's pixels."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .annotations.masks import Size
from .images import decode_rgb, one_image, quarter_turn
from .to_tensor import to_pixels

#: PIL's modes of JPEG files that torchvision is asked to decode: grey and colours. CMYK is left to PIL.
JPEG_MODES = ("L", "RGB")


def read_pixels(path: Path, *, described: str, listed: Size | None = None) -> Tensor:
    """Decode the file at `path` to uint8 (3, H, W), as `images.read_image` does, and with its ImageError."""
    return one_image(decode_pixels, path, described, listed)


def decode_pixels(path: Path, listed: Size | None = None) -> Tensor:
    """Decode the file at `path` to uint8 (3, H, W) with the pixels of `images.decode_rgb`; raises what that raises."""
    with Image.open(path) as image:
        plain = image.format == "JPEG" and image.mode in JPEG_MODES and quarter_turn(image, listed) is None
    pixels = _decode_jpeg(path) if plain else None
    return to_pixels(decode_rgb(path, listed)) if pixels is None else pixels


def _decode_jpeg(path: Path) -> Tensor | None:
    """Decode a JPEG file by torchvision: PIL's pixels, for both have libjpeg-turbo, without PIL's copies.

    None where it cannot be decoded, or where torchvision was built without its decoder: PIL then decides, and names
    what is wrong with a file as ever.
    """
    try:
        # Imported where it is used: only training with --fast_resize decodes by it. torchvision 0.29 announces that it
        # will go; without it PIL decodes.
        from torchvision.io import ImageReadMode, decode_jpeg

        return decode_jpeg(torch.from_numpy(np.fromfile(path, np.uint8)), mode=ImageReadMode.RGB)
    except (RuntimeError, ImportError, AttributeError):  # the last: the operator is not there
        return None
