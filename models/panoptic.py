"""From overlapping masks to a panoptic image, each pixel of which has one segment (section 4.4 of the DETR paper)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from util.panoptic_png import encode_segments

from .postprocess import padded_size

#: A segment of at most so many pixels is given up, and its pixels go to the next best.
FEWEST_PIXELS = 4
#: What the original knows of COCO's classes: things come first. Classes from 201 on are errors there.
ORIGINAL_THINGS = {label: label <= 90 for label in range(201)}


class PostProcessPanoptic(nn.Module):
    """Give every pixel to the query that is surest of it.

    Queries that see nothing, or are not sure by more than `threshold`, are left out; those of the same stuff class
    become one segment. Three faults of the original are mended; `original` brings them back, to repeat its numbers:

    - Masks cover the padded canvas. It stretches them from there to the size of the image without padding, so that in
      a batch of different sizes segments are displaced. Here they are cut off where the image ends.
    - When segments that are too small go, it forgets which queries were merged. Here they stay together.
    - It fails with a KeyError for a class that `is_thing_map` does not list. Here such queries are left out.

    Args:
        is_thing_map: for each category id whether it is a thing (countable: dog) or stuff (sky).
        threshold: least probability of a segment's class.
    """

    def __init__(self, is_thing_map: Mapping[int, bool], threshold: float = 0.85, *, original: bool = False) -> None:
        super().__init__()
        self.is_thing_map = dict(is_thing_map)
        self.threshold = threshold
        self.original = original

    @torch.no_grad()
    def forward(
        self, outputs: dict[str, Any], processed_sizes: Any, target_sizes: Any | None = None
    ) -> list[dict[str, Any]]:
        """Make the panoptic image of each image of a batch.

        Args:
            outputs: `pred_logits` (B, Q, C+1), `pred_masks` (B, Q, h, w) and, from our model, `canvas`.
            processed_sizes: (height, width) of each image as the model saw it, without padding: (B, 2) or a list.
            target_sizes: (height, width) of each result; `processed_sizes` by default.

        Returns:
            for each image `png_string`, the PNG in COCO's format, and `segments_info`, a list of {id, isthing,
            category_id, area}, with ids from 0 and areas in pixels; without any segment it is empty, the PNG all zero.
        """
        sizes = _as_pairs(processed_sizes)
        targets = sizes if target_sizes is None else _as_pairs(target_sizes)
        if not len(outputs["pred_logits"]) == len(sizes) == len(targets):
            raise ValueError(f"{len(sizes)} and {len(targets)} sizes for {len(outputs['pred_logits'])} images")
        # Masks (Q, h, w) cover the padded canvas: they are enlarged to it before an image's part is cut out.
        canvas = padded_size(outputs, torch.tensor(sizes))
        results = []
        for logits, masks, size, target in zip(outputs["pred_logits"], outputs["pred_masks"], sizes, targets):
            chosen, labels = self._choose(logits)
            masks = self._at_full_size(masks[chosen], canvas, size)
            # Queries of one stuff class make one segment: the first of them leads it.
            leaders = self._leaders(labels)
            ids, kept = self._assign(masks, leaders, target)
            results.append(self._result(ids, [labels[k] for k in kept]))
        return results

    def _choose(self, logits: Tensor) -> tuple[Tensor, list[int]]:
        """Indices (n,) of the queries (Q, C+1) that become segments, and their labels."""
        # Over all C+1: here "no object" may win, in which case the query is left out.
        scores, labels = logits.softmax(-1).max(-1)
        sure = (labels != logits.shape[-1] - 1) & (scores > self.threshold)
        chosen = [
            k
            for k, label in zip(sure.nonzero()[:, 0].tolist(), labels[sure].tolist())
            if self.original or label in self.is_thing_map
        ]
        index = torch.tensor(chosen, dtype=torch.int64, device=logits.device)
        return index, labels[index].tolist()

    def _at_full_size(self, masks: Tensor, canvas: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Mask logits (n, h, w) of the canvas to those of the image (n, *size)."""
        # The original stretches the canvas, padding included, to the image's size.
        if self.original:
            canvas = size
        if len(masks) == 0:
            return masks.new_zeros(0, *size)
        # (n, 1, h, w) to (n, 1, H, W): interpolation wants an axis of channels.
        full = F.interpolate(masks[:, None], size=canvas, mode="bilinear", align_corners=False)[:, 0]
        # Padding lies below and to the right, so the image is the canvas's upper left corner.
        return full[:, : size[0], : size[1]]

    def _leaders(self, labels: list[int]) -> np.ndarray:
        """For each query the first one of its segment (n,): itself, or, of stuff, the first of the same class."""
        first: dict[int, int] = {}
        return np.array(
            [k if self.is_thing_map[label] else first.setdefault(label, k) for k, label in enumerate(labels)], dtype=int
        )

    def _assign(self, masks: Tensor, leaders: np.ndarray, target: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Segment numbers (*target) of the pixels of masks (n, H, W), and the query that leads each segment."""
        kept = np.arange(len(masks))
        while True:
            # (H, W): each pixel's surest query, then the one that leads its segment.
            winners = leaders[_surest(masks)] if len(masks) else np.zeros(masks.shape[1:], dtype=int)
            # Areas are counted in the result's pixels: the threshold for small segments is about what is written.
            ids = _resize(winners, target)
            areas = np.bincount(ids.ravel(), minlength=len(masks))
            # A merged query has no pixels under its own number: its leader's area decides for both.
            lost = (areas if self.original else areas[leaders])[: len(masks)] <= FEWEST_PIXELS
            if not lost.any():
                break
            # Again from the masks: the pixels of a lost segment may go to several others, which can lift one over the
            # limit.
            kept, masks = kept[~lost], masks[torch.from_numpy(~lost).to(masks.device)]
            place = np.cumsum(~lost) - 1  # of what is left, by its old index
            leaders = np.arange(len(masks)) if self.original else place[leaders[~lost]]
        # Query numbers with gaps to 0, 1, 2, ...; `kept` leads back to the chosen queries.
        segments = np.unique(leaders)
        return np.searchsorted(segments, ids) if len(segments) else ids, kept[segments]

    def _result(self, ids: np.ndarray, labels: list[int]) -> dict[str, Any]:
        # With `minlength` a segment that has no pixel still has its 0.
        areas = np.bincount(ids.ravel(), minlength=len(labels)).tolist()
        segments = [
            {"id": k, "isthing": self.is_thing_map[label], "category_id": label, "area": area}
            for k, (label, area) in enumerate(zip(labels, areas))
        ]
        return {"png_string": encode_segments(ids), "segments_info": segments}


def _surest(masks: Tensor) -> np.ndarray:
    """Index of the surest mask (n, H, W) at each pixel (H, W)."""
    # The softmax does not change the order, but it makes ties, which then go to the first query as in the original.
    return masks.flatten(1).transpose(0, 1).softmax(-1).argmax(-1).view(masks.shape[1:]).cpu().numpy()


def _resize(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Ids (H, W) at another size: at each place that of the nearest pixel."""
    # Nearest: between segments 3 and 5 there is no segment 4. PIL's size is (width, height).
    image = Image.fromarray(ids.astype(np.int32)).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.asarray(image).astype(int)


def _as_pairs(sizes: Tensor | Sequence) -> list[tuple[int, int]]:
    """(height, width) of each image as integers."""
    return [(int(height), int(width)) for height, width in sizes]
