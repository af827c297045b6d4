"""A batch of pictures of different sizes: one padded tensor and the mask that says where the padding is."""

from collections.abc import Sequence

import torch
from torch import Tensor


class NestedTensor:
    """`tensors` (B, C, H, W) padded with zeros below and to the right, `mask` (B, H, W) bool, True on padding."""

    def __init__(self, tensors: Tensor, mask: Tensor) -> None:
        self.tensors = tensors
        self.mask = mask

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "NestedTensor":
        """Return the same batch on `device`."""
        return NestedTensor(
            self.tensors.to(device, non_blocking=non_blocking), self.mask.to(device, non_blocking=non_blocking)
        )

    def decompose(self) -> tuple[Tensor, Tensor]:
        """Return `(tensors, mask)`."""
        return self.tensors, self.mask

    def __len__(self) -> int:
        return len(self.tensors)

    def __repr__(self) -> str:
        return f"NestedTensor({tuple(self.tensors.shape)}, {self.tensors.dtype}, {self.tensors.device})"


def nested_tensor_from_tensor_list(images: Sequence[Tensor] | Tensor) -> NestedTensor:
    """Pad pictures (C, H, W) to the largest height and width among them (not to a multiple of the stride).

    A batch tensor (B, C, H, W) is taken as it is, with a mask that is False everywhere.
    Raises ValueError when the pictures are not all (C, H, W) with the same C.
    """
    if isinstance(images, Tensor) and images.dim() == 4:
        b, _, h, w = images.shape
        return NestedTensor(images, torch.zeros(b, h, w, dtype=torch.bool, device=images.device))
    shapes = [tuple(image.shape) for image in images]
    if not shapes or any(len(s) != 3 or s[0] != shapes[0][0] for s in shapes):
        raise ValueError(f"pictures must be (C, H, W) tensors with the same C, got {shapes}")
    height, width = max(s[1] for s in shapes), max(s[2] for s in shapes)
    tensors = images[0].new_zeros(len(shapes), shapes[0][0], height, width)
    mask = torch.ones(len(shapes), height, width, dtype=torch.bool, device=tensors.device)
    for image, canvas, padding in zip(images, tensors, mask):
        _, h, w = image.shape
        canvas[:, :h, :w].copy_(image)
        padding[:h, :w] = False
    return NestedTensor(tensors, mask)
