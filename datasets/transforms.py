"""Transforms of an image together with its target, under DETR's names.

A transform maps `(image, target)` to `(image, target)`. Up to `ToTensor` the image is a PIL image and the boxes are
`xyxy` in pixels; `Normalize` turns the boxes into `cxcywh` in 0..1. `ToUint8Tensor` does both on the way to a training
loop that normalises on its device. After `ToPixels` the image is a uint8 tensor (3, H, W), which all take as well.
`target` may be None; it is never changed in place.
Random choices come from Python's `random`, the positions of crops from torch's generator, as in DETR: the same two
seeds give the same images.
"""

import importlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torch.nn.functional import pad as pad_tensor

from util.box_ops import box_xyxy_to_cxcywh
from util.errors import ImageError
from util.nested_tensor import IMAGENET_MEAN, IMAGENET_STD
from util.targets import Target

from .sizes import ImageSizes

Example = tuple[Any, Target | None]
Transform = Callable[[Any, Target | None], Example]


@cache
def _tv() -> ModuleType:
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
    cut = _tv().functional.crop(image, top, left, height, width)
    if target is None:
        return cut, None
    target = {**target, "size": torch.tensor([height, width])}
    if "masks" in target:
        target["masks"] = _tv().functional.crop(target["masks"], top, left, height, width)
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
    flipped = _tv().functional.hflip(image)
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
        scaled = _tv().functional.resize(image, [height, width])
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
    padded = _tv().functional.pad(image, [0, 0, right, bottom])
    if target is None:
        return padded, None
    target = {**target, "size": torch.tensor(image_size(padded))}
    if "masks" in target:
        target["masks"] = pad_tensor(target["masks"], (0, right, 0, bottom))
    return padded, target


@dataclass
class Compose:
    """One transform after the other."""

    transforms: Sequence[Transform]

    @property
    def pixels_first(self) -> bool:
        """True if images may come as uint8 tensors (3, H, W), which the first transform would make of them."""
        return bool(self.transforms) and isinstance(self.transforms[0], ToPixels)

    def __call__(self, image: Any, target: Target | None) -> Example:
        for transform in self.transforms:
            image, target = transform(image, target)
        return image, target


@dataclass
class RandomSelect:
    """`transforms1` with probability `p`, else `transforms2`."""

    transforms1: Transform
    transforms2: Transform
    p: float = 0.5

    def __call__(self, image: Any, target: Target | None) -> Example:
        # One draw for each image, whatever is chosen: the order of random numbers is DETR's.
        chosen = self.transforms1 if random.random() < self.p else self.transforms2
        return chosen(image, target)


@dataclass
class RandomHorizontalFlip:
    """Mirror with probability `p`."""

    p: float = 0.5

    def __call__(self, image: Image, target: Target | None) -> Example:
        return hflip(image, target) if random.random() < self.p else (image, target)


@dataclass
class RandomResize:
    """Resize to one of `sizes`, the longer side at most `max_size`."""

    sizes: Sequence[int | Sequence[int]]
    max_size: int | None = None

    def __call__(self, image: Image, target: Target | None = None) -> Example:
        return resize(image, target, random.choice(self.sizes), self.max_size)


@dataclass
class FitInside:
    """Scale so that the image just fits inside `canvas` = (height, width); its proportions stay, to the pixel."""

    canvas: tuple[int, int]

    def __call__(self, image: Image, target: Target | None = None) -> Example:
        height, width = image_size(image)
        # The tighter side decides; the other gets padding.
        scale = min(self.canvas[0] / height, self.canvas[1] / width)
        return resize(image, target, (max(1, round(width * scale)), max(1, round(height * scale))))


@dataclass
class RandomPad:
    """Add 0 to `max_pad` pixels at the right and at the bottom."""

    max_pad: int

    def __call__(self, image: Image, target: Target | None) -> Example:
        right, bottom = random.randint(0, self.max_pad), random.randint(0, self.max_pad)
        return pad(image, target, (right, bottom))


@dataclass
class RandomCrop:
    """Crop of `size` = (height, width) at a random place; raises ValueError for a smaller image."""

    size: Sequence[int]

    def __call__(self, image: Image, target: Target | None) -> Example:
        return crop(image, target, _tv().RandomCrop.get_params(image, self.size))


@dataclass
class RandomSizeCrop:
    """Crop whose width and height are each random in `min_size..max_size`, at a random place.

    An image smaller than that is cropped at most to its own side, where DETR stops with an error.
    """

    min_size: int
    max_size: int

    def __call__(self, image: Image, target: Target | None) -> Example:
        old_height, old_width = image_size(image)
        # The width is drawn first, as in DETR: the order decides which crop a seed gives.
        width, height = self._random_side(old_width), self._random_side(old_height)
        return crop(image, target, _tv().RandomCrop.get_params(image, (height, width)))

    def _random_side(self, side: int) -> int:
        largest = min(side, self.max_size)
        # DETR's bounds where the image is large enough: the same seed gives the same crop.
        return random.randint(min(self.min_size, largest), largest)


@dataclass
class CenterCrop:
    """Crop of `size` = (height, width) in the middle."""

    size: Sequence[int]

    def __call__(self, image: Image, target: Target | None) -> Example:
        height, width = self.size
        old_height, old_width = image_size(image)
        top, left = round((old_height - height) / 2), round((old_width - width) / 2)
        return crop(image, target, (top, left, height, width))


def to_pixels(image: Image) -> Tensor:
    """PIL RGB image to uint8 tensor (3, H, W), in memory (H, W, 3)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class ToPixels:
    """PIL image to uint8 tensor (3, H, W), to go on with: PyTorch resizes it two to three times as fast as Pillow.

    It rounds coefficients to 16 bits, where Pillow has 22: a few pixels in ten thousand differ, by 1 of 255.
    """

    def __call__(self, image: Image | Tensor, target: Target | None) -> Example:
        # A dataset's `load_pixels` has decoded to a tensor already.
        return (image if isinstance(image, Tensor) else to_pixels(image)), target

    def __repr__(self) -> str:
        return "ToPixels()"


class ToTensor:
    """Image to float32 tensor (3, H, W) in 0..1."""

    def __call__(self, image: Image | Tensor, target: Target | None) -> Example:
        return (image / 255 if isinstance(image, Tensor) else _tv().functional.to_tensor(image)), target

    def __repr__(self) -> str:
        return "ToTensor()"


class ToUint8Tensor:
    """PIL image to uint8 tensor (3, H, W) in 0..255; boxes become `cxcywh` relative to the image (0..1).

    For `ToTensor` and `Normalize` where the rest is left to `NestedTensor.normalized`: a quarter of the bytes to
    write, to hand from worker to worker, and to copy to a GPU.
    """

    def __call__(self, image: Image | Tensor, target: Target | None = None) -> Example:
        height, width = image_size(image)
        if isinstance(image, Tensor):
            return image, _with_relative_boxes(target, height, width)
        planes = np.empty((3, height, width), np.uint8)
        # PIL unpacks one band faster than numpy can take it out of interleaved pixels.
        for plane, band in zip(planes, "RGB"):
            plane[:] = np.frombuffer(image.tobytes("raw", band), np.uint8).reshape(height, width)
        return torch.from_numpy(planes), _with_relative_boxes(target, height, width)

    def __repr__(self) -> str:
        return "ToUint8Tensor()"


class RandomErasing:
    """torchvision's RandomErasing on the image tensor, with its arguments; the target stays."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.eraser = _tv().RandomErasing(*args, **kwargs)

    def __call__(self, image: Tensor, target: Target | None) -> Example:
        return self.eraser(image), target


@dataclass
class Normalize:
    """Subtract `mean` and divide by `std` per channel; boxes become `cxcywh` relative to the image (0..1)."""

    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, image: Tensor, target: Target | None = None) -> Example:
        normalized = _tv().functional.normalize(image, mean=self.mean, std=self.std)
        return normalized, _with_relative_boxes(target, *image.shape[-2:])


def _with_relative_boxes(target: Target | None, height: int, width: int) -> Target | None:
    if target is None or "boxes" not in target:
        return target
    scale = torch.tensor([width, height, width, height], dtype=torch.float32)
    # Last of all: every transform before works in pixels, and batch padding afterwards does not move these numbers.
    return {**target, "boxes": box_xyxy_to_cxcywh(target["boxes"]) / scale}


def to_model_input(*, as_uint8: bool) -> Transform:
    """Return the last transform: a normalised float image as models take it, or bytes for a loop that normalises."""
    return ToUint8Tensor() if as_uint8 else Compose([ToTensor(), Normalize(IMAGENET_MEAN, IMAGENET_STD)])


def make_coco_transforms(
    image_set: str,
    *,
    image_size: int = 800,
    max_size: int | None = None,
    train_scales: Sequence[int] | None = None,
    crop_resize: Sequence[int] | None = None,
    crop_size: Sequence[int] | None = None,
    fast_resize: bool = False,
    as_uint8: bool = False,
) -> Compose:
    """Return DETR's augmentation (`image_set` "train") or its resizing for evaluation ("val").

    image_size: shorter side in evaluation; whatever else is not given keeps DETR's proportion to it (DETR: 800).
    max_size: limit of the longer side (1333). train_scales: shorter sides in training (480 to 800 in 11 steps).
    crop_resize: shorter sides before the random crop (400, 500, 600). crop_size: least and largest side of the
    crop (384, 600). fast_resize: in training, see `ToPixels`. as_uint8: see `to_model_input`.
    Raises DatasetError for sizes below 1 or none, ValueError for another image_set.
    """
    if image_set not in ("train", "val"):
        raise ValueError(f"image_set must be 'train' or 'val', got {image_set!r}")
    sizes = ImageSizes(
        image_size=image_size,
        max_size=max_size,
        train_scales=train_scales,
        crop_resize=crop_resize,
        crop_size=crop_size,
    )
    finish = to_model_input(as_uint8=as_uint8)
    if image_set == "val":
        return Compose([RandomResize([sizes.shorter], max_size=sizes.limit), finish])
    begin = [ToPixels()] if fast_resize else []
    # `finish` last: until then boxes are xyxy in pixels, and it makes them cxcywh in [0, 1].
    return Compose([*begin, RandomHorizontalFlip(), random_scaling(sizes), finish])


def random_scaling(sizes: ImageSizes, *, crop_probability: float = 0.5) -> RandomSelect:
    """Return DETR's random scale: a part of the images is first cropped at a random size."""
    scale = RandomResize(sizes.scales, max_size=sizes.limit)
    # Objects of a cropped image appear larger, and cut.
    cut = Compose([RandomResize(sizes.first_scales), RandomSizeCrop(*sizes.crop), scale])
    return RandomSelect(scale, cut, p=1 - crop_probability)
