"""From the model's outputs to detections and masks in pixels, as COCO's evaluation wants them."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.box_ops import box_cxcywh_to_xyxy


class PostProcess(nn.Module):
    """Scores, labels and pixel boxes of all queries; nothing is thresholded, suppressed or clipped."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities (..., C+1) of the classes and, last, of "no object"."""
        return logits.softmax(-1)

    @torch.no_grad()
    def forward(self, outputs: dict[str, Any], target_sizes: Tensor) -> list[dict[str, Tensor]]:
        """Detections of each image.

        Args:
            outputs: `pred_logits` (B, Q, C+1) and `pred_boxes` (B, Q, 4).
            target_sizes: (B, 2) height and width to scale boxes to: the original image's for evaluation.

        Returns:
            for each image `scores` (Q,), `labels` (Q,), and `boxes` (Q, 4) xyxy in pixels. A query that most likely
            sees nothing still reports its best class, as the paper does: worth about 2 AP.
        """
        # Softmax over C+1, then the best of C: a query's "no object" lowers its score but does not silence it.
        scores, labels = self.probabilities(outputs["pred_logits"])[..., :-1].max(-1)
        boxes = scaled_to_pixels(outputs["pred_boxes"], target_sizes)
        return [{"scores": s, "labels": c, "boxes": b} for s, c, b in zip(scores, labels, boxes)]


def scaled_to_pixels(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (B, Q, 4), cxcywh in 0..1, as xyxy in pixels of images of `sizes` (B, 2), height and width."""
    if len(boxes) != len(sizes) or sizes.shape[1:] != (2,):
        raise ValueError(f"target_sizes must be ({len(boxes)}, 2), got {tuple(sizes.shape)}")
    # (B,) each; a box's x belongs to the width, which comes second in sizes.
    height, width = sizes.to(boxes.dtype).unbind(1)
    # (B, Q, 4) * (B, 1, 4): relative to the image without padding, so its own size scales them.
    return box_cxcywh_to_xyxy(boxes) * torch.stack([width, height, width, height], dim=1)[:, None]


class PostProcessSegm(nn.Module):
    """Masks of all queries at the size of the original image: every pixel of a probability above `threshold`."""

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__()
        self.threshold = threshold

    @torch.no_grad()
    def forward(
        self,
        results: list[dict[str, Tensor]],
        outputs: dict[str, Any],
        orig_target_sizes: Tensor,
        max_target_sizes: Tensor,
    ) -> list[dict[str, Tensor]]:
        """Add `masks` (Q, 1, H, W) uint8, on the CPU, to the results of each image.

        Args:
            results: those of `PostProcess`; changed in place.
            outputs: `pred_masks` (B, Q, h, w) and, from our model, `canvas`.
            orig_target_sizes: (B, 2) height and width of the original images.
            max_target_sizes: (B, 2) height and width of the images as the model saw them, without padding.
        """
        if len(orig_target_sizes) != len(max_target_sizes):
            raise ValueError(f"{len(orig_target_sizes)} original sizes for {len(max_target_sizes)} images")
        canvas = padded_size(outputs, max_target_sizes)
        sizes = zip(max_target_sizes.tolist(), orig_target_sizes.tolist())
        # Image by image: at full size the masks of a batch are the largest tensors of an evaluation.
        for result, masks, (size, original) in zip(results, outputs["pred_masks"], sizes, strict=True):
            if "queries" in result:  # not one answer for each query, in their order
                masks = masks[result["queries"]]
            # (1, Q, h, w) to the canvas (1, Q, H, W), which is what the masks cover; then the padding is cut off.
            logits = F.interpolate(masks[None], size=canvas, mode="bilinear", align_corners=False)
            # Cut before it is resized to the original: the original's size knows nothing of the padding.
            visible = (logits.sigmoid() > self.threshold)[..., : size[0], : size[1]].byte()
            # Nearest, as in DETR, on 0 and 1: what is left of the threshold stays crisp.
            result["masks"] = F.interpolate(visible, size=tuple(original)).transpose(0, 1).cpu()
        return results


def padded_size(outputs: dict[str, Any], sizes: Tensor) -> tuple[int, int]:
    """Height and width of padded images: as the model says, else the largest of the images' `sizes` (B, 2)."""
    height, width = canvas_of(outputs) or sizes.amax(0).tolist()
    return height, width


def canvas_of(outputs: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width of the padded images as the model says them in `canvas`; None if it does not."""
    if outputs.get("canvas") is None:
        return None
    height, width = outputs["canvas"]
    return int(height), int(width)
