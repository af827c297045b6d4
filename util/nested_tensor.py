"""A batch of images of different sizes as one padded tensor with a mask."""

from collections.abc import Sequence

import torch
from torch import Tensor

#: Mean and standard deviation of ImageNet's pixels in 0..1, by channel: what the backbones were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class NestedTensor:
    """`tensors` (B, C, H, W) padded with zeros below and to the right, `mask` (B, H, W) bool, True on padding.

    A caller's own batch may have no mask, None; the model takes it for one without padding.
    Between loader and device the images are bytes (uint8), a quarter of the memory; `normalized` makes them floats.
    """

    def __init__(self, tensors: Tensor, mask: Tensor | None) -> None:
        self.tensors = tensors
        self.mask = mask

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "NestedTensor":
        """Return the same batch on `device`."""
        mask = None if self.mask is None else self.mask.to(device, non_blocking=non_blocking)
        return NestedTensor(self.tensors.to(device, non_blocking=non_blocking), mask)

    def pin_memory(self) -> "NestedTensor":
        """Return the same batch in page-locked memory, from where copies to a GPU do not wait."""
        return NestedTensor(self.tensors.pin_memory(), None if self.mask is None else self.mask.pin_memory())

    def normalized(self) -> "NestedTensor":
        """Return bytes as (x / 255 - mean) / std in float32, the padding still zero; float images as they are.

        Equal to `ToTensor` and `Normalize` image by image, within 1e-6.
        """
        if self.tensors.dtype != torch.uint8:
            return self
        # (B, 3, H, W), made once and then changed in place: 13 MB an image at 800 x 1333.
        pixels = self.tensors.float()
        visible = torch.ones_like(pixels[:, 0]) if self.mask is None else self.mask.logical_not().float()  # (B, H, W)
        # Numbers of the host, channel by channel: tensors of them would have to be copied to the device.
        for plane, mean, std in zip(pixels.unbind(1), IMAGENET_MEAN, IMAGENET_STD, strict=True):
            # x / 255 / std - mean / std, the second part only where there is an image: padding stays 0, as DETR's
            # collate leaves it after normalising.
            plane.mul_(1 / (255 * std)).add_(visible, alpha=-mean / std)
        return NestedTensor(pixels, self.mask)

    def decompose(self) -> tuple[Tensor, Tensor | None]:
        """Return `(tensors, mask)`."""
        return self.tensors, self.mask

    def __len__(self) -> int:
        return len(self.tensors)

    def __repr__(self) -> str:
        return f"NestedTensor({tuple(self.tensors.shape)}, {self.tensors.dtype}, {self.tensors.device})"


def nested_tensor_from_tensor_list(
    images: Sequence[Tensor] | Tensor, *, canvas: tuple[int, int] | None = None
) -> NestedTensor:
    """Pad images (C, H, W) to the largest height and width among them, or to `canvas`, if given, (height, width).

    A batch tensor (B, C, H, W) is taken as it is, with a mask that is False everywhere.
    Raises ValueError when the images are not all (C, H, W) with the same C, or one is larger than the canvas.
    """
    if isinstance(images, Tensor) and images.dim() == 4:  # (B, C, H, W)
        b, _, h, w = images.shape
        return NestedTensor(images, torch.zeros(b, h, w, dtype=torch.bool, device=images.device))
    shapes = [tuple(image.shape) for image in images]
    if not shapes or any(len(s) != 3 or s[0] != shapes[0][0] for s in shapes):
        raise ValueError(f"images must be (C, H, W) tensors with the same C, got {shapes}")
    height, width = canvas or (max(s[1] for s in shapes), max(s[2] for s in shapes))
    if any(s[1] > height or s[2] > width for s in shapes):
        raise ValueError(f"a canvas of {(height, width)} is too small for images of {shapes}")
    # Only the padding is filled with zeros: the rest is written once.
    tensors = images[0].new_empty(len(shapes), shapes[0][0], height, width)
    # Padding until an image says otherwise.
    mask = torch.ones(len(shapes), height, width, dtype=torch.bool, device=tensors.device)
    for image, place, padding in zip(images, tensors, mask):
        _, h, w = image.shape
        place[:, :h, :w] = image
        place[:, h:] = 0
        place[:, :h, w:] = 0
        padding[:h, :w] = False
    return NestedTensor(tensors, mask)
