"""Queries to objects: the optimal one-to-one assignment (section 3.1 of the DETR paper)."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from util.dist.accelerator import accelerator
from util.targets import Target, object_count

from .fast.box_costs import BoxPlanes, pairwise_giou, pairwise_l1

#: Indices of matched queries and of the objects they are matched to, both int64 (min(Q, T),).
Match = tuple[Tensor, Tensor]
#: Of a model: `pred_logits`, `pred_boxes`, and more, as `DETR` and `DETRsegm` return them.
Outputs = dict[str, Any]

#: A cost that stands for NaN and infinity: the step goes on to a loss that is not finite, which the engine reports
#: by name, step and image; SciPy would only say that the matrix has an invalid entry.
NOT_A_COST = 1e9
#: The cost of a query that does not exist, for example on padding: no pair has it in the end.
HIDDEN = 1e8
#: Pairs whose costs are computed at a time: on a CPU so few that they stay in the cache of a core, on a device so many
#: that usual batches are one part and large ones leave memory to others.
HOST_PAIRS, DEVICE_PAIRS = 2**16, 2**26
#: Pairs of an image and a layer from which on the assignment is worth threads: half a millisecond.
THREADED_PAIRS = 2**15


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
        # (B, T) and (B, T, 4) with T the most objects of an image; padding may cost something, too, but its columns are
        # cut off.
        labels = pad_sequence([t["labels"] for t in targets], batch_first=True)
        # A box with an area where there is none: two boxes without would make their GIoU 0 / 0.
        objects = pad_sequence([t["boxes"] for t in targets], batch_first=True, padding_value=0.5)
        costs = [  # of all layers of as many queries
            self._costs_of(list(group), labels, objects, sizes)
            for _, group in groupby(layers, key=lambda layer: layer["pred_logits"].shape[1])
        ]
        return assign_on_host(images_on_host(costs, sizes))

    def _costs_of(
        self, layers: Sequence[Outputs], labels: Tensor, objects: Tensor, sizes: Sequence[int]
    ) -> list[Tensor]:
        """Costs of layers with equally many queries; those of `hidden` ones (B, Q) are `HIDDEN`.

        Returns:
            (L, B, Q, T), or on a CPU with many pairs (L, 1, Q, objects of the image) for each image.
        """
        logits = torch.stack([layer["pred_logits"] for layer in layers])
        boxes = torch.stack([layer["pred_boxes"] for layer in layers])
        objects = objects.to(boxes.dtype)
        parts = [(slice(None), labels.shape[1])]
        # Image by image a CPU computes nothing for padding; a GPU would wait for the launches of each.
        if accelerator(boxes.device).host and logits[..., 0].numel() * labels.shape[1] > HOST_PAIRS:
            parts = [(slice(i, i + 1), n) for i, n in enumerate(sizes)]
        costs = [self.cost(logits[:, i], boxes[:, i], labels[i, :n], objects[i, :n]) for i, n in parts]
        if "hidden" in layers[0]:
            hidden = torch.stack([layer["hidden"] for layer in layers])[..., None]  # (L, B, Q, 1)
            costs = [cost.masked_fill_(hidden[:, i], HIDDEN) for cost, (i, _) in zip(costs, parts)]
        return costs

    @torch.no_grad()
    def cost(self, logits: Tensor, boxes: Tensor, labels: Tensor, objects: Tensor) -> Tensor:
        """Costs (L, B, Q, T) in float32 of queries (L, B, Q, ...) and padded objects (B, T), (B, T, 4).

        In memory objects come first: every pass over the pairs then runs along all queries.
        """
        of_class = self.class_cost(logits).movedim(-1, 0).contiguous()  # (C+1, L, B, Q)
        boxes = boxes.float()
        dtype = torch.float64 if objects.dtype is torch.float64 else torch.float32
        queries = BoxPlanes.of(boxes[None], dtype)  # (1, L, B, Q)
        truth = BoxPlanes.of(objects.transpose(0, 1)[:, None, :, None], dtype)  # (T, 1, B, 1)
        index = labels.t()[:, None, :, None].expand(-1, *of_class.shape[1:])  # (T, L, B, Q)
        cost = of_class.new_empty(index.shape, dtype=dtype)
        rows = max(1, (HOST_PAIRS if accelerator(boxes.device).host else DEVICE_PAIRS) // max(1, of_class[0].numel()))
        for part, classes, out in zip(truth.split(rows), index.split(rows), cost.split(rows)):
            # On relative cxcywh, as the loss: an error of 1 % of the image costs the same for a small box as for a
            # large one.
            l1, giou = pairwise_l1(queries, part), pairwise_giou(queries, part)
            # cost_bbox * L1 + cost_class * class - cost_giou * GIoU, in this order, as in DETR.
            pairs = l1.mul_(self.cost_bbox).add_(of_class.gather(0, classes).mul_(self.cost_class))
            torch.nan_to_num(pairs.sub_(giou.mul_(self.cost_giou)), NOT_A_COST, NOT_A_COST, -NOT_A_COST, out=out)
        return cost.movedim(0, -1)

    def class_cost(self, logits: Tensor) -> Tensor:
        """Cost (..., C+1) of taking a query for an object of each class: the less, the likelier the class."""
        # The paper's cost has the probability, not its logarithm: that keeps it commensurable with the box costs.
        return -logits.float().softmax(-1)


def build_matcher(args: Any) -> HungarianMatcher:
    """Build the matcher with the costs of DETR's flags."""
    return HungarianMatcher(args.set_cost_class, args.set_cost_bbox, args.set_cost_giou)


def images_on_host(costs: Sequence[Sequence[Tensor]], sizes: Sequence[int]) -> list[list[Tensor]]:
    """Costs (L, Q, T) of each image and its `sizes` objects, on the CPU.

    Args:
        costs: for the layers of as many queries one tensor (L, B, Q, T) of padded images, or one for each image.
        sizes: objects of each image; the columns behind them are padding.
    """
    tensors = [cost for group in costs for cost in group]
    # Image by image only a CPU computes them: they are there already.
    if len(tensors) == len(costs):
        # The step's one wait for the device: SciPy works on the host. (T, L, B, Q) is the order in memory.
        parts = [cost.movedim(-1, 0) for cost in tensors]
        on_host = torch.cat([part.flatten() for part in parts]).cpu().split([part.numel() for part in parts])
        tensors = [flat.view(part.shape).movedim(0, -1) for flat, part in zip(on_host, parts)]
    remaining = iter(tensors)
    groups = [[image for _ in group for image in next(remaining).unbind(1)] for group in costs]
    return [[image[..., :n] for image, n in zip(images, sizes)] for images in groups]


def assign_on_host(costs: Sequence[Sequence[Tensor]]) -> list[list[Match]]:
    """Optimal pairs of each layer and image by the costs (L, Q, T) of each image of layers with as many queries."""
    matrices = [image[layer].numpy() for images in costs for layer in range(len(images[0])) for image in images]
    threads = min(torch.get_num_threads(), len(matrices))
    if threads > 1 and max(matrix.size for matrix in matrices) >= THREADED_PAIRS:
        # SciPy's solver lets other threads run. Each matrix by itself, so the pairs do not depend on the threads.
        with ThreadPoolExecutor(threads) as pool:
            matches = list(pool.map(_assign, matrices))
    else:
        matches = [_assign(matrix) for matrix in matrices]
    batch = len(costs[0])
    return [matches[first : first + batch] for first in range(0, len(matches), batch)]


def _assign(cost: np.ndarray) -> Match:
    """Optimal pairs of a cost matrix (Q, T) by SciPy's Jonker-Volgenant solver."""
    # Here, so that a model alone (torch hub's) does without SciPy.
    from scipy.optimize import linear_sum_assignment

    if cost.shape[1] < cost.shape[0]:
        # What SciPy would do itself, but in the memory's order.
        objects, queries = linear_sum_assignment(cost.T)
        order = queries.argsort()
        queries, objects = queries[order], objects[order]
    else:
        queries, objects = linear_sum_assignment(cost)
    # Every finite pair is cheaper, so hidden queries are taken only when no other is left.
    if (hidden := cost[queries, objects] == HIDDEN).any():  # more objects than queries that exist
        queries, objects = queries[~hidden], objects[~hidden]
    return torch.as_tensor(queries, dtype=torch.int64), torch.as_tensor(objects, dtype=torch.int64)
