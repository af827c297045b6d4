"""L1 distance and GIoU of all pairs of queries and objects, to the last bit those of the plain formulas.

With the coordinates innermost, (..., Q, T, 4), every operation goes through memory four numbers at a time and makes a
tensor of that size anew. Here coordinates come first, operations run along the queries, and most are in place.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from util.box_ops import box_area, box_cxcywh_to_xyxy


@dataclass(frozen=True)
class BoxPlanes:
    """Boxes of shape (N, ...) with their coordinates in front.

    Attributes:
        cxcywh: (4, N, ...).
        top_left, bottom_right: x and y of corners, (2, N, ...).
        area: (N, ...).
    """

    cxcywh: Tensor
    top_left: Tensor
    bottom_right: Tensor
    area: Tensor

    @classmethod
    def of(cls, boxes: Tensor, dtype: torch.dtype) -> "BoxPlanes":
        """Take boxes (N, ..., 4) cxcywh apart: corners and areas are rounded in their own type, then made `dtype`."""
        corners = box_cxcywh_to_xyxy(boxes)
        xyxy = corners.movedim(-1, 0).to(dtype).contiguous()
        cxcywh = boxes.movedim(-1, 0).to(dtype).contiguous()
        return cls(cxcywh, xyxy[:2], xyxy[2:], box_area(corners).to(dtype))

    def split(self, rows: int) -> "list[BoxPlanes]":
        """Parts of at most so many rows of the first axis, N."""
        if rows >= len(self.area):
            return [self]
        planes = [plane.split(rows, 1) for plane in (self.cxcywh, self.top_left, self.bottom_right)]
        return [BoxPlanes(*part) for part in zip(*planes, self.area.split(rows))]


def pairwise_l1(a: BoxPlanes, b: BoxPlanes) -> Tensor:
    """L1 distance of cxcywh of all pairs, broadcasting; the order of additions is that of `sum(-1)`."""
    x, y, w, h = (a.cxcywh - b.cxcywh).abs_()
    return x.add_(y).add_(w).add_(h)


def pairwise_giou(a: BoxPlanes, b: BoxPlanes) -> Tensor:
    """GIoU of all pairs, broadcasting: the operations of `util.box_ops.generalized_box_iou`, one for one, in place.

    Without a gradient, which operations in place would not have.
    """
    inter = _area(torch.minimum(a.bottom_right, b.bottom_right), torch.maximum(a.top_left, b.top_left))
    union = (a.area + b.area).sub_(inter)
    hull = _area(torch.maximum(a.bottom_right, b.bottom_right), torch.minimum(a.top_left, b.top_left))
    iou = inter.div_(union)
    return iou.sub_(torch.sub(hull, union, out=union).div_(hull))


def _area(bottom_right: Tensor, top_left: Tensor) -> Tensor:
    """Width times height, (2, ...) twice to (...), 0 where a side is negative; overwrites its first argument."""
    width, height = bottom_right.sub_(top_left).clamp_(min=0)
    return width.mul_(height)
