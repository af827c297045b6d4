"""Blank images and a look at their pixels."""

import numpy as np
from PIL import Image

from util.draw.boxes import class_colour

GREY = (120, 120, 120)


def blank(width: int = 320, height: int = 320) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def has_colour(image: Image.Image, label: int) -> bool:
    return bool((np.asarray(image) == class_colour(label)).all(axis=2).any())


def changed(before: Image.Image, after: Image.Image) -> np.ndarray:
    return (np.asarray(before) != np.asarray(after)).any(axis=2)
