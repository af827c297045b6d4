"""Boxes: conversions, intersection over union, and generalised IoU.

Formats: `cxcywh` (centre, size) and `xyxy` (left, top, right, bottom), in pixels or relative to the image.
"""

import torch
from torch import Tensor


def box_cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Convert boxes (..., 4) from centre and size to corners."""
    # Negative sizes would give x1 < x0: the model's sigmoid and the datasets keep them away.
    centre, half = boxes[..., :2], 0.5 * boxes[..., 2:]
    return torch.cat([centre - half, centre + half], dim=-1)


def box_xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Convert boxes (..., 4) from corners to centre and size."""
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dim=-1)


def box_area(boxes: Tensor) -> Tensor:
    """Areas (...) of `xyxy` boxes (..., 4)."""
    return _area(boxes[..., 2:] - boxes[..., :2])


def _iou_and_union(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and union of `xyxy` boxes whose leading dimensions broadcast against each other."""
    # Leading axes broadcast: (N, 1, 2) and (1, M, 2) give (N, M, 2), (N, 2) and (N, 2) give (N, 2).
    top_left = torch.maximum(boxes1[..., :2], boxes2[..., :2])
    bottom_right = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    inter = _area((bottom_right - top_left).clamp(min=0))  # boxes apart have a negative side: no overlap
    # The shared part is in both areas, and counts once.
    union = box_area(boxes1) + box_area(boxes2) - inter
    return inter / union, union


def _generalized_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """GIoU = IoU - (hull - union) / hull (Rezatofighi et al., CVPR 2019), broadcasting."""
    iou, union = _iou_and_union(boxes1, boxes2)
    top_left = torch.minimum(boxes1[..., :2], boxes2[..., :2])
    bottom_right = torch.maximum(boxes1[..., 2:], boxes2[..., 2:])
    hull = _area((bottom_right - top_left).clamp(min=0))  # the smallest box around both
    # Unlike IoU this still has a gradient where boxes are apart: the emptier the hull, the worse.
    return iou - (hull - union) / hull


def _area(sides: Tensor) -> Tensor:
    """Width times height, (..., 2) to (...).

    As a product of two, not by `prod` as in DETR: where one number of all is 0, and only there, the gradient of `prod`
    is computed in another way. It would round by who shares a call, and on a GPU the host would wait for the question.
    """
    width, height = sides.unbind(-1)
    return width * height


def box_iou(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    """Pairwise IoU and union, both (N, M), of `xyxy` boxes (N, 4) and (M, 4)."""
    return _iou_and_union(boxes1[:, None], boxes2[None])  # (N, 1, 4) against (1, M, 4)


def generalized_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Pairwise GIoU of `xyxy` boxes (..., N, 4) and (..., M, 4): (..., N, M), each in -1..1.

    A pair of boxes without any area gives NaN (0/0), as in the original: the engine then names the step.
    """
    return _generalized_iou(boxes1[..., :, None, :], boxes2[..., None, :, :])


def paired_generalized_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """GIoU (N,) of row i of `boxes1` with row i of `boxes2`, without the N x N matrix around its diagonal."""
    return _generalized_iou(boxes1, boxes2)


def masks_to_boxes(masks: Tensor) -> Tensor:
    """Boxes `xyxy` (N, 4) around masks (N, H, W), the last pixel included in x1 and y1.

    An empty mask gives [1e8, 1e8, 0, 0]. One pixel smaller than COCO's boxes, as in the original.
    """
    if masks.numel() == 0:
        return masks.new_zeros((0, 4), dtype=torch.float32)
    masks = masks.bool()
    # Columns (N, W) and rows (N, H) that the mask touches; their ends are x0, x1, y0, y1, in another order than xyxy.
    return torch.cat([_extent(masks.any(dim=1)), _extent(masks.any(dim=2))], dim=1)[:, [0, 2, 1, 3]]


def _extent(occupied: Tensor) -> Tensor:
    """First and last True of each row of (N, L), as float (N, 2)."""
    index = torch.arange(occupied.shape[1], dtype=torch.float32, device=occupied.device)
    # Elsewhere a number that never wins; an empty row keeps it.
    first = torch.where(occupied, index, 1e8).amin(1)
    last = torch.where(occupied, index, 0).amax(1)
    return torch.stack([first, last], dim=1)
