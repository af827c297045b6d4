"""Turns and mirrorings that move every pixel to another place and change none: for images without an up or a left."""

import random
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from util.targets import Target

from ..geometry import Example, image_size

#: Pillow's name of a turn by so many quarters, counter-clockwise.
_QUARTERS = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}


def vflip(image: Image.Image | Tensor, target: Target | None) -> Example:
    """Mirror top and bottom; a box edge y becomes h - y. Keypoints stay, as in every transform."""
    flipped = image.flip(-2) if isinstance(image, Tensor) else image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if target is None:
        return flipped, None
    target, height = dict(target), image_size(image)[0]
    if "boxes" in target:
        x0, y0, x1, y1 = target["boxes"].unbind(1)
        # The lower edge becomes the upper one, so y1 and y0 change places: xyxy stays ordered.
        target["boxes"] = torch.stack([x0, height - y1, x1, height - y0], dim=1)
    if "masks" in target:
        target["masks"] = target["masks"].flip(-2)
    return flipped, target


def rotate90(image: Image.Image | Tensor, target: Target | None, quarters: int) -> Example:
    """Turn counter-clockwise by 0 to 3 quarters; one or three of them exchange height and width."""
    if quarters == 0:
        return image, target
    turned = turn(image, quarters)
    if target is None:
        return turned, None
    # A copy: the dataset may hand out the same dictionary again.
    target = {**target, "size": torch.tensor(image_size(turned))}
    height, width = image_size(image)
    if "boxes" in target:
        x0, y0, x1, y1 = target["boxes"].unbind(1)
        # One quarter takes the pixel at (x, y) to (y, width - x): the right edge becomes the top one.
        edges = {
            1: (y0, width - x1, y1, width - x0),
            2: (width - x1, height - y1, width - x0, height - y0),
            3: (height - y1, x0, height - y0, x1),
        }
        target["boxes"] = torch.stack(edges[quarters], dim=1)
    if "masks" in target:
        target["masks"] = target["masks"].rot90(quarters, (-2, -1))
    return turned, target


def turn(image: Image.Image | Tensor, quarters: int) -> Image.Image | Tensor:
    """Return the image (..., H, W) turned counter-clockwise by 1 to 3 quarters."""
    if isinstance(image, Tensor):
        return image.rot90(quarters, (-2, -1))
    return image.transpose(_QUARTERS[quarters])


@dataclass
class RandomVerticalFlip:
    """Mirror top and bottom with probability `p`."""

    p: float = 0.5

    def __call__(self, image: Image.Image | Tensor, target: Target | None) -> Example:
        return vflip(image, target) if random.random() < self.p else (image, target)


@dataclass
class RandomRotate90:
    """Turn by 0, 1, 2 or 3 quarters, each as likely as the others."""

    def __call__(self, image: Image.Image | Tensor, target: Target | None) -> Example:
        return rotate90(image, target, random.randrange(4))
