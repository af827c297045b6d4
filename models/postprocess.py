"""From the model's outputs to detections in pixels, as COCO's evaluation wants them."""

import torch
from torch import Tensor, nn

from util.box_ops import box_cxcywh_to_xyxy


class PostProcess(nn.Module):
    """Scores, labels and pixel boxes of all queries; nothing is thresholded, suppressed or clipped."""

    @torch.no_grad()
    def forward(self, outputs: dict[str, Tensor], target_sizes: Tensor) -> list[dict[str, Tensor]]:
        """Detections of each picture.

        Args:
            outputs: `pred_logits` (B, Q, C+1) and `pred_boxes` (B, Q, 4).
            target_sizes: (B, 2) height and width to scale boxes to: the original picture's for evaluation.

        Returns:
            for each picture `scores` (Q,), `labels` (Q,), and `boxes` (Q, 4) xyxy in pixels. A query that most likely
            sees nothing still reports its best class, as the paper does: worth about 2 AP.
        """
        logits, boxes = outputs["pred_logits"], outputs["pred_boxes"]
        if len(logits) != len(target_sizes) or target_sizes.shape[1:] != (2,):
            raise ValueError(f"target_sizes must be ({len(logits)}, 2), got {tuple(target_sizes.shape)}")
        scores, labels = logits.softmax(-1)[..., :-1].max(-1)
        height, width = target_sizes.to(boxes.dtype).unbind(1)
        boxes = box_cxcywh_to_xyxy(boxes) * torch.stack([width, height, width, height], dim=1)[:, None]
        return [{"scores": s, "labels": c, "boxes": b} for s, c, b in zip(scores, labels, boxes)]
