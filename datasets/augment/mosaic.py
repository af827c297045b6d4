"""Four images in one (YOLOv4, arXiv 2004.10934): more objects, at smaller scales, in new surroundings."""

import random
from collections.abc import Sequence
from typing import Any, cast

import torch
from PIL import Image
from torch.utils.data import Dataset, Subset

from util.targets import Target

from ..geometry import Example, crop, resize
from ..interface import DatasetOrSubset
from ..transforms import Transform
from .place import shift

#: Where the four images meet, in parts of a side.
CENTRE = (0.3, 0.7)
#: Keys with one row for each object.
PER_OBJECT = ("boxes", "labels", "area", "iscrowd", "masks")


class Mosaic(Subset):
    """A dataset of which each image becomes one of four with a probability; in all else it is that dataset.

    The mosaic has the size of the image it stands for, so that its shape is known beforehand. That image is at the
    top left, three random ones of the dataset are beside it. They meet at a random point, CENTRE of each side; each is
    cut at a random place to the proportions of its part, as large as possible, and resized to it.

    Args:
        dataset: the images; the three others come from it, too.
        probability: of an image to become a mosaic.
        transforms: those of the dataset, applied after it.
    """

    def __init__(self, dataset: DatasetOrSubset, probability: float, transforms: Transform) -> None:
        super().__init__(cast(Dataset, dataset), range(len(dataset)))
        self.probability = probability
        self.transforms = transforms

    def __getitem__(self, index: Any) -> Example:
        if random.random() >= self.probability:
            return self.dataset[index]
        # Drawn before any image is loaded: what is drawn does not depend on the images.
        others = [random.randrange(len(self)) for _ in range(3)]
        return self.transforms(*mosaic([_load(self.dataset, number) for number in (index, *others)]))

    def __getitems__(self, indices: list[int]) -> list[Example]:
        """Return several examples; the loader asks for a batch by this, and Subset's own would pass by the mosaic."""
        return [self[index] for index in indices]


def mosaic(examples: Sequence[tuple[Image.Image, Target]]) -> tuple[Image.Image, Target]:
    """Put four images into one of the first's size, with all that can be seen of their objects; `xyxy` in pixels."""
    first, target = examples[0]
    canvas = Image.new("RGB", first.size)
    middle, centre = (min(side - 1, max(1, round(side * random.uniform(*CENTRE)))) for side in first.size)
    # Left, top, right and bottom of the four parts.
    parts = [
        (0, 0, middle, centre),
        (middle, 0, first.width, centre),
        (0, centre, middle, first.height),
        (middle, centre, first.width, first.height),
    ]
    targets = []
    for (image, objects), (left, top, right, bottom) in zip(examples, parts, strict=True):
        image, objects = _fill(image, objects, right - left, bottom - top)
        # (left, top) in Pillow; tensors below have (top, left).
        canvas.paste(image, (left, top))
        targets.append(shift(objects, canvas=(first.height, first.width), top=top, left=left))
    rows = {key: torch.cat([objects[key] for objects in targets]) for key in PER_OBJECT if key in target}
    # `image_id` and sizes are those of the first image, for which this one stands.
    known = {key: value for key, value in target.items() if key not in (*PER_OBJECT, "keypoints")}
    return canvas, known | rows


def _fill(image: Image.Image, target: Target, width: int, height: int) -> tuple[Any, Any]:
    """Cut an image to the proportions of width : height, as large as possible, and resize it to that size."""
    # The largest rectangle of these proportions that fits into the image.
    scale = min(image.width / width, image.height / height)
    cut_width, cut_height = max(1, int(width * scale)), max(1, int(height * scale))
    left, top = random.randint(0, image.width - cut_width), random.randint(0, image.height - cut_height)
    cut, objects = crop(image, target, (top, left, cut_height, cut_width))
    return resize(cut, objects, (width, height))


def _load(dataset: Any, index: int) -> tuple[Image.Image, Target]:
    """Return the image and its target before the transforms, from a dataset or a Subset of one."""
    while isinstance(dataset, Subset):
        dataset, index = dataset.dataset, dataset.indices[index]
    return dataset.load(index)
