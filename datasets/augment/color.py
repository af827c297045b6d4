"""Random brightness, contrast, saturation and hue, in one pass over the pixels."""

import math
import random
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from util.targets import Target

from ..geometry import Example

#: RGB to luma and two axes of chroma (YIQ of NTSC): hue is an angle between these two, saturation a length.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_RGB = np.linalg.inv(_YIQ)


@dataclass
class ColorJitter:
    """Brightness, contrast and saturation times 1 - s to 1 + s each, hue turned by up to s / 4 of the circle.

    torchvision's has four passes, one of them through HSV, and takes many times as long. Here all four are one 3 x 3
    matrix and one summand, and only the result is cut to 0..255.
    """

    strength: float

    def __call__(self, image: Image.Image | Tensor, target: Target | None) -> Example:
        brightness, contrast, saturation = (random.uniform(1 - self.strength, 1 + self.strength) for _ in range(3))
        # All three are linear in the colour, so they are one matrix; brightness and contrast are plain factors of it.
        matrix = brightness * contrast * _chroma(saturation, random.uniform(-self.strength, self.strength) / 4)
        # Contrast moves pixels away from the mean luma, which a change of chroma leaves as it is.
        summand = brightness * (1 - contrast) * _mean_luma(image)
        if isinstance(image, Tensor):
            # (3, 3) @ (3, H * W)
            mixed = torch.from_numpy(matrix).float() @ image.flatten(1).float() + summand
            return mixed.round_().clamp_(0, 255).to(torch.uint8).view_as(image), target
        # Pillow's form: three rows of three factors and a summand.
        return image.convert("RGB", tuple(np.column_stack([matrix, [summand] * 3]).flatten().tolist())), target


def _chroma(saturation: float, turn: float) -> np.ndarray:
    """Return the matrix (3, 3) that scales chroma by `saturation` and turns it by `turn` of a circle."""
    cos, sin = saturation * math.cos(2 * math.pi * turn), saturation * math.sin(2 * math.pi * turn)
    return _RGB @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ _YIQ


def _mean_luma(image: Image.Image | Tensor) -> float:
    if isinstance(image, Tensor):
        means = image.flatten(1).float().mean(1).numpy()
    else:
        # A box filter to a single pixel is the mean of the image, computed in C.
        means = np.array(image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)))
    return float(_YIQ[0] @ means)
