"""The annotations of a split, repaired, in flat tensors that all loader workers share."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from torch import Tensor

from .flat_masks import FlatMasks

#: The tensors of `Annotations` beside those of the masks.
COLUMNS = (
    "image_ids",
    "names",
    "name_ends",
    "sizes",
    "first",
    "object_ids",
    "labels",
    "boxes",
    "areas",
    "crowd",
)


@dataclass(frozen=True, kw_only=True)
class ImageColumns:
    """The n images: ids (n,) int64, rising, file names, and sizes (n, 2) int32 height, width or -1."""

    ids: np.ndarray
    names: Sequence[str]
    sizes: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ObjectColumns:
    """The m objects, sorted by the position `images` (m,) of their image.

    `ids` and `labels` (m,) int64, `boxes` (m, 4) float64 xywh, `areas` (m,) float64, `crowd` (m,) bool, and m masks.
    """

    images: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    masks: FlatMasks


class Annotations:
    """n images in the order of their ids and their m objects, in the file's order within an image.

    Everything of an image or an object lies in tensors, never in Python objects: worker processes only read them, so
    that they share the one copy whether they are forked or spawned (pickling a tensor to a process shares it).
    `class_names` names all categories by id, `categories` has them as COCO does.
    """

    def __init__(
        self,
        images: ImageColumns,
        objects: ObjectColumns,
        categories: list[dict[str, Any]],
        *,
        listed: int = 0,
        left_out: dict[str, int] | None = None,
    ) -> None:
        """Pack the columns. `listed` annotations there were in the file; `left_out` counts those not trained on."""
        self.listed = listed
        self.left_out = left_out or {}
        text, lengths = _encode(images.names)
        self._image_ids = torch.from_numpy(images.ids)
        self._names = torch.from_numpy(np.frombuffer(text, np.uint8).copy())
        # (n + 1,): name i is bytes ends[i] to ends[i + 1] of one long text.
        self._name_ends = torch.from_numpy(np.cumsum([0, *lengths]))
        self._sizes = torch.from_numpy(images.sizes)
        # (n + 1,): object rows of image i are first[i] to first[i + 1], for rows are sorted by image.
        self._first = torch.from_numpy(np.searchsorted(objects.images, np.arange(len(images.ids) + 1)))
        self._object_ids = torch.from_numpy(objects.ids)
        self._labels = torch.from_numpy(objects.labels)
        self._boxes = torch.from_numpy(objects.boxes)
        self._areas = torch.from_numpy(objects.areas)
        self._crowd = torch.from_numpy(objects.crowd)
        self._masks = objects.masks
        self.categories = categories
        self.class_names: dict[int, str] = {category["id"]: category["name"] for category in categories}

    def __len__(self) -> int:
        return len(self._image_ids)

    @property
    def image_ids(self) -> np.ndarray:
        """The ids of the images (n,) int64, rising."""
        return self._image_ids.numpy()

    def file_name(self, index: int) -> str:
        """Return the name of image number `index` in its folder."""
        first, last = self._name_ends[index : index + 2].tolist()
        return self._names[first:last].numpy().tobytes().decode("utf-8", "surrogatepass")

    def file_names(self) -> list[str]:
        """Return the names of all images; a tenth of the time of asking for each."""
        text, ends = self._names.numpy().tobytes(), self._name_ends.tolist()
        if text.isascii():  # a character is a byte: decoded once, not by the name
            plain = text.decode()
            return [plain[first:last] for first, last in zip(ends, ends[1:])]
        return [text[first:last].decode("utf-8", "surrogatepass") for first, last in zip(ends, ends[1:])]

    def image_size(self, index: int) -> tuple[int, int] | None:
        """Return (height, width) as the annotation file says, None where it does not."""
        height, width = self._sizes[index].tolist()
        return (height, width) if height > 0 else None

    def set_image_size(self, index: int, size: tuple[int, int]) -> None:
        """Take (height, width) of image number `index` from its file."""
        self._sizes[index] = torch.tensor(size)

    def objects_of(self, index: int, *, segmentation: bool = True) -> list[dict[str, Any]]:
        """Return COCO's annotations of an image, crowds too, as fresh dictionaries."""
        part = self._part(index)
        image_id = int(self._image_ids[index])
        columns = (self._object_ids, self._labels, self._boxes, self._areas, self._crowd)
        objects = [
            {"id": id_, "image_id": image_id, "category_id": label, "bbox": box, "area": area, "iscrowd": int(crowd)}
            for id_, label, box, area, crowd in zip(*(column[part].tolist() for column in columns))
        ]
        if segmentation:
            for number, annotation in enumerate(objects, start=part.start):
                mask = self._masks[number]
                if mask is not None:
                    annotation["segmentation"] = mask
        return objects

    def boxes_of(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (k, 4) float64 xywh and labels (k,) int64 of an image's objects, crowds left out."""
        part = self._part(index)
        single = ~self._crowd[part].numpy()
        return self._boxes[part].numpy()[single], self._labels[part].numpy()[single]

    def object_counts(self) -> np.ndarray:
        """Count the objects in each image (n,) int64, crowds left out."""
        first = self._first.numpy()
        counts = np.diff(first)
        # Crowds are few: no running count over millions of objects.
        crowds = np.flatnonzero(self._crowd.numpy())
        return counts - np.bincount(np.searchsorted(first, crowds, "right") - 1, minlength=len(counts))

    def labels_by_image(self) -> list[np.ndarray]:
        """Return the labels (k,) int64 of the objects of each image, crowds left out; faster than asking for each."""
        labels = self._labels.numpy()
        if self._crowd.any():
            labels = labels[~self._crowd.numpy()]
        ends = [0, *np.cumsum(self.object_counts()).tolist()]
        return [labels[first:last] for first, last in zip(ends, ends[1:])]

    def image_sizes(self) -> np.ndarray:
        """Return height and width (n, 2) int32 of all images as the annotation file says, -1 where it does not."""
        return self._sizes.numpy()

    def to_coco(self) -> COCO:
        """Return all of it as pycocotools has it, for the evaluation: Python objects, as large as they are there."""
        return index_coco(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return all of it in COCO's format."""
        images = []
        for index, id_ in enumerate(self.image_ids.tolist()):
            size = self.image_size(index)
            image = {"id": id_, "file_name": self.file_name(index)}
            images.append(image | ({} if size is None else {"height": size[0], "width": size[1]}))
        objects = [annotation for index in range(len(self)) for annotation in self.objects_of(index)]
        return {"images": images, "annotations": objects, "categories": [dict(c) for c in self.categories]}

    def columns(self) -> dict[str, np.ndarray]:
        """Return all tensors by their names, for `from_columns`."""
        parts = (vars(self), vars(self._masks))
        tensors = {name: value for part in parts for name, value in part.items() if isinstance(value, Tensor)}
        return {name.removeprefix("_"): tensor.numpy() for name, tensor in tensors.items()}

    @classmethod
    def from_columns(
        cls,
        columns: dict[str, Tensor],
        *,
        categories: list[dict[str, Any]],
        listed: int,
        left_out: dict[str, int],
    ) -> "Annotations":
        """Make the table over tensors that `columns` returned, without copying them. Raises KeyError for one less."""
        made = cls.__new__(cls)
        made.listed, made.left_out, made.categories = listed, left_out, categories
        made.class_names = {category["id"]: category["name"] for category in categories}
        made._masks = FlatMasks.from_columns(columns)
        for name in COLUMNS:
            setattr(made, f"_{name}", columns[name])
        # The one that `set_image_size` writes into.
        made._sizes = columns["sizes"].clone()
        return made

    def memory(self) -> int:
        """Count the bytes of all tensors."""
        return sum(column.nbytes for column in self.columns().values())

    def _part(self, index: int) -> slice:
        first, last = self._first[index : index + 2].tolist()
        return slice(first, last)


def _encode(names: Sequence[str]) -> tuple[bytes, list[int]]:
    """Return the names one behind the other in UTF-8, and the bytes of each."""
    text = "".join(names)
    if text.isascii():
        return text.encode(), list(map(len, names))
    # A lone surrogate, which JSON can hold, is no UTF-8.
    encoded = [name.encode("utf-8", "surrogatepass") for name in names]
    return b"".join(encoded), list(map(len, encoded))


def index_coco(data: dict[str, Any]) -> COCO:
    """Return pycocotools' COCO over annotations in memory (images, annotations, categories), without its prints."""
    coco = COCO()
    coco.dataset = data
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco
