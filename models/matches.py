"""Matched queries and objects of a batch: image by image as a matcher returns them, and all at once for the losses.

Shapes: B images, N matched pairs, T objects in the batch's lists, padding included, end to end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from util.dist.accelerator import accelerator
from util.targets import Target, object_count

from .matcher import Match


@dataclass(frozen=True)
class BatchObjects:
    """The objects of a batch: `labels` (T,) and `boxes` (T, 4) of all lists end to end, `counts` (B,) of real ones."""

    labels: Tensor
    boxes: Tensor
    counts: Tensor
    #: Lengths of the lists, padding included.
    lengths: list[int]

    @classmethod
    def of(cls, targets: Sequence[Target], like: Tensor) -> "BatchObjects":
        """Gather the objects of targets; `counts` has the type and the device of the tensor `like`."""
        # (T,) and (T, 4): one index then takes the pairs of all images at once.
        labels, boxes = (torch.cat([t[name] for t in targets]) for name in ("labels", "boxes"))
        counts = like.new_tensor([object_count(t) for t in targets])
        return cls(labels, boxes, counts, [len(t["labels"]) for t in targets])


class BatchMatches(list[Match]):
    """The matches of one decoder layer: for each image (queries, objects), on the CPU, as in DETR.

    Beside that the same for the whole batch on its device, so that no loss has to wait for a copy of its own.

    Attributes:
        table: (4, N): of each pair the index of its image and of its query, the place of its object in `batch`, and the
            place of its image in the batches of all layers one after the other.
        batch: the objects that the pairs point at.
        layer: the layer's place among those that were matched together.
    """

    def __init__(self, pairs: Sequence[Match], index: Tensor, batch: BatchObjects, layer: int = 0) -> None:
        super().__init__(pairs)
        self.table = index
        self.batch = batch
        self.layer = layer

    @property
    def image(self) -> Tensor:
        """Index of each pair's image (N,)."""
        return self.table[0]

    @property
    def query(self) -> Tensor:
        """Index of each pair's query (N,)."""
        return self.table[1]

    @property
    def object(self) -> Tensor:
        """Place of each pair's object in `batch` (N,)."""
        return self.table[2]


def match_batch(layers: Sequence[Sequence[Match]], targets: Sequence[Target], like: Tensor) -> list[BatchMatches]:
    """Bring the matches of several decoder layers to the device of `like`: all indices go there in one transfer."""
    batch = BatchObjects.of(targets, like)
    pairs_of_images = [pair for pairs in layers for pair in pairs]
    queries, objects = (_on_host(torch.cat(indices)) for indices in zip(*pairs_of_images))
    # Of each image of each layer: its number in the batch, where its objects begin there, and its number among all.
    row = np.arange(len(pairs_of_images))
    image = row % len(targets)
    first_object = np.cumsum([0, *batch.lengths])[image]
    lengths = [len(queries) for queries, _ in pairs_of_images]
    images, firsts, rows = torch.from_numpy(np.repeat([image, first_object, row], lengths, axis=1))
    on_device = torch.stack([images, queries, objects + firsts, rows]).to(batch.labels.device)
    # Pairs of each layer: the layers lie one after the other in `on_device` (4, all pairs).
    sizes = [sum(len(queries) for queries, _ in pairs) for pairs in layers]
    parts = zip(layers, on_device.split(sizes, 1))
    return [BatchMatches(pairs, index, batch, layer) for layer, (pairs, index) in enumerate(parts)]


def _on_host(indices: Tensor) -> Tensor:
    """Indices on the CPU; those of our matcher are there already, and nothing is waited for."""
    return indices if accelerator(indices.device).host else indices.cpu()
