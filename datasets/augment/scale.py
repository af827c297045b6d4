"""Scales and crops in parts of the image, in place of DETR's, which are in pixels."""

import random
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from util.targets import Target

from ..geometry import Example, crop, image_size, resize, resized_shape
from .place import place


@dataclass
class RelativeCrop:
    """Crop whose height and width are each a random part of the image's, from `least` to `most`, at a random place."""

    least: float
    most: float

    def __call__(self, image: Image.Image | Tensor, target: Target | None) -> Example:
        sides = image_size(image)
        # Two draws: the crop's proportions vary, too, by up to most / least.
        height, width = (max(1, round(side * random.uniform(self.least, self.most))) for side in sides)
        return crop(image, target, (*_corner(sides, (height, width)), height, width))


@dataclass
class ScaleJitter:
    """Large-scale jitter (Simple Copy-Paste, arXiv 2012.07177), on a canvas of the size that evaluation has.

    The image is resized by a random factor from `least` to `most` against the size that `size` and `max_size` would
    give it (`resized_shape`). What is larger than that size is cropped to it at a random place; what is smaller lies at
    a random place on a canvas of the mean colour. The result always has the size of the evaluation.
    """

    least: float
    most: float
    size: int
    max_size: int | None = None

    def __call__(self, image: Image.Image | Tensor, target: Target | None) -> Example:
        height, width = image_size(image)
        canvas = resized_shape(width, height, self.size, self.max_size)
        factor = random.uniform(self.least, self.most)
        if factor >= 1:
            # Cut before resizing, not after: the same pixels, without making those that would be thrown away.
            part = max(1, round(height / factor)), max(1, round(width / factor))
            image, target = crop(image, target, (*_corner((height, width), part), *part))
            return resize(image, target, canvas[::-1])
        shrunk = max(1, round(canvas[0] * factor)), max(1, round(canvas[1] * factor))
        image, target = resize(image, target, shrunk[::-1])
        top, left = _corner(canvas, shrunk)
        return place(image, target, canvas=canvas, top=top, left=left)


def _corner(outer: tuple[int, int], inner: tuple[int, int]) -> tuple[int, int]:
    """Draw (top, left) of a rectangle of height and width `inner` inside `outer`."""
    return random.randint(0, outer[0] - inner[0]), random.randint(0, outer[1] - inner[1])
