"""FLOPs of a training step of a run's model, by the shape of its batch."""

from typing import Any

import torch
from torch import Tensor, nn

from util.nested_tensor import NestedTensor
from util.profiling import without_ranges
from util.profiling.shape_products import ProductCounter, shape_copy

#: Images, height and width of a batch.
Shape = tuple[int, int, int]


def batch_flops(model: nn.Module, criterion: nn.Module, shape: Shape, *, objects: int) -> int:
    """Return the FLOPs of the products in forward and backward of a batch, `objects` in each image.

    Those of the loss are none but a mask head's, which runs for matched queries alone. No random number is drawn, and
    neither the model nor its device is touched.
    """
    images, height, width = shape
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), without_ranges():
        copied = shape_copy(model).train()
        known = {"targets": _targets(images, objects)} if getattr(criterion, "targets_to_model", False) else {}
        pixels = torch.empty(images, 3, height, width, device="meta")
        batch = NestedTensor(pixels, torch.empty(images, height, width, dtype=torch.bool, device="meta"))
        with ProductCounter() as counter:
            outputs = copied(batch, **known)
            if "pred_masks" in outputs:
                # (N,) pairs of image and query: as many as the matcher gives.
                pairs = torch.empty(images * objects, dtype=torch.int64, device="meta")
                outputs["pred_masks"][pairs, pairs]
    return counter.flops


def _targets(images: int, objects: int) -> list[dict[str, Any]]:
    labels = torch.empty(objects, dtype=torch.int64, device="meta")
    boxes: Tensor = torch.empty(objects, 4, device="meta")
    return [{"labels": labels, "boxes": boxes} for _ in range(images)]
