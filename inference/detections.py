"""Objects that a detector found in one image, in pixels of that image."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from util.errors import UserError


@dataclass(frozen=True)
class PanopticImage:
    """An image of which each pixel belongs to one segment.

    Attributes:
        ids: (H, W) int64, the segment of each pixel.
        segments: {id, isthing, category_id, area} of each segment; none where nothing was found.
        names: the class name of each segment.
    """

    ids: np.ndarray
    segments: list[dict[str, Any]]
    names: list[str]


@dataclass(frozen=True)
class Detections:
    """N objects of one image, the surest first.

    Attributes:
        boxes: (N, 4) float32, left, top, right, bottom in pixels of the original image; not clipped to it.
        labels: (N,) int64 category ids.
        names: N class names.
        scores: (N,) float32 in 0..1.
        queries: (N,) int64, the query of the model that found each.
        size: height and width of the original image.
        masks: (N, H, W) bool; None for a model without masks.
        panoptic: of a panoptic model, else None.
    """

    boxes: np.ndarray
    labels: np.ndarray
    names: list[str]
    scores: np.ndarray
    queries: np.ndarray
    size: tuple[int, int]
    masks: np.ndarray | None = None
    panoptic: PanopticImage | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, keep: np.ndarray) -> "Detections":
        """Return those that `keep` chooses: (N,) bool, or indices in any order; the panoptic image stays."""
        # To indices, which lists of names take as well.
        chosen = np.arange(len(self))[keep]
        return Detections(
            boxes=self.boxes[chosen],
            labels=self.labels[chosen],
            names=[self.names[k] for k in chosen],
            scores=self.scores[chosen],
            queries=self.queries[chosen],
            size=self.size,
            masks=None if self.masks is None else self.masks[chosen],
            panoptic=self.panoptic,
        )

    def above(self, threshold: float) -> "Detections":
        """Return those that score at least `threshold`."""
        return self.select(self.scores >= threshold)

    def strongest(self, count: int) -> "Detections":
        """Return the `count` surest, or all where there are fewer."""
        return self.select(np.arange(min(count, len(self))))

    def of_classes(self, labels: Collection[int]) -> "Detections":
        """Return those whose category id is among `labels`."""
        return self.select(np.isin(self.labels, list(labels)))

    def without_duplicates(self, iou: float) -> "Detections":
        """Return those left by non-maximum suppression: no surer one of the same class overlaps by more than `iou`."""
        from torchvision.ops import batched_nms  # only this needs torchvision's operators

        boxes, scores, labels = (torch.from_numpy(part) for part in (self.boxes, self.scores, self.labels))
        # batched_nms gives places by falling score; sorted, detections keep the order they have here, also where scores
        # are equal.
        return self.select(np.sort(batched_nms(boxes, scores, labels, iou).numpy()))

    def to_supervision(self) -> Any:
        """Return the same as `supervision.Detections`, class names under `data["class_name"]`.

        Raises UserError where that package is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise UserError("to_supervision() needs the package supervision: pip install supervision") from None
        return supervision.Detections(
            xyxy=self.boxes,
            mask=self.masks,
            confidence=self.scores,
            class_id=self.labels,
            data={"class_name": np.array(self.names, dtype=str)},
        )
