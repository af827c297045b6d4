"""The set loss of variants: focal classes, and the cells that propose queries as one more layer."""

from typing import Any

import torch
from torch import Tensor

from ..criterion import SetCriterion
from ..layer_losses import LayerGroup
from ..matcher import HungarianMatcher, Outputs
from ..postprocess import PostProcess, scaled_to_pixels
from .focal import focal_cost, focal_losses


class FocalMatcher(HungarianMatcher):
    """The matcher with the focal loss's cost in place of a probability."""

    def class_cost(self, logits: Tensor) -> Tensor:
        """Cost of each class (..., C+1)."""
        return focal_cost(logits)


class FocalCriterion(SetCriterion):
    """The set loss with the focal loss over sigmoids, divided by the number of objects."""

    def label_losses(
        self, group: LayerGroup, num_boxes: Tensor | float, class_weight: Tensor | float | None
    ) -> list[Tensor]:
        """Focal loss over all B * Q queries and C classes of each layer."""
        losses = group.by_layer(focal_losses(group.logits, group.classes(self.num_classes)))
        # By objects, as in RetinaNet and Deformable DETR: sure background adds next to nothing to the sum.
        return [loss.sum() / num_boxes for loss in losses]

    def label_logits(self, logits: Tensor) -> Tensor:
        """Logits (..., C) of which the largest is a query's answer: "no object" has none."""
        return logits[..., :-1]

    def says_object(self, logits: Tensor) -> Tensor:
        """Tell which queries (...) are surer than not to see something by their logits (..., C+1)."""
        return logits[..., :-1].amax(-1) > 0  # a probability of a half

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
