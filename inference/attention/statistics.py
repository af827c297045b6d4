"""Sparseness and place of the decoder's cross-attention over a whole data set: `--attention_stats`.

Sums alone are kept, so memory does not grow with the images.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.attention import AttentionMaps

#: COCO's sizes by area in square pixels of the original image: each ends below its number.
SIZES = {"small": 32.0**2, "medium": 96.0**2, "large": float("inf")}
#: Weights below it count as nothing in `near_zeros`, for a softmax has no exact zeros.
NEAR_ZERO = 1e-6


class Dropped(list):
    """A list of the encoder's weights, which would take gigabytes, that keeps nothing."""

    def append(self, weights: Tensor) -> None:
        """Keep nothing."""


def gini(maps: Tensor) -> Tensor:
    """Return the Gini coefficient (...) of maps (..., n): 0 where all n weights are equal, 1 - 1/n for one alone."""
    n = maps.shape[-1]
    ranks = torch.arange(1, n + 1, dtype=torch.float64, device=maps.device)
    ascending = maps.double().sort(-1).values
    total = ascending.sum(-1).clamp_min(torch.finfo(torch.float64).tiny)
    return 2 * (ascending * ranks).sum(-1) / (n * total) - (n + 1) / n


def inside_boxes(cells: tuple[int, int], stride: tuple[float, float], boxes: Tensor) -> Tensor:
    """Return the part of each cell that lies in each box (n, h, w).

    Args:
        cells: height and width of the map in cells.
        stride: height and width of a cell in pixels.
        boxes: (n, 4) xyxy in pixels.
    """
    parts = []
    for axis, (count, step) in enumerate(zip(cells[::-1], stride[::-1])):  # x, then y
        edges = torch.arange(count + 1, dtype=boxes.dtype, device=boxes.device) * step
        low, high = boxes[:, axis, None], boxes[:, axis + 2, None]
        parts.append((torch.minimum(edges[1:], high) - torch.maximum(edges[:-1], low)).clamp_min(0) / step)
    return parts[1][:, :, None] * parts[0][:, None, :]


class AttentionStatistics:
    """Sums over images of what the maps of every decoder layer and head are like."""

    def __init__(self) -> None:
        self.images = 0
        self._sums: dict[str, np.ndarray] = {}
        self._objects = dict.fromkeys(SIZES, 0)
        self._inside: dict[str, np.ndarray] = {}

    def add(
        self, maps: AttentionMaps, targets: Sequence[Mapping[str, Any]], matches: Sequence, canvas: Sequence[int]
    ) -> None:
        """Take the maps of a batch.

        Args:
            maps: filled by the model: `decoder` L times (B, heads, Q, S), and `padding` (B, h, w).
            targets: with `boxes`, `size` and `orig_size`.
            matches: for each image the indices of queries and of their objects.
            canvas: height and width in pixels of the batch, which the h x w cells cover.
        """
        assert maps.padding is not None, "the model fills the maps"
        h, w = maps.padding.shape[-2:]
        for i, (target, (queries, objects)) in enumerate(zip(targets, matches, strict=True)):
            seen = ~maps.padding[i]
            rows, columns = int(seen.any(1).sum()), int(seen.any(0).sum())
            # (L, heads, Q, rows, columns): without the padding, which has no weight and would count as zeros.
            of_image = torch.stack([m[i] for m in maps.decoder]).float().unflatten(-1, (h, w))[..., :rows, :columns]
            whole = of_image.flatten(2)
            self._add("zeros", (whole == 0).double().mean(-1))
            self._add("near_zeros", (whole < NEAR_ZERO).double().mean(-1))
            self._add("gini", gini(whole))
            self.images += 1
            stride = (canvas[0] / h, canvas[1] / w)
            self._add_objects(of_image[:, :, queries], target, objects, stride)

    def _add(self, name: str, values: Tensor) -> None:
        self._sums[name] = self._sums.get(name, 0) + values.cpu().numpy()

    def _add_objects(
        self, maps: Tensor, target: Mapping[str, Any], objects: Tensor, stride: tuple[float, float]
    ) -> None:
        """Take the maps (L, heads, n, h, w) of the queries of n objects."""
        height, width = target["size"].tolist()
        # cxcywh in parts of the image, to xyxy in pixels of it.
        x, y, box_w, box_h = (
            target["boxes"][objects].float() * maps.new_tensor([width, height, width, height])
        ).unbind(-1)
        boxes = torch.stack([x - box_w / 2, y - box_h / 2, x + box_w / 2, y + box_h / 2], -1)
        shares = (
            (maps * inside_boxes((maps.shape[-2], maps.shape[-1]), stride, boxes)).sum((-2, -1)).cpu().double().numpy()
        )
        enlarged = float(target["orig_size"].prod()) / (height * width)
        for k, area in enumerate((box_w * box_h * enlarged).tolist()):
            size = next(name for name, end in SIZES.items() if area < end)
            self._objects[size] += 1
            self._inside[size] = self._inside.get(size, 0) + shares[:, :, k]

    def summary(self) -> dict[str, Any]:
        """Return means by layer and head (L, heads) as lists; sizes without an object have none."""
        means = {name: (total / max(1, self.images)).tolist() for name, total in self._sums.items()}
        inside = {size: (total / self._objects[size]).tolist() for size, total in self._inside.items()}
        return {"images": self.images, "objects": dict(self._objects), **means, "inside_box": inside}


@torch.no_grad()
def measure_attention(model: Any, matcher: Any, batches: Any, *, to_device: Any) -> dict[str, Any]:
    """Run a model over batches and return the statistics of its decoder's cross-attention.

    Args:
        model: with layers to ask, in evaluation mode.
        matcher: says which query is whose.
        batches: images and targets, as a loader yields them.
        to_device: moves images and targets, and normalises the images.
    """
    statistics = AttentionStatistics()
    for samples, targets in batches:
        samples, targets = to_device(samples, targets)
        maps = AttentionMaps(encoder=Dropped())
        outputs = model(samples, attention=maps)
        last = {name: outputs[name] for name in ("pred_logits", "pred_boxes")}
        statistics.add(maps, targets, matcher(last, targets), samples.tensors.shape[-2:])
    return statistics.summary()


def format_statistics(found: Mapping[str, Any]) -> str:
    """Return the statistics as a table in Markdown: percent, means over the heads, and those of every head's zeros."""
    sizes = [size for size in SIZES if size in found["inside_box"]]
    heads = ["layer", "zeros", f"below {NEAR_ZERO:g}", "Gini", *(f"inside, {size}" for size in sizes), "zeros by head"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for layer, zeros in enumerate(found["zeros"]):
        shares = [zeros, found["near_zeros"][layer]]
        cells = [str(layer + 1), *(f"{100 * np.mean(share):.1f} %" for share in shares)]
        cells.append(f"{np.mean(found['gini'][layer]):.3f}")
        cells += [f"{100 * np.mean(found['inside_box'][size][layer]):.1f} %" for size in sizes]
        cells.append(" ".join(f"{100 * share:.0f}" for share in zeros))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
