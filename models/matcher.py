"""Queries to objects: the optimal one-to-one assignment (section 3.1 of the DETR paper)."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from util.box_ops import box_cxcywh_to_xyxy, generalized_box_iou
from util.targets import Target, object_count

#: Indices of matched queries and of the objects they are matched to, both int64 (min(Q, T),).
Match = tuple[Tensor, Tensor]
#: Of a model: `pred_logits`, `pred_boxes`, and more, as `DETR` and `DETRsegm` return them.
Outputs = dict[str, Any]

#: A cost that stands for NaN and infinity: the step goes on to a loss that is not finite, which the engine reports
#: by name, step and image; SciPy would only say that the matrix has an invalid entry.
NOT_A_COST = 1e9
#: The cost of a query that does not exist, for example on padding: no pair has it in the end.
HIDDEN = 1e8


class HungarianMatcher(nn.Module):
    """Matches queries to objects so that the sum of the pairs' costs is the smallest possible.

    The cost of a pair is `cost_bbox` * L1 distance of the boxes (cxcywh) - `cost_class` * probability of the object's
    class - `cost_giou` * GIoU. Every query matches at most one object, and objects beyond the
    number of queries match none.

    Raises:
        ValueError: all three weights are 0.
    """

    def __init__(self, cost_class: float = 1, cost_bbox: float = 1, cost_giou: float = 1) -> None:
        super().__init__()
        if cost_class == cost_bbox == cost_giou == 0:
            raise ValueError("--set_cost_class, --set_cost_bbox and --set_cost_giou cannot all be 0")
        self.cost_class = cost_class
        self.cost_bbox = cost_bbox
        self.cost_giou = cost_giou

    @torch.no_grad()
    def forward(self, outputs: Outputs, targets: Sequence[Target]) -> list[Match]:
        """Match one set of predictions.

        Args:
            outputs: `pred_logits` (B, Q, C+1) and `pred_boxes` (B, Q, 4) cxcywh.
            targets: for each image `labels` (T,) and `boxes` (T, 4) cxcywh.

        Returns:
            for each image the indices of queries, ascending, and of their objects, on the CPU.
        """
        return self.match_layers([outputs], targets)[0]

    @torch.no_grad()
    def match_layers(self, layers: Sequence[Outputs], targets: Sequence[Target]) -> list[list[Match]]:
        """Match the predictions of several decoder layers: one cost computation and one transfer to the host."""
        sizes = [object_count(t) for t in targets]
        # (B, T) and (B, T, 4) with T the most objects of an image; padding costs something too, but its columns are cut
        # off.
        labels = pad_sequence([t["labels"] for t in targets], batch_first=True)
        # A box with an area where there is none: two boxes without would make their GIoU 0 / 0.
        objects = pad_sequence([t["boxes"] for t in targets], batch_first=True, padding_value=0.5)
        costs = [  # (L, B, Q, T) for all layers of as many queries
            self._costs_of(list(group), labels, objects)
            for _, group in groupby(layers, key=lambda layer: layer["pred_logits"].shape[1])
        ]
        return assign_on_host(costs, sizes)

    def _costs_of(self, layers: Sequence[Outputs], labels: Tensor, objects: Tensor) -> Tensor:
        """Costs (L, B, Q, T) of layers with equally many queries; those of `hidden` ones (B, Q) are `HIDDEN`."""
        logits = torch.stack([layer["pred_logits"] for layer in layers])
        boxes = torch.stack([layer["pred_boxes"] for layer in layers])
        cost = self.cost(logits, boxes, labels, objects.to(boxes.dtype))
        if "hidden" in layers[0]:
            cost = cost.masked_fill(torch.stack([layer["hidden"] for layer in layers])[..., None], HIDDEN)
        return cost

    def cost(self, logits: Tensor, boxes: Tensor, labels: Tensor, objects: Tensor) -> Tensor:
        """Costs (L, B, Q, T) in float32 of queries (L, B, Q, ...) and padded objects (B, T), (B, T, 4)."""
        of_class = self.class_cost(logits)
        # (L, B, Q, T): for each query the labels of all objects of its image.
        index = labels[None, :, None].expand(*of_class.shape[:-1], -1)
        boxes = boxes.float()
        # (L, B, Q, 1, 4) - (B, 1, T, 4)
        # On relative cxcywh, as the loss: an error of 1 % of the image costs the same for a small box as for a large
        # one.
        l1 = (boxes[..., :, None, :] - objects[..., None, :, :]).abs().sum(-1)
        giou = generalized_box_iou(box_cxcywh_to_xyxy(boxes), box_cxcywh_to_xyxy(objects))  # (L, B, Q, T)
        cost = self.cost_bbox * l1 + self.cost_class * of_class.gather(-1, index) - self.cost_giou * giou
        return cost.nan_to_num(NOT_A_COST, NOT_A_COST, -NOT_A_COST)

    def class_cost(self, logits: Tensor) -> Tensor:
        """Cost (..., C+1) of taking a query for an object of each class: the less, the likelier the class."""
        # The paper's cost has the probability, not its logarithm: that keeps it commensurable with the box costs.
        return -logits.float().softmax(-1)


def build_matcher(args: Any) -> HungarianMatcher:
    """Build the matcher with the costs of DETR's flags."""
    return HungarianMatcher(args.set_cost_class, args.set_cost_bbox, args.set_cost_giou)


def assign_on_host(costs: Sequence[Tensor], sizes: Sequence[int]) -> list[list[Match]]:
    """Optimal pairs of each layer and image.

    Args:
        costs: (L, B, Q, T) of layers with equally many queries, on the device.
        sizes: objects of each image; the columns behind them are padding.
    """
    # The step's one wait for the device: SciPy works on the host.
    on_host = torch.cat([cost.flatten() for cost in costs]).cpu().split([cost.numel() for cost in costs])
    # Each image by itself: SciPy's solver takes one matrix, and its time is small beside the transfer.
    return [
        [_assign(image[:, :n]) for image, n in zip(layer, sizes)]
        for flat, cost in zip(on_host, costs)
        for layer in flat.view(cost.shape).numpy()
    ]


def _assign(cost: np.ndarray) -> Match:
    """Optimal pairs of a cost matrix (Q, T) by SciPy's Jonker-Volgenant solver."""
    # Here, so that a model alone (torch hub's) does without SciPy.
    from scipy.optimize import linear_sum_assignment

    queries, objects = linear_sum_assignment(cost)
    # Every finite pair is cheaper, so hidden queries are taken only when no other is left.
    if (hidden := cost[queries, objects] == HIDDEN).any():  # more objects than queries that exist
        queries, objects = queries[~hidden], objects[~hidden]
    return torch.as_tensor(queries, dtype=torch.int64), torch.as_tensor(objects, dtype=torch.int64)
