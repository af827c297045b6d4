"""The set loss of variants: focal classes, and the cells that propose queries as one more layer."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from util.profiling import annotate
from util.targets import Target

from ..criterion import SetCriterion, class_error, matches_of_batch
from ..matcher import HungarianMatcher, Match, Outputs
from ..postprocess import PostProcess, scaled_to_pixels
from .focal import focal_cost, focal_loss


class FocalMatcher(HungarianMatcher):
    """The matcher with the focal loss's cost in place of a probability."""

    def class_cost(self, logits: Tensor) -> Tensor:
        """Cost of each class (..., C+1)."""
        return focal_cost(logits)


class FocalCriterion(SetCriterion):
    """The set loss with the focal loss over sigmoids, divided by the number of objects."""

    def loss_labels(
        self,
        outputs: Outputs,
        targets: Sequence[Target],
        indices: Sequence[Match],
        num_boxes: Tensor | float,
        log: bool = True,
        **_: Any,
    ) -> dict[str, Tensor]:
        """Focal loss over all B * Q queries and C classes; `log` adds `class_error`."""
        with annotate("loss_labels"):
            logits = outputs["pred_logits"]
            matches = matches_of_batch(indices, targets, logits)
            matched, labels = (matches.image, matches.query), matches.batch.labels[matches.object]
            classes = torch.full(logits.shape[:2], self.num_classes, dtype=torch.int64, device=logits.device)
            classes[matched] = labels  # (B, Q)
            # By objects, as in RetinaNet and Deformable DETR: sure background adds next to nothing to the sum.
            losses = {"loss_ce": focal_loss(logits, classes) / num_boxes}
        if log:
            losses["class_error"] = class_error(logits[matched][..., :-1], labels)
        return losses

    def loss_cardinality(
        self, outputs: Outputs, targets: Sequence[Target], indices: Sequence[Match], num_boxes: Tensor | float
    ) -> dict[str, Tensor]:
        """Error in the number of queries that are surer than not to see something; logged only."""
        logits = outputs["pred_logits"]
        counts = matches_of_batch(indices, targets, logits).batch.counts
        with torch.no_grad():
            predicted = (logits[..., :-1].amax(-1) > 0).sum(1).to(counts.dtype)  # (B,); 0 is a probability of a half
            return {"cardinality_error": F.l1_loss(predicted, counts)}

    def layers_of(self, outputs: Outputs) -> dict[str, Outputs]:
        """Predictions as `SetCriterion`, and those of the cells that propose queries, `_enc`."""
        layers = super().layers_of(outputs)
        if "hidden" in outputs:  # queries that do not exist, in every decoder layer
            layers = {suffix: layer | {"hidden": outputs["hidden"]} for suffix, layer in layers.items()}
        return layers | ({"_enc": outputs["enc_outputs"]} if "enc_outputs" in outputs else {})


class FocalPostProcess(PostProcess):
    """The surest pairs of query and class: a query may answer with several classes.

    As many as there are queries, at least 100.
    """

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities (..., C+1), of classes each by itself; "no object" is what the likeliest leaves."""
        classes = logits[..., :-1].sigmoid()
        return torch.cat([classes, 1 - classes.amax(-1, keepdim=True)], dim=-1)

    @torch.no_grad()
    def forward(self, outputs: dict[str, Any], target_sizes: Tensor) -> list[dict[str, Tensor]]:
        """Detections of each image, as `PostProcess`; `queries` (N,) says which query gave each."""
        probability = outputs["pred_logits"][..., :-1].sigmoid()  # (B, Q, C)
        boxes = scaled_to_pixels(outputs["pred_boxes"], target_sizes)
        # Index q * C + c of the flattened pairs gives both numbers back below.
        classes = probability.shape[-1]
        # COCO counts 100 detections an image; small models may have fewer pairs than that.
        count = min(max(100, probability.shape[1]), probability[0].numel())
        scores, pairs = probability.flatten(1).topk(count, dim=1)
        queries, labels = pairs // classes, pairs % classes
        return [
            {"scores": s, "labels": c, "boxes": b[q], "queries": q}
            for s, c, b, q in zip(scores, labels, boxes, queries)
        ]
