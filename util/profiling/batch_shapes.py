"""The costs of padding over an epoch: share of padded pixels and number of distinct shapes, counted on the host."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..dist.distributed import all_gather
from ..nested_tensor import NestedTensor


class BatchShapes:
    """Counts over the batches of an epoch. Each new shape is one more for a compiler, or a CUDA graph, to serve."""

    def __init__(self) -> None:
        self.visible = 0
        self.canvas = 0
        #: Batches of each shape (B, C, H, W).
        self.shapes: Counter[tuple[int, ...]] = Counter()
        self.object_sizes: set[int] = set()

    def add(self, samples: NestedTensor | Tensor, targets: Sequence[Mapping[str, Any]]) -> None:
        """Note a batch before it leaves the host: `size` and `labels` of its targets, the shape of its images.

        An image whose target has no `size` counts as large as the batch.
        """
        shape = tuple((samples if isinstance(samples, Tensor) else samples.tensors).shape)
        batch, _, *canvas = shape
        self.canvas += batch * math.prod(canvas)
        for target in targets:
            # `size` is that of the image without padding, on the host: no device is read.
            self.visible += math.prod(target["size"].tolist() if "size" in target else canvas)
            self.object_sizes.add(len(target["labels"]))
        self.shapes[shape] += 1

    def state(self) -> dict[str, Any]:
        """Return the counts of this process in plain types, for a checkpoint within the epoch."""
        shapes = sorted(self.shapes)
        lists = {"shapes": shapes, "batches": [self.shapes[shape] for shape in shapes]}
        return {"visible": self.visible, "canvas": self.canvas, "object_sizes": sorted(self.object_sizes)} | lists

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with the counts of `state`."""
        self.visible, self.canvas = state["visible"], state["canvas"]
        self.object_sizes = set(state["object_sizes"])
        # A checkpoint of an earlier version does not say how many batches had a shape.
        batches = state.get("batches") or [0] * len(state["shapes"])
        self.shapes = Counter(dict(zip(map(tuple, state["shapes"]), batches)))

    def summary(self) -> dict[str, float]:
        """Return the counts over all processes.

        `padding` is the share (0..1) of pixels that are padding; `shapes` the number of distinct shapes (B, C, H, W) of
        the input; `object_sizes` that of distinct lengths of an image's list of objects.
        """
        visible, canvas, shapes, sizes = zip(*all_gather((self.visible, self.canvas, self.shapes, self.object_sizes)))
        return {
            "padding": (sum(canvas) - sum(visible)) / max(1, sum(canvas)),
            "shapes": len(set().union(*shapes)),
            "object_sizes": len(set().union(*sizes)),
        }


def describe_shapes(summary: Mapping[str, float]) -> str:
    """Return the summary as the end of a line of the log."""
    return (
        f"padding: {summary['padding']:.1%} of the pixels, distinct input shapes: {summary['shapes']}, "
        f"lengths of object lists: {summary['object_sizes']}"
    )
