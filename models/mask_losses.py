"""Losses of masks: focal loss and dice loss (section 4.4 of the DETR paper)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from util.targets import Target

# RetinaNet's values, which DETR keeps: easy pixels count little, and the few of an object a quarter.
ALPHA, GAMMA = 0.25, 2.0


def sigmoid_focal_loss(
    inputs: Tensor, targets: Tensor, num_boxes: Tensor | float, alpha: float = ALPHA, gamma: float = GAMMA
) -> Tensor:
    """RetinaNet's focal loss (Lin et al. 2017) of logits (N, ...) against 0 and 1.

    It is the mean of each row, summed, over `num_boxes`.
    """
    # (N, ...) to (N, P): the mean of every mask is over the same P pixels, whatever the size of its object.
    return focal(inputs.flatten(1), targets.flatten(1).to(inputs.dtype), alpha, gamma).sum() / num_boxes


def dice_loss(inputs: Tensor, targets: Tensor, num_boxes: Tensor | float) -> Tensor:
    """1 - dice (Milletari et al. 2016) of each row of logits (N, ...) against 0 and 1, summed, over `num_boxes`."""
    return dice(inputs.flatten(1), targets.flatten(1).to(inputs.dtype)).sum() / num_boxes


def focal(logits: Tensor, truth: Tensor, alpha: float = ALPHA, gamma: float = GAMMA) -> Tensor:
    """Focal loss (N,) of logits (N, P) against `truth` (N, P), the mean over P; a negative `alpha` weighs no class."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    # Cross entropy is -log p of the right answer, so 1 - p needs no sigmoid of its own: two maps less in memory.
    loss = cross_entropy * (-torch.expm1(-cross_entropy)) ** gamma
    if alpha >= 0:
        # alpha where truth is 1, 1 - alpha where it is 0, without a second map.
        loss = loss * (1 - alpha + (2 * alpha - 1) * truth)
    return loss.mean(1)


def dice(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - (2 |p t| + 1) / (|p| + |t| + 1) for each row of logits (N, P) and `truth` (N, P): (N,)."""
    # The ones keep the fraction defined for an empty mask that is predicted empty: its loss is then 0.
    p = logits.sigmoid()
    return 1 - (2 * (p * truth).sum(1) + 1) / (p.sum(1) + truth.sum(1) + 1)


def mask_losses(masks: Tensor, truth: Tensor) -> Tensor:
    """Focal and dice loss (N, 2) of mask logits (N, h, w), enlarged bilinearly, against `truth` (N, H, W) bool."""
    # (N, h, w) to (N, H * W): the truth is not made smaller, so thin objects are not lost.
    logits = F.interpolate(masks[:, None], size=truth.shape[-2:], mode="bilinear", align_corners=False).flatten(1)
    pixels = truth.flatten(1).to(logits.dtype)
    return torch.stack([focal(logits, pixels), dice(logits, pixels)], dim=1)


def on_canvas(targets: Sequence[Target], canvas: tuple[int, int] | None) -> Tensor:
    """The masks of all objects of a batch (T, H, W) on its padded canvas (the largest of them where it is not known).

    Padding is background there, and predicted as such, as in DETR.
    """
    masks = [t["masks"] for t in targets]
    # The dataset's masks end with their image; predictions cover the padded canvas.
    height, width = canvas or (max(m.shape[axis] for m in masks) for axis in (1, 2))
    return torch.cat([F.pad(m.bool(), (0, width - m.shape[2], 0, height - m.shape[1])) for m in masks])
