"""The target of an image: its objects, as datasets give them to the model's loss and to the evaluation.

A batch's targets are a `Sequence[Target]`, one for each image; `datasets.collate.TargetBatch` is the one loaders make.
"""

from typing import Any

#: The objects of one image, n of them, by name:
#:
#: | key | shape and type | content |
#: |---|---|---|
#: | `boxes` | (n, 4) float32 | `xyxy` in pixels up to the last transform, then `cxcywh` in 0..1 of the image |
#: | `labels` | (n,) int64 | category ids of the annotation file |
#: | `area` | (n,) float32 | square pixels of the resized image |
#: | `iscrowd` | (n,) int64 | 1 for a group that is one annotation |
#: | `image_id` | (1,) int64 | the image's id in the annotation file |
#: | `orig_size` | (2,) int64 | height and width of the file |
#: | `size` | (2,) int64 | height and width after the transforms, without padding |
#: | `masks` | (n, H, W) bool | only where masks are trained |
#: | `num_objects` | int | only in padded targets: how many objects are real, those first |
Target = dict[str, Any]

#: Under this key a padded target says how many of its objects are real. A number of the host, never a tensor.
NUM_OBJECTS = "num_objects"


def object_count(target: Target) -> int:
    """Return how many objects an image has: those listed under `labels`, without the padding at their end.

    Reads no device: a length, or the number that came with the padding.
    """
    return target.get(NUM_OBJECTS, len(target["labels"]))
