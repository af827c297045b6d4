"""Cut, mirror, scale and pad an image together with its target.

Images are PIL images or tensors (..., H, W); boxes are `xyxy` in pixels. `target` may be None; it is never changed in
place. Nothing here draws a random number: `transforms` decides, these functions do.
"""

import importlib
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torch.nn.functional import pad as pad_tensor

from util.errors import ImageError
from util.targets import Target

#: An image and its target, as they pass from transform to transform.
Example = tuple[Any, Target | None]


@cache
def tv_transforms() -> ModuleType:
    """Import torchvision's transforms on first use: that takes seconds, and only examples need them."""
    return importlib.import_module("torchvision.transforms")


def image_size(image: Image | Tensor) -> tuple[int, int]:
    """Return height and width of a PIL image or a tensor (..., H, W)."""
    return (image.shape[-2], image.shape[-1]) if isinstance(image, Tensor) else (image.height, image.width)


def crop(image: Image | Tensor, target: Target | None, region: Sequence[int]) -> Example:
    """Cut `region` = (top, left, height, width) out; objects left without width or height are dropped.

    However little of an object remains visible, it is kept. Areas become those of the cut boxes.
    """
    top, left, height, width = region
    cut = tv_transforms().functional.crop(image, top, left, height, width)
    if target is None:
        return cut, None
    target = {**target, "size": torch.tensor([height, width])}
    if "masks" in target:
        target["masks"] = tv_transforms().functional.crop(target["masks"], top, left, height, width)
    if "boxes" in target:
        # (n, 2, 2): two corners of x and y, cut to the region.
        corners = (target["boxes"] - torch.tensor([left, top, left, top])).reshape(-1, 2, 2)
        corners = corners.minimum(torch.tensor([width, height], dtype=corners.dtype)).clamp(min=0)
        sides = corners[:, 1] - corners[:, 0]
        # The cut box's area stands in for the mask's, which is not known without masks; as in DETR.
        target["boxes"], target["area"] = corners.flatten(1), sides.prod(1)
        # By boxes where there are any, as in DETR: a mask may be empty where its box still has an area.
        keep = (sides > 0).all(1)
    elif "masks" in target:
        keep = target["masks"].flatten(1).any(1)
    else:
        return cut, target
    per_object = [key for key in ("boxes", "labels", "area", "iscrowd", "masks", "keypoints") if key in target]
    return cut, target | {key: target[key][keep] for key in per_object}


def hflip(image: Image | Tensor, target: Target | None) -> Example:
    """Mirror left and right; a box edge x becomes w - x."""
    flipped = tv_transforms().functional.hflip(image)
    if target is None:
        return flipped, None
    target, width = dict(target), image_size(image)[1]
    if "boxes" in target:
        # The right edge becomes the left one: x0 <= x1 stays true.
        x0, y0, x1, y1 = target["boxes"].unbind(1)
        target["boxes"] = torch.stack([width - x1, y0, width - x0, y1], dim=1)
    if "masks" in target:
        target["masks"] = target["masks"].flip(-1)
    return flipped, target


#: Pixels of a scaled image at most: a side of 600 and one 370 times as long.
MOST_PIXELS = 2**27


def resized_shape(width: int, height: int, size: int, max_size: int | None = None) -> tuple[int, int]:
    """Return height and width after the shorter side became `size`, or less where the longer would pass `max_size`.

    Python's rounding for the limited size, truncation for the longer side: DETR's sizes to the pixel.
    """
    short, long = min(width, height), max(width, height)
    if max_size is not None and long / short * size > max_size:
        # A strip thinner than 1 : 2 * max_size would vanish without the lower bound.
        size = max(1, round(max_size * short / long))
    # Nothing to do: the longer side is not computed anew, for that could round it to another one.
    if short == size:
        return height, width
    if width < height:
        return int(size * height / width), size
    return size, int(size * width / height)


def resize(
    image: Image | Tensor, target: Target | None, size: int | Sequence[int], max_size: int | None = None
) -> Example:
    """Scale so that the shorter side is `size` (see `resized_shape`), or to exactly `size` = (width, height).

    Boxes and areas scale by the ratios of the rounded sizes, per axis. Masks (nearest pixel) become bool. Raises
    ImageError for a strip that would take gigabytes.
    """
    old_height, old_width = image_size(image)
    if isinstance(size, int):
        height, width = resized_shape(old_width, old_height, size, max_size)
    else:
        width, height = size
    if height * width > MOST_PIXELS:  # the scale before a crop has no limit of the longer side
        raise ImageError(
            f"{old_width} x {old_height} pixels would be scaled to {width} x {height}: too thin a strip to train on; "
            "crop it, or leave it out of the annotations"
        )
    if isinstance(image, Tensor):  # torchvision's would compute in floats
        scaled = interpolate(image[None], size=(height, width), mode="bilinear", antialias=True)[0]
    else:
        scaled = tv_transforms().functional.resize(image, [height, width])
    if target is None:
        return scaled, None
    # Of the rounded sizes, and so a little different per axis: boxes stay where the pixels went.
    ratio_x, ratio_y = width / old_width, height / old_height
    target = {**target, "size": torch.tensor([height, width])}
    if "boxes" in target:
        target["boxes"] = target["boxes"] * torch.tensor([ratio_x, ratio_y, ratio_x, ratio_y])
    if "area" in target:
        target["area"] = target["area"] * (ratio_x * ratio_y)
    if "masks" in target:
        # (n, 1, H, W): interpolation takes bytes, not bools.
        masks = target["masks"].to(torch.uint8)[:, None]
        target["masks"] = interpolate(masks, size=(height, width), mode="nearest")[:, 0].bool()
    return scaled, target


def pad(image: Image | Tensor, target: Target | None, padding: Sequence[int]) -> Example:
    """Add `padding` = (right, bottom) black pixels."""
    right, bottom = padding
    padded = tv_transforms().functional.pad(image, [0, 0, right, bottom])
    if target is None:
        return padded, None
    target = {**target, "size": torch.tensor(image_size(padded))}
    if "masks" in target:
        target["masks"] = pad_tensor(target["masks"], (0, right, 0, bottom))
    return padded, target
