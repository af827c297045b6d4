"""The set loss's parts for several decoder layers at once: as many operators as one layer takes.

Each layer's numbers are to the last bit those that it has by itself.

Shapes: L layers, B images, Q queries, C classes, P matched pairs of all layers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from util.box_ops import box_cxcywh_to_xyxy, paired_generalized_box_iou

from .matcher import Outputs
from .matches import BatchMatches, BatchObjects


@dataclass(frozen=True)
class LayerGroup:
    """L decoder layers with equally many queries as one batch of L * B images, the first layer's before the second's.

    Attributes:
        layers, matches: of each layer.
        row, query, object: of each pair (P,), the index of its image in the L * B, of its query, and the place of its
            object in the batch's.
    """

    layers: Sequence[Outputs]
    matches: Sequence[BatchMatches]
    row: Tensor
    query: Tensor
    object: Tensor

    @classmethod
    def of(cls, layers: Sequence[Outputs], matches: Sequence[BatchMatches]) -> "LayerGroup":
        """Join layers that were matched together, one after the other."""
        index = matches[0].table if len(matches) == 1 else torch.cat([of_layer.table for of_layer in matches], 1)
        _, query, place, row = index
        # Rows count from the first layer of all.
        before = matches[0].layer * len(layers[0]["pred_logits"])
        return cls(layers, matches, row - before if before else row, query, place)

    @cached_property
    def logits(self) -> Tensor:
        """Class logits (L * B, Q, C+1)."""
        return self._joined("pred_logits")

    @cached_property
    def boxes(self) -> Tensor:
        """Boxes (L * B, Q, 4), cxcywh."""
        return self._joined("pred_boxes")

    @property
    def batch(self) -> BatchObjects:
        """The objects that the pairs point at."""
        return self.matches[0].batch

    @property
    def pairs(self) -> list[int]:
        """Number of pairs of each layer."""
        return [of_layer.table.shape[1] for of_layer in self.matches]

    def classes(self, no_object: int) -> Tensor:
        """Return the label (L * B, Q) that each query should say, `no_object` where it is not matched."""
        # Every query means "no object" until a match says otherwise.
        classes = torch.full(self.logits.shape[:2], no_object, dtype=torch.int64, device=self.logits.device)
        classes[self.row, self.query] = self.batch.labels[self.object]
        return classes

    def by_layer(self, values: Tensor) -> tuple[Tensor, ...]:
        """Take values (L * B, Q, ...) of queries apart: (B * Q, ...) of each layer."""
        return values.flatten(0, 1).unflatten(0, (len(self.layers), -1)).unbind()

    def _joined(self, name: str) -> Tensor:
        tensors = [layer[name] for layer in self.layers]
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def groups_of(layers: Mapping[str, Outputs], matches: Sequence[BatchMatches]) -> Iterator[tuple[list[str], LayerGroup]]:
    """Yield the neighbours with as many queries as one group, and their names."""
    all_layers = zip(layers.items(), matches)
    for _, group in groupby(all_layers, key=lambda layer: layer[0][1]["pred_logits"].shape[1]):
        named, matched = zip(*group)
        yield [name for name, _ in named], LayerGroup.of([layer for _, layer in named], matched)


def cross_entropies(group: LayerGroup, classes: Tensor, weight: Tensor, divisor: Tensor | float | None) -> list[Tensor]:
    """Cross entropy of each layer with the weights (C+1,) of the classes (L * B, Q).

    The mean divides by the sum of the weights, or by `divisor` where that is given.
    """
    log_probabilities = group.by_layer(group.logits.log_softmax(-1))  # (B * Q, C+1) of each layer
    # PyTorch's mean divides by the weights of this batch; of a part of a batch that would be another divisor each time.
    reduction = "mean" if divisor is None else "sum"
    losses = [
        F.nll_loss(log_probability, labels, weight, reduction=reduction)
        for log_probability, labels in zip(log_probabilities, group.by_layer(classes))
    ]
    return losses if divisor is None else [loss / divisor for loss in losses]


def box_losses(group: LayerGroup, num_boxes: Tensor | float) -> list[dict[str, Tensor]]:
    """L1 (on cxcywh) and 1 - GIoU of the pairs of each layer, summed, over `num_boxes`."""
    # (P, 4) both, cxcywh: only matched queries have a box to learn; the others learn a class alone.
    predicted, boxes = group.boxes[group.row, group.query], group.batch.boxes[group.object]
    # (P,): the pairs alone, where DETR takes the diagonal of a P x P matrix.
    giou = paired_generalized_box_iou(box_cxcywh_to_xyxy(predicted), box_cxcywh_to_xyxy(boxes))
    l1 = F.l1_loss(predicted, boxes, reduction="none")
    sums = [part.sum() for values in (l1, 1 - giou) for part in values.split(group.pairs)]
    # One division for all.
    of_l1, of_giou = (torch.stack(sums) / num_boxes).view(2, -1)
    return [{"loss_bbox": a, "loss_giou": b} for a, b in zip(of_l1, of_giou)]


@torch.no_grad()
def count_errors(group: LayerGroup, says_object: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
    """Mean over images of |queries that predict an object - objects there are|, of each layer.

    `says_object` tells for logits (..., C+1) which queries do, (...).
    """
    counts = group.batch.counts  # (B,)
    predicted = says_object(group.logits).sum(1).to(counts.dtype)  # (L * B,)
    return (predicted.view(-1, len(counts)) - counts).abs().mean(1).unbind()
