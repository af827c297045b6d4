"""Transforms of an image together with its target, under DETR's names.

A transform maps `(image, target)` to `(image, target)`. Up to `ToTensor` the image is a PIL image and the boxes are
`xyxy` in pixels; `Normalize` turns the boxes into `cxcywh` in 0..1. `ToUint8Tensor` does both on the way to a training
loop that normalises on its device. After `ToPixels` the image is a uint8 tensor (3, H, W), which all take as well.
`target` may be None; it is never changed in place.
Random choices come from Python's `random`, the positions of crops from torch's generator, as in DETR: the same two
seeds give the same images.

The work is done in `geometry` (crops, mirrors, sizes) and `to_tensor` (pixels, normalisation); scripts written for
DETR find all names here.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image

from util.nested_tensor import IMAGENET_MEAN, IMAGENET_STD
from util.targets import Target

from .geometry import MOST_PIXELS as MOST_PIXELS
from .geometry import Example, crop, hflip, image_size, pad, resize, tv_transforms
from .geometry import resized_shape as resized_shape
from .sizes import ImageSizes
from .to_tensor import Normalize, ToPixels, ToTensor, ToUint8Tensor
from .to_tensor import RandomErasing as RandomErasing
from .to_tensor import to_pixels as to_pixels

Transform = Callable[[Any, Target | None], Example]


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
        return crop(image, target, tv_transforms().RandomCrop.get_params(image, self.size))


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
        return crop(image, target, tv_transforms().RandomCrop.get_params(image, (height, width)))

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
