"""Noised truth as queries whose answer is known (`--denoising`; DN-DETR, Li et al. 2022).

In training, N groups of the image's objects with moved boxes and at times a wrong class start beside the queries, and
each has to find its object again. No matcher is needed, so they teach the decoder to refine boxes while the matching
still jumps from step to step. The queries that detect do not see them: without them a model detects the same.

Shapes: B images, N groups of P places, M noised objects of the batch, D channels, C classes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.targets import Target, object_count

from ..detector import as_outputs
from .anchors import Queries

#: A box moves by at most this share of half its sides, and its sides change by at most this share.
BOX_NOISE = 0.4
#: Share of the objects whose class is replaced by a random one.
LABEL_NOISE = 0.2
#: Places of a group are a multiple of this: batches then have few different numbers of queries (`--compile`).
PLACES = 8


class Noised(NamedTuple):
    """Noised objects: all places as `queries` (B, N * P), and which of them hold an object.

    `image` and `query` (M,) point at these, `labels` (M,) and `boxes` (M, 4) are the truth without noise.
    """

    queries: Queries
    image: Tensor
    query: Tensor
    labels: Tensor
    boxes: Tensor

    def answers(self, logits: Tensor, boxes: Tensor, *, aux_loss: bool) -> dict[str, Any]:
        """Return what L layers say (L, B, N * P, ...) of the M objects, as outputs of one image, and the truth."""
        # (L, 1, M, ...): all objects of the batch as one image, so that the set loss takes them as they are.
        of_objects = logits[:, self.image, self.query][:, None], boxes[:, self.image, self.query][:, None]
        truth = {"labels": self.labels, "boxes": self.boxes}
        return as_outputs(*of_objects, every_layer=aux_loss) | {"truth": truth}


class Denoising(nn.Module):
    """Noised objects as queries: a content for each class, and a box.

    Args:
        d_model: channels D.
        num_classes: C.
        groups: N.
        most: objects of an image that are noised at most, its first ones: as many as can be matched.
    """

    def __init__(self, d_model: int, num_classes: int, *, groups: int, most: int) -> None:
        super().__init__()
        # Named and shaped as a class head is, so that checkpoints exchange its rows by class, too; the last is that of
        # places without an object.
        self.class_embed = nn.Embedding(num_classes + 1, d_model)
        self.groups = groups
        self.most = most

    def forward(self, targets: Sequence[Target]) -> Noised:
        """Noise the objects of each image, N times each in another way."""
        device, nothing = self.class_embed.weight.device, self.class_embed.num_embeddings - 1
        counts = [min(object_count(t), self.most) for t in targets]
        # At least one multiple, also for a batch without objects: the embedding has a gradient in every step, which
        # DistributedDataParallel waits for.
        places = max(1, -(-max(counts) // PLACES)) * PLACES
        # (n,), (n, 4) and the free places behind: every image gets as many places as the fullest one.
        cut = [(t["labels"][:n], t["boxes"][:n], places - n) for t, n in zip(targets, counts)]
        labels = torch.stack([F.pad(c, (0, free), value=nothing) for c, _, free in cut]).repeat(1, self.groups)
        boxes = torch.stack([F.pad(b, (0, 0, 0, free), value=0.5) for _, b, free in cut]).repeat(1, self.groups, 1)
        boxes = boxes.to(self.class_embed.weight.dtype)
        content = self.class_embed(noise_labels(labels, nothing))
        # (M,) each, made where the counts are known: no device is read.
        query = [(torch.arange(self.groups)[:, None] * places + torch.arange(n)).flatten() for n in counts]
        image = torch.cat([torch.full_like(q, i) for i, q in enumerate(query)])
        index = torch.stack([image, torch.cat(query)]).to(device, non_blocking=True)
        queries = Queries(content, noise_boxes(boxes), hidden=labels == nothing)
        return Noised(queries, index[0], index[1], labels[index[0], index[1]], boxes[index[0], index[1]])


def noise_boxes(boxes: Tensor) -> Tensor:
    """Move boxes (..., 4) cxcywh and change their sides, each by a random share of these; all stays in 0..1."""
    center, sides = boxes.chunk(2, dim=-1)
    shift, growth = (2 * torch.rand_like(boxes) - 1).mul(BOX_NOISE).chunk(2, dim=-1)
    # Shares of the box's own sides: a small object moves by few pixels, and the moved centre is inside its true box.
    return torch.cat([center + shift * sides / 2, sides + growth * sides], dim=-1).clamp(0, 1)


def noise_labels(labels: Tensor, num_classes: int) -> Tensor:
    """Replace some labels (...) by random ones below `num_classes`."""
    replaced = torch.rand(labels.shape, device=labels.device) < LABEL_NOISE
    # Places without an object may get a class, too: they are hidden by the true labels, not by these.
    return torch.where(replaced, torch.randint_like(labels, num_classes), labels)
