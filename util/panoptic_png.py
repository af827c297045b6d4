"""COCO's panoptic PNGs: the segment id of each pixel is red + 256 green + 65536 blue."""

import io
import os
from typing import BinaryIO

import numpy as np
from PIL import Image


def encode_segments(ids: np.ndarray) -> bytes:
    """The PNG of segment ids (H, W), each below 2^24."""
    channels = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1)
    with io.BytesIO() as file:
        Image.fromarray(channels.astype(np.uint8)).save(file, format="PNG")
        return file.getvalue()


def decode_segments(file: str | os.PathLike | BinaryIO) -> np.ndarray:
    """Segment ids (H, W) int64 of a PNG. Raises what PIL does for one that cannot be read (see `datasets.images`)."""
    with Image.open(file) as image:
        # Opaque RGBA: four bytes a pixel, which read as one number are red + 256 green + 65536 blue + 2^24 * 255.
        pixels = np.asarray(image.convert("RGB").convert("RGBA"))  # (H, W, 4)
    return (pixels.view("<u4")[..., 0] & 0xFFFFFF).astype(np.int64)
