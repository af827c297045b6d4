"""Masks painted over an image: half transparent, with an outline."""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from .colours import class_colour

#: How much of the class's colour lies over the image inside a mask.
OPACITY = 0.45


def paint_masks(image: Image.Image, masks: Sequence[np.ndarray], labels: Sequence[int], *, line_width: int) -> None:
    """Paint masks (h, w) in the colours of their classes over an RGB image, in place; the last lies on top.

    Masks of another size are resized to the image's. Outlines of `line_width` pixels lie inside the masks, with a dark
    seam of one pixel around them.
    """
    pixels = np.asarray(image).astype(np.float32)
    for mask, label in zip(masks, labels, strict=True):
        inside = _at_size(mask, image.size)
        colour = np.array(class_colour(label), dtype=np.float32)
        pixels[inside] += OPACITY * (colour - pixels[inside])
        pixels[binary_dilation(inside) & ~inside] *= 0.25
        pixels[inside & ~binary_erosion(inside, iterations=line_width)] = colour
    image.paste(Image.fromarray(pixels.round().astype(np.uint8)))


def _at_size(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask (h, w) as bool at the size (width, height), its edges smooth where it is enlarged."""
    grey = Image.fromarray(np.asarray(mask, dtype=bool).astype(np.uint8) * 255)
    return np.asarray(grey.resize(size, Image.Resampling.BILINEAR)) > 127
