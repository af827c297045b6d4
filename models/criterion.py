"""The set loss: match queries to objects, then classification, box and GIoU losses (section 3.1 of the DETR paper).

Losses have the original's names and arguments, so that a subclass may override one, or add its own in `get_loss`.
"""

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.box_ops import box_cxcywh_to_xyxy, paired_generalized_box_iou
from util.chunks import in_chunks
from util.dist.distributed import reduce_mean
from util.profiling import annotate
from util.targets import Target, object_count

from .mask_losses import mask_losses
from .matcher import HungarianMatcher, Match, Outputs
from .matches import BatchMatches, match_batch
from .postprocess import canvas_of


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the sum that is trained on: every loss times its weight; those without a weight are only logged."""
    return cast(Tensor, sum(value * weights[name] for name, value in losses.items() if name in weights))


class SetCriterion(nn.Module):
    """DETR's loss for the last decoder layer and, under names ending in `_0`, `_1`, ..., for the layers before it.

    Args:
        num_classes: C; label C means "no object".
        matcher: pairs queries with objects, anew for every decoder layer: anything that, called with outputs and
            targets, returns for each image the indices of queries and of their objects.
        weight_dict: weight of each loss in the total, by name; losses without one are only logged.
        eos_coef: weight of the no-object class, which most queries belong to.
        losses: what is computed, of `labels`, `boxes`, `cardinality`, `masks` and what a subclass adds in `get_loss`.
        mask_chunk: compute the losses of at most so many masks at a time; 0: no limit.
    """

    empty_weight: Tensor

    def __init__(
        self,
        num_classes: int,
        matcher: nn.Module,
        weight_dict: dict[str, float],
        eos_coef: float,
        losses: Sequence[str] = ("labels", "boxes", "cardinality"),
        *,
        mask_chunk: int = 0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.matcher = matcher
        self.weight_dict = weight_dict
        self.eos_coef = eos_coef
        self.losses = list(losses)
        self.mask_chunk = mask_chunk
        # (C+1,): most of the Q queries see nothing, and their share would drown the objects'.
        weight = torch.ones(num_classes + 1)
        weight[-1] = eos_coef
        self.register_buffer("empty_weight", weight)

    def forward(
        self,
        outputs: Outputs,
        targets: Sequence[Target],
        *,
        num_boxes: Tensor | float | None = None,
        class_weight: float | None = None,
    ) -> dict[str, Tensor]:
        """Compute all losses and logged quantities, each a scalar.

        Args:
            outputs: `pred_logits` (B, Q, C+1), `pred_boxes` (B, Q, 4), `aux_outputs`, a list of the same, and, from
                a model with a mask head, `pred_masks` (B, Q, h, w) and `canvas`, the padded images' (H, W).
            targets: for each image `labels` (T,), `boxes` (T, 4) cxcywh in 0..1, `masks` (T, H, W) if asked for; where
                `num_objects` says that only the first so many are real, the rest counts for nothing.
            num_boxes: the divisor of box losses: the objects of these targets by default, with several processes
                their mean over the processes, so that every object of the whole batch weighs the same.
            class_weight: the divisor of the classification loss: `class_weight` of these targets by default, but of
                all of them where this is a part of a batch. A subclass's `loss_labels` gets it if it takes it.

        Returns:
            `loss_ce`, `loss_bbox`, `loss_giou`, `class_error`, `cardinality_error`, and `..._i` for auxiliary layer i;
            with `masks` `loss_mask` and `loss_dice`, for the last layer only.
        """
        if num_boxes is None:
            num_boxes = boxes_of_all_processes(targets, outputs["pred_boxes"])
        layers = self.layers_of(outputs)
        with annotate("matcher"):
            # Every layer is matched anew: its predictions are its own.
            pairs = self._match(list(layers.values()), targets)
        losses: dict[str, Tensor] = {}
        for (suffix, layer), matches in zip(layers.items(), match_batch(pairs, targets, outputs["pred_logits"])):
            for name in self.losses:
                if suffix and name == "masks":
                    continue  # the mask head sees the last layer only
                # `class_error` is logged for the last layer only.
                options = self._options_of_labels(class_weight, log=not suffix) if name == "labels" else {}
                values = self.get_loss(name, layer, targets, matches, num_boxes, **options)
                # `loss_ce`, `loss_ce_0`, ...: the names that `weight_dict` and DETR's log files have.
                losses |= {key + suffix: value for key, value in values.items()}
        return losses

    def layers_of(self, outputs: Outputs) -> dict[str, Outputs]:
        """Predictions by the suffix of their losses: the last layer's without one, auxiliary layer i's `_i`."""
        return {"": outputs} | {f"_{i}": layer for i, layer in enumerate(outputs.get("aux_outputs", []))}

    def get_loss(
        self,
        loss: str,
        outputs: Outputs,
        targets: Sequence[Target],
        indices: Sequence[Match],
        num_boxes: Tensor | float,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Compute the losses of one kind, as named in `losses`. Raises ValueError for a kind that is not known."""
        kinds = {
            "labels": self.loss_labels,
            "cardinality": self.loss_cardinality,
            "boxes": self.loss_boxes,
            "masks": self.loss_masks,
        }
        if loss not in kinds:
            raise ValueError(f"losses: {loss} is none of {', '.join(kinds)}; a new kind needs a get_loss of its own")
        return kinds[loss](outputs, targets, indices, num_boxes, **kwargs)

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum that is trained on."""
        return weighted_sum(losses, self.weight_dict)

    def class_weight(self, targets: Sequence[Target], queries: int) -> float:
        """Sum of the class weights of all queries of these images: 1 where matched, `eos_coef` elsewhere."""
        # The same for every layer, whatever it matches: the assignment is one-to-one, so its size is known beforehand.
        matched = sum(min(object_count(t), queries) for t in targets)
        # An object's weight is 1 whatever its class; the other B * Q - N queries have the weight of "no object".
        return matched + self.eos_coef * (len(targets) * queries - matched)

    def loss_labels(
        self,
        outputs: Outputs,
        targets: Sequence[Target],
        indices: Sequence[Match],
        num_boxes: Tensor | float,
        log: bool = True,
        *,
        class_weight: Tensor | float | None = None,
    ) -> dict[str, Tensor]:
        """Cross entropy over all B * Q queries: matched ones should say their object's label, others "no object".

        The weighted mean divides by the sum of the weights, not by the number of objects. `log` adds `class_error`.
        """
        with annotate("loss_labels"):
            logits = outputs["pred_logits"]
            matches = matches_of_batch(indices, targets, logits)
            # Index pairs (N,), (N,) into (B, Q), and the label (N,) that each should say.
            matched, labels = (matches.image, matches.query), matches.batch.labels[matches.object]
            # Every query means "no object" until a match says otherwise.
            classes = torch.full(logits.shape[:2], self.num_classes, dtype=torch.int64, device=logits.device)
            classes[matched] = labels  # (B, Q)
            loss = partial(F.cross_entropy, logits.flatten(0, 1), classes.flatten(), self.empty_weight)
            # PyTorch's mean divides by the weights of this batch; of a part of a batch that would be another divisor
            # each time.
            losses = {"loss_ce": loss() if class_weight is None else loss(reduction="sum") / class_weight}
        if log:
            losses["class_error"] = class_error(logits[matched], labels)
        return losses

    def loss_cardinality(
        self, outputs: Outputs, targets: Sequence[Target], indices: Sequence[Match], num_boxes: Tensor | float
    ) -> dict[str, Tensor]:
        """Error in the number of objects that are predicted; logged only."""
        with annotate("loss_cardinality"):
            logits = outputs["pred_logits"]
            return {
                "cardinality_error": cardinality_error(logits, matches_of_batch(indices, targets, logits).batch.counts)
            }

    def loss_boxes(
        self, outputs: Outputs, targets: Sequence[Target], indices: Sequence[Match], num_boxes: Tensor | float
    ) -> dict[str, Tensor]:
        """L1 (on cxcywh) and 1 - GIoU between matched queries and their objects (N, 4), summed, over `num_boxes`."""
        with annotate("loss_boxes"):
            matches = matches_of_batch(indices, targets, outputs["pred_logits"])
            # (N, 4) both, cxcywh: only matched queries have a box to learn; the others learn a class alone.
            predicted, boxes = outputs["pred_boxes"][matches.image, matches.query], matches.batch.boxes[matches.object]
            # (N,): the pairs alone, where DETR takes the diagonal of an N x N matrix.
            giou = paired_generalized_box_iou(box_cxcywh_to_xyxy(predicted), box_cxcywh_to_xyxy(boxes))
            return {
                "loss_bbox": F.l1_loss(predicted, boxes, reduction="sum") / num_boxes,
                "loss_giou": (1 - giou).sum() / num_boxes,
            }

    def loss_masks(
        self, outputs: Outputs, targets: Sequence[Target], indices: Sequence[Match], num_boxes: Tensor | float
    ) -> dict[str, Tensor]:
        """Focal and dice loss between masks of matched queries and of objects (N, H, W), summed, over `num_boxes`."""
        with annotate("loss_masks"):
            matches = matches_of_batch(indices, targets, outputs["pred_logits"])
            # (N, H, W) truth at full size, (N, H/4, W/4) predictions of just the matched queries.
            masks = _on_canvas(targets, canvas_of(outputs))[matches.object]
            predicted = outputs["pred_masks"][matches.image, matches.query]
            # At full size two maps for every pair: --mask_chunk bounds how many live at a time.
            losses = in_chunks(mask_losses, predicted, masks, chunk=self.mask_chunk)  # (N, 2)
            focal, dice = losses.sum(0) / num_boxes
            return {"loss_mask": focal, "loss_dice": dice}

    def _options_of_labels(self, class_weight: Tensor | float | None, *, log: bool) -> dict[str, Any]:
        """Arguments of `loss_labels` that are not its defaults; a subclass has to know the original's only."""
        options: dict[str, Any] = {} if log else {"log": False}
        if class_weight is not None:
            parameters = inspect.signature(self.loss_labels).parameters.values()
            # DETR's `loss_labels` does not know the argument: only a signature that takes it gets it.
            # Losses of a subclass mostly divide by `num_boxes`, which is that of the whole batch.
            if any(p.name == "class_weight" or p.kind is p.VAR_KEYWORD for p in parameters):
                options["class_weight"] = class_weight
        return options

    def _match(self, layers: Sequence[Outputs], targets: Sequence[Target]) -> Sequence[Sequence[Match]]:
        """Matches of each layer: by one cost computation for all where the matcher is ours, else one by one."""
        if isinstance(self.matcher, HungarianMatcher) and type(self.matcher).forward is HungarianMatcher.forward:
            # One transfer to the host for all L layers instead of one each.
            return self.matcher.match_layers(layers, targets)
        return [self.matcher({k: v for k, v in o.items() if k != "aux_outputs"}, targets) for o in layers]

    def _get_src_permutation_idx(self, indices: Sequence[Match]) -> tuple[Tensor, Tensor]:
        """Index (N,) of the image and of the query of each matched pair, for losses of subclasses."""
        if isinstance(indices, BatchMatches):
            return indices.image, indices.query
        return _image_of_each(indices), torch.cat([queries for queries, _ in indices])

    def _get_tgt_permutation_idx(self, indices: Sequence[Match]) -> tuple[Tensor, Tensor]:
        """Index (N,) of the image, and of the object in it, of each matched pair, for losses of subclasses."""
        return _image_of_each(indices), torch.cat([objects for _, objects in indices])


def matches_of_batch(indices: Sequence[Match], targets: Sequence[Target], like: Tensor) -> BatchMatches:
    """Matches as `forward` hands them on; made from a plain list where a loss is called by somebody else."""
    return indices if isinstance(indices, BatchMatches) else match_batch([indices], targets, like)[0]


def _image_of_each(indices: Sequence[Match]) -> Tensor:
    return torch.cat([torch.full_like(queries, i) for i, (queries, _) in enumerate(indices)])


def boxes_of_all_processes(targets: Sequence[Target], like: Tensor) -> Tensor:
    """Objects of the targets, at least 1; with several processes their mean over these, on the device of `like`."""
    # DETR's num_boxes: the mean over processes, because DDP averages gradients afterwards, and 1 where no image has
    # objects, since a loss of 0 / 0 would be NaN.
    objects = like.new_tensor(float(sum(map(object_count, targets))))
    return reduce_mean(objects).clamp(min=1)


def _on_canvas(targets: Sequence[Target], canvas: tuple[int, int] | None) -> Tensor:
    """The masks of all objects of a batch (T, H, W) on its padded canvas (the largest of them where it is not known).

    Padding is background there, and predicted as such, as in DETR.
    """
    masks = [t["masks"] for t in targets]
    # The dataset's masks end with their image; predictions cover the padded canvas.
    height, width = canvas or (max(m.shape[axis] for m in masks) for axis in (1, 2))
    return torch.cat([F.pad(m.bool(), (0, width - m.shape[2], 0, height - m.shape[1])) for m in masks])


@torch.no_grad()
def class_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Per cent of matched queries (N, C+1) whose most likely class is not their object's; 100 without objects."""
    if labels.numel() == 0:
        return logits.new_tensor(100.0)
    return 100 * (logits.argmax(-1) != labels).float().mean()


@torch.no_grad()
def cardinality_error(logits: Tensor, counts: Tensor) -> Tensor:
    """Mean over images of |queries (B, Q, C+1) that predict an object - objects there are (B,)|."""
    # The last of C+1 is "no object": all other answers count as an object, however unsure.
    predicted = (logits.argmax(-1) != logits.shape[-1] - 1).sum(1).to(counts.dtype)  # (B,)
    return F.l1_loss(predicted, counts)
