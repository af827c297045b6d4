"""Make a batch of examples: images on one canvas, lists of objects of agreed lengths, a cheap way between processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from util.errors import ImageError
from util.nested_tensor import NestedTensor, nested_tensor_from_tensor_list
from util.targets import NUM_OBJECTS, Target

#: Bytes from which a tensor is worth shared memory (and page-locked memory) of its own.
_LARGE = 2**16
#: What the entries of a target are filled up with: a valid box, no area. Labels get the no-object class.
_FILL = {"boxes": 0.5, "area": 0, "iscrowd": 0, "masks": 0}


class TargetBatch(tuple[Target, ...]):
    """The targets of a batch.

    Between processes, small tensors travel as plain bytes and only large ones (masks) through shared memory, of which
    each piece costs a file, a mapping and a descriptor on both sides.
    """

    def __reduce__(self) -> tuple:
        return _from_arrays, ([{key: _small_to_array(value) for key, value in target.items()} for target in self],)

    def pin_memory(self) -> "TargetBatch":
        """Page-lock what is large; a small copy to a GPU goes through the driver's own buffer and does not wait."""
        return TargetBatch(
            {key: value.pin_memory() if _is_large(value) else value for key, value in target.items()} for target in self
        )


def _is_large(value: Any) -> bool:
    return isinstance(value, Tensor) and value.nbytes >= _LARGE


def _small_to_array(value: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) and not _is_large(value) else value


def _from_arrays(targets: list[Target]) -> TargetBatch:
    return TargetBatch(
        {key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for key, value in target.items()}
        for target in targets
    )


@dataclass(frozen=True, kw_only=True)
class ObjectSizes:
    """The lengths that lists of objects are padded to, ascending; `no_object` is the label of the padding."""

    sizes: tuple[int, ...]
    no_object: int

    def pad(self, target: Target) -> Target:
        """Fill up the objects of a target to the next length, and note how many are real; the loss ignores the rest.

        A list longer than all stays as it is.
        """
        count = len(target["labels"])
        # Few different lengths: a compiler makes code for each shape that it meets.
        missing = next((size for size in self.sizes if size >= count), count) - count
        filled = {
            # `pad` counts axes from the last on: nothing on those, `missing` rows at the end of the first.
            key: pad(target[key], (0, 0) * (target[key].dim() - 1) + (0, missing), value=value)
            for key, value in (_FILL | {"labels": self.no_object}).items()
            if key in target
        }
        return {**target, **filled, NUM_OBJECTS: count}


def percentile_sizes(counts: np.ndarray, number: int, *, largest: int = 0) -> tuple[int, ...]:
    """Choose at most `number` lengths: percentiles, in equal steps, of the objects per image (n,), up to the maximum.

    Where `largest` objects are more than that, the last length is extended to them. None is below 1.
    """
    steps = np.arange(1, number + 1) * 100 / number
    # `lower`: always a number of objects that occurs.
    sizes = np.unique(np.percentile(counts, steps, method="lower").astype(int).clip(min=1))
    # The validation images may hold more objects than any training image.
    sizes[-1] = max(sizes[-1], largest)
    return tuple(sizes.tolist())


@dataclass(frozen=True, kw_only=True)
class Collate:
    """Examples (image (3, H, W), target) to a batch.

    Args:
        canvas: height and width of every batch; without it, the largest of its images.
        multiple: round height and width of the batch up to a multiple of this.
        objects: lengths to pad the lists of objects to; without them lists are as long as there are objects.
    """

    canvas: tuple[int, int] | None = None
    multiple: int = 1
    objects: ObjectSizes | None = None

    def __call__(self, batch: Sequence[tuple[Tensor, Target]]) -> tuple[NestedTensor, TargetBatch]:
        """Pad images and, if asked to, objects. Raises ImageError for an image that is larger than the canvas."""
        # From [(image, target), ...] to all images and all targets.
        images, targets = zip(*batch)
        samples = nested_tensor_from_tensor_list(images, canvas=self._canvas(images, targets))
        return samples, TargetBatch(targets if self.objects is None else map(self.objects.pad, targets))

    def _round_up(self, side: int) -> int:
        # Floor division of the negative is a division rounded up.
        return -(-side // self.multiple) * self.multiple

    def _canvas(self, images: Sequence[Tensor], targets: Sequence[Target]) -> tuple[int, int]:
        if self.canvas is None:
            # The tallest and the widest image need not be the same.
            height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
            return self._round_up(height), self._round_up(width)
        for image, target in zip(images, targets):
            if any(side > room for side, room in zip(image.shape[1:], self.canvas)):
                height, width = image.shape[1:]
                raise ImageError(
                    f"--pad_size {self.canvas[0]} {self.canvas[1]}: the image with image id "
                    f"{int(target['image_id'])} is {height} x {width} (height x width) after resizing; "
                    f"give a larger --pad_size or a smaller --max_size"
                )
        return self.canvas
