"""The set loss: match queries to objects, then classification, box and GIoU losses (section 3.1 of the DETR paper)."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.box_ops import box_cxcywh_to_xyxy, paired_generalized_box_iou
from util.chunks import in_chunks
from util.dist.distributed import reduce_mean
from util.nested_tensor import object_count
from util.profiling import annotate

from .mask_losses import mask_losses
from .matcher import HungarianMatcher, Match

Outputs = dict[str, Tensor]
Targets = Sequence[dict[str, Tensor]]


class SetCriterion(nn.Module):
    """DETR's loss for the last decoder layer and, under names ending in `_0`, `_1`, ..., for the layers before it.

    Args:
        num_classes: C; label C means "no object".
        matcher: pairs queries with objects, anew for every decoder layer.
        weight_dict: weight of each loss in the total, by name; losses without one are only logged.
        eos_coef: weight of the no-object class, which most queries belong to.
        mask_chunk: compute the losses of at most so many masks at a time; 0: no limit.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        matcher: HungarianMatcher,
        weight_dict: dict[str, float],
        eos_coef: float,
        mask_chunk: int = 0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.matcher = matcher
        self.weight_dict = weight_dict
        self.mask_chunk = mask_chunk
        self.eos_coef = eos_coef
        weight = torch.ones(num_classes + 1)
        weight[-1] = eos_coef
        self.register_buffer("empty_weight", weight)

    def forward(
        self,
        outputs: dict,
        targets: Targets,
        *,
        num_boxes: Tensor | float | None = None,
        class_weight: float | None = None,
    ) -> dict[str, Tensor]:
        """All losses and logged quantities, each a scalar.

        Args:
            outputs: `pred_logits` (B, Q, C+1), `pred_boxes` (B, Q, 4), `aux_outputs`, a list of the same, and, from
                a model with a mask head, `pred_masks` (B, Q, h, w) and `canvas`, the padded images' (H, W).
            targets: for each image `labels` (T,), `boxes` (T, 4) cxcywh in 0..1, `masks` (T, H, W) if asked for; where `num_objects` says that only
                the first so many are real, the rest counts for nothing.
            num_boxes: divisor of the box losses; by default the objects of these targets, at least 1, and with several
                processes their mean over the processes, so that every object of the whole batch weighs the same.
            class_weight: what the classification loss is divided by: `class_weight` of these targets by default, but of
                all of them where this is a part of a batch.

        Returns:
            `loss_ce`, `loss_bbox`, `loss_giou`, `class_error`, `cardinality_error`, and `..._i` for auxiliary layer i;
            with masks `loss_mask` and `loss_dice`, for the last layer only.
        """
        counts = [object_count(t) for t in targets]
        lengths = [len(t["labels"]) for t in targets]
        if num_boxes is None:
            objects = outputs["pred_boxes"].new_tensor(float(sum(counts)))
            num_boxes = reduce_mean(objects).clamp(min=1)
        layers = [outputs, *outputs.get("aux_outputs", [])]
        with annotate("matcher"):
            matches = self.matcher.match_layers(layers, targets)
        labels, boxes = (torch.cat([t[name] for t in targets]) for name in ("labels", "boxes"))
        objects_per_image = outputs["pred_logits"].new_tensor(counts)
        losses: dict[str, Tensor] = {}
        for i, (layer, (image, query, obj)) in enumerate(zip(layers, _indices(matches, lengths, labels.device))):
            values = self.loss_labels(layer, labels[obj], (image, query), class_weight)
            if i == 0:
                values["class_error"] = class_error(layer["pred_logits"][image, query], labels[obj])
            with annotate("loss_cardinality"):
                values["cardinality_error"] = cardinality_error(layer["pred_logits"], objects_per_image)
            values |= self.loss_boxes(layer, boxes[obj], (image, query), num_boxes)
            if i == 0 and "pred_masks" in outputs:
                masks = _on_canvas(targets, outputs.get("canvas"))
                values |= self.loss_masks(layer, masks[obj], (image, query), num_boxes)
            losses |= {name + (f"_{i - 1}" if i else ""): value for name, value in values.items()}
        return losses

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum that is trained on."""
        return sum(value * self.weight_dict[name] for name, value in losses.items() if name in self.weight_dict)

    def class_weight(self, targets: Targets, queries: int) -> float:
        """Sum of the class weights of all queries of these images: 1 where matched, `eos_coef` elsewhere."""
        matched = sum(min(object_count(t), queries) for t in targets)
        return matched + self.eos_coef * (len(targets) * queries - matched)

    def loss_labels(
        self, outputs: Outputs, labels: Tensor, matched: Match, class_weight: float | None = None
    ) -> dict[str, Tensor]:
        """Cross entropy over all B * Q queries: matched ones should say `labels` (N,), all others "no object".

        The weighted mean divides by the sum of the weights, not by the number of objects.
        """
        with annotate("loss_labels"):
            logits = outputs["pred_logits"]
            classes = torch.full(logits.shape[:2], self.num_classes, dtype=torch.int64, device=logits.device)
            classes[matched] = labels
            loss = partial(F.cross_entropy, logits.flatten(0, 1), classes.flatten(), self.empty_weight)
            return {"loss_ce": loss() if class_weight is None else loss(reduction="sum") / class_weight}

    def loss_boxes(
        self, outputs: Outputs, boxes: Tensor, matched: Match, num_boxes: Tensor | float
    ) -> dict[str, Tensor]:
        """L1 (on cxcywh) and 1 - GIoU between matched queries and their objects (N, 4), summed, over `num_boxes`."""
        with annotate("loss_boxes"):
            predicted = outputs["pred_boxes"][matched]
            giou = paired_generalized_box_iou(box_cxcywh_to_xyxy(predicted), box_cxcywh_to_xyxy(boxes))
            return {
                "loss_bbox": F.l1_loss(predicted, boxes, reduction="sum") / num_boxes,
                "loss_giou": (1 - giou).sum() / num_boxes,
            }

    def loss_masks(
        self, outputs: Outputs, masks: Tensor, matched: Match, num_boxes: Tensor | float
    ) -> dict[str, Tensor]:
        """Focal and dice loss between the masks of matched queries and their objects' (N, H, W), summed, over `num_boxes`."""
        with annotate("loss_masks"):
            losses = in_chunks(mask_losses, outputs["pred_masks"][matched], masks, chunk=self.mask_chunk)
            focal, dice = losses.sum(0) / num_boxes
            return {"loss_mask": focal, "loss_dice": dice}


def _on_canvas(targets: Targets, canvas: tuple[int, int] | None) -> Tensor:
    """The masks of all objects of a batch (T, H, W) on its padded canvas (the largest of them where it is not known).

    Padding is background there, and predicted as such, as in DETR.
    """
    masks = [t["masks"] for t in targets]
    height, width = canvas or (max(m.shape[axis] for m in masks) for axis in (1, 2))
    return torch.cat([F.pad(m.bool(), (0, width - m.shape[2], 0, height - m.shape[1])) for m in masks])


def _indices(matches: list[list[Match]], lengths: list[int], device: torch.device) -> Tensor:
    """For each layer and matched pair its image, its query, and its object in the batch's list: (L, 3, N).

    `lengths` are those of the images' lists, padding included, which lie end to end in the batch's.

    Every layer matches the same number of pairs, so all indices go to the device in one transfer.
    """
    first_object = torch.tensor([0, *lengths]).cumsum(0)
    return torch.stack(
        [
            torch.cat(
                [torch.stack([q.new_full(q.shape, i), q, o + first_object[i]]) for i, (q, o) in enumerate(match)], 1
            )
            for match in matches
        ]
    ).to(device)


@torch.no_grad()
def class_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Per cent of matched queries (N, C+1) whose most likely class is not their object's; 100 without objects."""
    if labels.numel() == 0:
        return logits.new_tensor(100.0)
    return 100 * (logits.argmax(-1) != labels).float().mean()


@torch.no_grad()
def cardinality_error(logits: Tensor, counts: Tensor) -> Tensor:
    """Mean over images of |queries (B, Q, C+1) that predict an object - objects there are (B,)|."""
    predicted = (logits.argmax(-1) != logits.shape[-1] - 1).sum(1).to(counts.dtype)
    return F.l1_loss(predicted, counts)
