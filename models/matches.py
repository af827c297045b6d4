"""Matched queries and objects of a batch: image by image as a matcher returns them, and all at once for the losses.

Shapes: B images, N matched pairs, T objects in the batch's lists, padding included, end to end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
        image, query: of each pair (N,), the index of its image and of its query.
        object: of each pair (N,), the place of its object in `batch`.
        batch: the objects that the pairs point at.
    """

    def __init__(self, pairs: Sequence[Match], index: Tensor, batch: BatchObjects) -> None:
        super().__init__(pairs)
        # (3, N) into three rows (N,).
        self.image, self.query, self.object = index
        self.batch = batch


def match_batch(layers: Sequence[Sequence[Match]], targets: Sequence[Target], like: Tensor) -> list[BatchMatches]:
    """Bring the matches of several decoder layers to the device of `like`: all indices go there in one transfer."""
    batch = BatchObjects.of(targets, like)
    # (B + 1,): where each image's objects begin in the end-to-end lists; the last number is T and unused.
    first_object = torch.tensor([0, *batch.lengths]).cumsum(0)
    indices = [
        # (3, pairs of an image): its number, queries, and objects by their place in the batch.
        torch.stack([q.new_full(q.shape, i), q, o + first_object[i]])
        for pairs in layers
        for i, (q, o) in enumerate((_on_host(q), _on_host(o)) for q, o in pairs)
    ]
    # Pairs of each layer: the layers lie one after the other in `on_device` (3, all pairs).
    sizes = [sum(len(queries) for queries, _ in pairs) for pairs in layers]
    on_device = torch.cat(indices, 1).to(batch.labels.device)
    return [BatchMatches(pairs, index, batch) for pairs, index in zip(layers, on_device.split(sizes, 1))]


def _on_host(indices: Tensor) -> Tensor:
    """Indices on the CPU; those of our matcher are there already, and nothing is waited for."""
    return indices if accelerator(indices.device).host else indices.cpu()
