"""Annotations beside detections: which image of the file it is, what is in it, what was missed and what is false."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.ops import box_iou

from datasets.annotations import read_annotations
from datasets.annotations.classes import ChosenClasses, words_of
from datasets.annotations.dense import DenseLabels, listed_ids
from datasets.coco import ConvertCocoPolysToMask
from util.errors import ImageError

from .detections import Detections

#: The least overlap at which a detection counts as an object's.
MATCH_IOU = 0.5


@dataclass(frozen=True)
class TrueObjects:
    """The n objects of an image, crowds left out: boxes xyxy (n, 4), labels (n,), masks (n, H, W) or None."""

    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None


class Truth:
    """The annotations of a COCO file, found by the names of images.

    Args:
        path: the file.
        masks: also read masks.
        category_ids: those that the model knows, in its order, where they are not its labels (--dense_labels).
        classes: --classes of the model's training: objects of other classes are left away. None keeps all.

    Raises:
        DatasetError: the file is not COCO, or has other categories.
    """

    def __init__(
        self,
        path: Path,
        *,
        masks: bool = False,
        category_ids: Sequence[int] | None = None,
        classes: str | None = None,
    ) -> None:
        self.path = path
        dense = None if category_ids is None else DenseLabels(tuple(category_ids))
        chosen = classes and ChosenClasses(words=words_of(classes), required=False, labels=dense)
        self._annotations = read_annotations(path, num_classes=chosen or dense)
        self._convert = ConvertCocoPolysToMask(masks)
        names = self._annotations.class_names
        #: The id in the file of each label.
        self._ids = listed_ids(self._annotations.categories) or {label: label for label in names}
        self.class_names = {self._ids[label]: name for label, name in names.items()}
        self._by_last_part: dict[str, list[int]] = {}
        for index in range(len(self._annotations)):
            # An index by file name: a search through the whole list for each image would be quadratic.
            self._by_last_part.setdefault(self._parts(index)[-1], []).append(index)

    def find(self, path: Path) -> int | None:
        """Return the number of the image with this file, None where the annotations do not list it.

        Of several with the same last part, it is the one that shares most folders with the path.
        """
        candidates = self._by_last_part.get(path.name, [])
        parts = path.absolute().parts[::-1]

        def shared(index: int) -> int:
            # From the file name upwards, as many parts as are equal: ".../val2017/1.jpg" and "val2017/1.jpg" share two.
            own = self._parts(index)[::-1]
            return next((k for k, (a, b) in enumerate(zip(own, parts)) if a != b), min(len(own), len(parts)))

        # The two best: if they share equally many folders, the file leaves it open which one is meant.
        best = sorted(candidates, key=shared)[-2:]
        if len(best) == 2 and shared(best[0]) == shared(best[1]):
            raise ImageError(f"{path}: {self.path} lists {len(candidates)} images of this name; give its whole folder")
        return best[-1] if best else None

    def image_id(self, index: int) -> int:
        """Return the id of image number `index` in the file."""
        return int(self._annotations.image_ids[index])

    def size(self, index: int) -> tuple[int, int] | None:
        """Return height and width of image number `index` as the file lists them, which decide if EXIF turns it."""
        return self._annotations.image_size(index)

    def objects(self, index: int, image: Image.Image) -> TrueObjects:
        """Return the objects of image number `index`, whose pixels are given, boxes cut at its edges."""
        annotations = self._annotations.objects_of(index, segmentation=self._convert.return_masks)
        _, target = self._convert(image, {"image_id": self.image_id(index), "annotations": annotations})
        masks = target["masks"].numpy() if "masks" in target else None
        labels = np.array([self._ids[label] for label in target["labels"].tolist()], dtype=np.int64)
        return TrueObjects(target["boxes"].numpy(), labels, masks)

    def _parts(self, index: int) -> list[str]:
        return self._annotations.file_name(index).replace("\\", "/").split("/")


def match(found: Detections, truth: TrueObjects) -> tuple[np.ndarray, np.ndarray]:
    """Give each detection, the surest first, the object of its class that it overlaps most and nothing else has.

    Returns:
        (N,) bool, True for detections that got one; (n,) bool, True for objects that were found.
    """
    hit, taken = np.zeros(len(found), dtype=bool), np.zeros(len(truth.labels), dtype=bool)
    ious = box_iou(torch.from_numpy(found.boxes), torch.from_numpy(truth.boxes)).numpy()  # (N, n)
    for k, row in enumerate(ious):
        # Overlaps with objects of its class that no surer detection has; 0 elsewhere (n,).
        free = np.where((truth.labels == found.labels[k]) & ~taken, row, 0.0)
        if len(free) and free.max() >= MATCH_IOU:
            hit[k] = taken[free.argmax()] = True
    return hit, taken
