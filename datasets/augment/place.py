"""An image put somewhere on a larger canvas, and its target with it."""

import torch
from PIL import Image
from torch import Tensor

from util.nested_tensor import IMAGENET_MEAN
from util.targets import Target

from ..geometry import Example, image_size

#: The colour that is zero after normalisation, as padding is.
MEAN_COLOUR = (round(255 * IMAGENET_MEAN[0]), round(255 * IMAGENET_MEAN[1]), round(255 * IMAGENET_MEAN[2]))


def place(
    image: Image.Image | Tensor, target: Target | None, *, canvas: tuple[int, int], top: int, left: int
) -> Example:
    """Put an image at (top, left) of a canvas = (height, width) of MEAN_COLOUR, which holds all of it."""
    placed: Image.Image | Tensor
    if isinstance(image, Tensor):
        height, width = image_size(image)
        # (3,) to (3, H, W).
        placed = torch.tensor(MEAN_COLOUR, dtype=image.dtype)[:, None, None].repeat(1, *canvas)
        placed[:, top : top + height, left : left + width] = image
    else:
        placed = Image.new("RGB", canvas[::-1], MEAN_COLOUR)
        placed.paste(image, (left, top))
    return placed, None if target is None else shift(target, canvas=canvas, top=top, left=left)


def shift(target: Target, *, canvas: tuple[int, int], top: int, left: int) -> Target:
    """Return the target of an image that lies at (top, left) of a canvas = (height, width)."""
    target = {**target, "size": torch.tensor(canvas)}
    if "boxes" in target:
        # xyxy in pixels: x moves by `left`, y by `top`.
        target["boxes"] = target["boxes"] + torch.tensor([left, top, left, top])
    if "masks" in target:
        count, height, width = target["masks"].shape
        # `orig_size` stays: COCO's evaluation asks for boxes in pixels of the file.
        masks = torch.zeros(count, *canvas, dtype=torch.bool)
        masks[:, top : top + height, left : left + width] = target["masks"]
        target["masks"] = masks
    return target
