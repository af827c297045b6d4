"""Sparseness of a model's attention over a whole data set, and the place of its cross-attention: `--attention_stats`.

Sums alone are kept, so memory does not grow with the images.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.attention import AttentionMaps

from .sparseness import NEAR_ZERO, Measured, OfLayer, add, asked_for_self_attention, means, measure

#: COCO's sizes by area in square pixels of the original image: each ends below its number.
SIZES = {"small": 32.0**2, "medium": 96.0**2, "large": float("inf")}
#: Kinds of attention beside the decoder's cross-attention, by their key in the summary.
OTHERS = {"encoder": "Encoder, self-attention", "decoder_self": "Decoder, self-attention"}


def inside_boxes(cells: tuple[int, int], stride: tuple[float, float], boxes: Tensor) -> Tensor:
    """Return the part of each cell that lies in each box (n, h, w).

    Args:
        cells: height and width of the map in cells.
        stride: height and width of a cell in pixels.
        boxes: (n, 4) xyxy in pixels.
    """
    parts = []
    for axis, (count, step) in enumerate(zip(cells[::-1], stride[::-1])):  # x, then y
        # Borders of the cells in pixels; overlap of two intervals is min of the ends less max of the beginnings.
        edges = torch.arange(count + 1, dtype=boxes.dtype, device=boxes.device) * step
        low, high = boxes[:, axis, None], boxes[:, axis + 2, None]
        parts.append((torch.minimum(edges[1:], high) - torch.maximum(edges[:-1], low)).clamp_min(0) / step)
    # (n, h, 1) * (n, 1, w): the part of an area is the product of the parts of both sides.
    return parts[1][:, :, None] * parts[0][:, None, :]


class AttentionStatistics:
    """Sums over images of what the maps of every layer and head are like.

    Attributes:
        maps: for the model to fill, batch by batch; the encoder's weights are measured and not kept.
        decoder_self: for the self-attention of the decoder's layers.
    """

    def __init__(self) -> None:
        self.images = 0
        self.maps = AttentionMaps()
        self.decoder_self = Measured()
        self._encoder = Measured()
        self._cross: list[OfLayer] = []
        self._objects = dict.fromkeys(SIZES, 0)
        self._inside: dict[str, np.ndarray] = {}

    def begin(self, images: int) -> AttentionMaps:
        """Return the maps for the model to fill with a batch, of which so many images count, the first."""
        self.maps = AttentionMaps(encoder=self._encoder)
        self._encoder.maps = self.maps
        self._encoder.begin(images)
        self.decoder_self.begin(images)
        return self.maps

    def add(
        self, maps: AttentionMaps, targets: Sequence[Mapping[str, Any]], matches: Sequence, canvas: Sequence[int]
    ) -> None:
        """Take the cross-attention of a batch.

        Args:
            maps: filled by the model: `decoder` L times (B, heads, Q, S), and `padding` (B, h, w).
            targets: of the images that count, with `boxes`, `size` and `orig_size`.
            matches: for each of these the indices of queries and of their objects.
            canvas: height and width in pixels of the batch, which the h x w cells cover.
        """
        assert maps.padding is not None, "the model fills the maps"
        h, w = maps.padding.shape[-2:]
        self._cross = self._cross or [{} for _ in maps.decoder]
        for i, (target, (queries, objects)) in enumerate(zip(targets, matches, strict=True)):
            seen = ~maps.padding[i]
            rows, columns = int(seen.any(1).sum()), int(seen.any(0).sum())
            # (L, heads, Q, rows, columns): without the padding, which has no weight and would count as zeros.
            of_image = torch.stack([m[i] for m in maps.decoder]).float().unflatten(-1, (h, w))[..., :rows, :columns]
            for sums, of_layer in zip(self._cross, of_image):
                add(sums, measure(of_layer))
            self.images += 1
            stride = (canvas[0] / h, canvas[1] / w)
            # Only matched queries have an object whose box can be asked about.
            self._add_objects(of_image[:, :, queries], target, objects, stride)

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
        # Square pixels of the file for one of the resized image: COCO's sizes are those of the file.
        enlarged = float(target["orig_size"].prod()) / (height * width)
        for k, area in enumerate((box_w * box_h * enlarged).tolist()):
            size = next(name for name, end in SIZES.items() if area < end)
            self._objects[size] += 1
            self._inside[size] = self._inside.get(size, 0) + shares[:, :, k]

    def state(self) -> tuple:
        """Return all sums, in plain types that another process can add."""
        return self.images, self._objects, self._inside, self._cross, self._encoder.sums, self.decoder_self.sums

    def merge(self, states: Sequence[tuple]) -> None:
        """Take the sums of all processes, this one among them, in place of one's own."""
        self.images = sum(state[0] for state in states)
        self._objects = {size: sum(state[1][size] for state in states) for size in SIZES}
        self._inside = {}
        for state in states:
            add(self._inside, state[2])
        for place, own in ((3, self._cross), (4, self._encoder.sums), (5, self.decoder_self.sums)):
            layers: list[OfLayer] = [{} for _ in max((state[place] for state in states), key=len)]
            for state in states:  # a process without an image has no layers
                for sums, more in zip(layers, state[place]):
                    add(sums, more)
            own[:] = layers

    def summary(self) -> dict[str, Any]:
        """Return means by layer and head (L, heads) as lists; sizes without an object have none.

        Those of the cross-attention stand by themselves, others under their keys in `OTHERS`.
        """
        inside = {size: (total / self._objects[size]).tolist() for size, total in self._inside.items()}
        others = {"encoder": self._encoder.sums, "decoder_self": self.decoder_self.sums}
        return {
            "images": self.images,
            "objects": dict(self._objects),
            **means(self._cross, self.images),
            "inside_box": inside,
            **{kind: means(sums, self.images) for kind, sums in others.items() if sums},
        }


@torch.no_grad()
def measure_attention(model: Any, matcher: Any, batches: Any, *, to_device: Any, images: int) -> AttentionStatistics:
    """Run a model over batches and return the statistics of its attention.

    Args:
        model: with layers to ask, in evaluation mode.
        matcher: says which query is whose.
        batches: images and targets, as a loader yields them.
        to_device: moves images and targets, and normalises the images.
        images: that count, the first; the last of a process may be there a second time, for all have as many.
    """
    statistics = AttentionStatistics()
    with asked_for_self_attention(model, statistics.decoder_self):
        for samples, targets in batches:
            samples, targets = to_device(samples, targets)
            count = min(len(targets), images - statistics.images)
            maps = statistics.begin(count)
            outputs = model(samples, attention=maps)
            last = {name: outputs[name] for name in ("pred_logits", "pred_boxes")}
            matches = matcher(last, targets)[:count]
            statistics.add(maps, targets[:count], matches, samples.tensors.shape[-2:])
    return statistics


def describe_statistics(found: Mapping[str, Any]) -> str:
    """Return a title and a table for each kind of attention that the model has."""
    title = f"Decoder, cross-attention: {found['images']} images, objects {found['objects']}, means over heads"
    parts = [title, format_statistics(found)]
    for kind, name in OTHERS.items():
        if kind in found:
            parts += [name, format_statistics(found[kind])]
    return "\n".join(parts)


def format_statistics(found: Mapping[str, Any]) -> str:
    """Return the statistics of one kind of attention as a table in Markdown.

    Percent, means over the heads, and those of every head's zeros.
    """
    inside = found.get("inside_box", {})
    # A size of object that no image has is no column.
    sizes = [size for size in SIZES if size in inside]
    heads = ["layer", "zeros", f"below {NEAR_ZERO:g}", "Gini", *(f"inside, {size}" for size in sizes), "zeros by head"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for layer, zeros in enumerate(found["zeros"]):
        # (heads,) each, in 0..1.
        shares = [zeros, found["near_zeros"][layer]]
        cells = [str(layer + 1), *(f"{100 * np.mean(share):.1f} %" for share in shares)]
        cells.append(f"{np.mean(found['gini'][layer]):.3f}")
        cells += [f"{100 * np.mean(inside[size][layer]):.1f} %" for size in sizes]
        cells.append(" ".join(f"{100 * share:.0f}" for share in zeros))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
