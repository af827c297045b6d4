"""From a PIL image to the tensor that a model takes: bytes or floats, parts erased, normalised, with relative boxes.

`ToTensor` and `Normalize` are DETR's pair; `ToUint8Tensor` does the same for a training loop that normalises on its
device. What runs before them works in pixels, and leaves the boxes `xyxy`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from util.box_ops import box_xyxy_to_cxcywh
from util.targets import Target

from .geometry import Example, image_size, tv_transforms


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
        return (image / 255 if isinstance(image, Tensor) else tv_transforms().functional.to_tensor(image)), target

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
        self.eraser = tv_transforms().RandomErasing(*args, **kwargs)

    def __call__(self, image: Tensor, target: Target | None) -> Example:
        return self.eraser(image), target


@dataclass
class Normalize:
    """Subtract `mean` and divide by `std` per channel; boxes become `cxcywh` relative to the image (0..1)."""

    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, image: Tensor, target: Target | None = None) -> Example:
        normalized = tv_transforms().functional.normalize(image, mean=self.mean, std=self.std)
        return normalized, _with_relative_boxes(target, *image.shape[-2:])


def _with_relative_boxes(target: Target | None, height: int, width: int) -> Target | None:
    if target is None or "boxes" not in target:
        return target
    scale = torch.tensor([width, height, width, height], dtype=torch.float32)
    # Last of all: every transform before works in pixels, and batch padding afterwards does not move these numbers.
    return {**target, "boxes": box_xyxy_to_cxcywh(target["boxes"]) / scale}
