"""The generated `shapes` dataset: images drawn on the fly from (seed, split, index), nothing on disk.

Ellipses, rectangles, triangles and stars of any colour lie on busy backgrounds and partly cover each other; boxes,
areas and masks count exactly the pixels that can be seen.
"""

import contextlib
import io
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from torch.utils.data import Dataset

from util.errors import DatasetError
from util.targets import Target

from ..augment.switches import PLAIN, Augmentation
from ..images import load_transformed
from ..sizes import ImageSizes
from ..transforms import Compose, Transform, to_model_input
from .draw import CLASS_NAMES, Scene, count_objects, paint, plan_scene

#: The split enters the seed, so that images of different splits never coincide.
SPLITS = {"train": 0, "val": 1, "test": 2}
MIN_IMAGE_SIZE = 32
MAX_OBJECTS = 12  # more would not fit with every shape still recognisable


def make_shapes_transforms(
    image_set: str, *, augmentation: Augmentation = PLAIN, image_size: int = 160, as_uint8: bool = False
) -> Compose:
    """Return the transforms of a split: for "train" a mirror image half of the time; for all, see `to_model_input`.

    Images are drawn at their size: of the augmentation's scales and crops, only `scale_jitter` is for them.
    """
    finish = to_model_input(as_uint8=as_uint8)
    if image_set != "train":
        return Compose([finish])
    jitter = [augmentation.scaling(ImageSizes(image_size=image_size))] if augmentation.scale_jitter else []
    return Compose([*augmentation.turns(), *jitter, *augmentation.colors(), finish])


class ShapesDataset(Dataset):
    """`size` square images of `image_size` pixels with 1..max_objects shapes each.

    Equal arguments give equal images in every process, worker and run. Category ids are 1..4, so `num_classes` is 5
    (DETR's convention: largest id + 1). With `return_masks`, targets also hold the visible pixels, (n, H, W) bool.

    Raises:
        DatasetError: for an unknown split or a number out of range; the message names the flag.
    """

    def __init__(
        self,
        *,
        image_set: str,
        size: int,
        image_size: int = 160,
        seed: int = 42,
        transforms: Transform | None = None,
        return_masks: bool = False,
        max_objects: int = 3,
    ) -> None:
        if image_set not in SPLITS:
            raise DatasetError(f"shapes has no split {image_set!r}: use one of {', '.join(SPLITS)}")
        if size < 1:
            raise DatasetError(f"--{image_set}_size is {size}: the shapes dataset needs at least 1 image")
        if image_size < MIN_IMAGE_SIZE:
            raise DatasetError(
                f"--image_size is {image_size}: shapes needs at least {MIN_IMAGE_SIZE} pixels to be recognisable"
            )
        if seed < 0:
            raise DatasetError(f"--seed is {seed}: the shapes dataset needs a seed of 0 or more")
        if not 1 <= max_objects <= MAX_OBJECTS:
            raise DatasetError(f"max_objects is {max_objects}: shapes places 1 to {MAX_OBJECTS} objects in an image")
        self.image_set = image_set
        self.size = size
        self.image_size = image_size
        self.seed = seed
        self.transforms = transforms
        self.return_masks = return_masks
        self.max_objects = max_objects
        self.class_names = dict(CLASS_NAMES)
        # Id 0 stays unused, as in COCO.
        self.num_classes = max(CLASS_NAMES) + 1
        # Nothing lies on disk, and there is no stuff.
        self.is_thing: dict[int, bool] | None = None
        self.ann_file: Path | None = None
        self.ann_folder: Path | None = None

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return (image, target) after the transforms."""
        return load_transformed(self, index)

    def load(self, index: int) -> tuple[Image.Image, Target]:
        """Return the RGB image and its target before transforms; boxes (n, 4) xyxy, right and bottom edge exclusive."""
        # One generator for scene and paint, in this order: `_annotations` draws the scene alone and gets the same one.
        rng = self._generator(index)
        scene = self._scene(rng)
        image = Image.merge("RGB", [Image.fromarray(plane) for plane in paint(scene, rng)])
        return image, self._target(index, scene)

    def image_id(self, index: int) -> int:
        """Return the id of an image, as used in targets and in `coco`."""
        return index

    def image_path(self, index: int) -> None:
        """Return None: an image is drawn, not read."""

    def segments_path(self, index: int) -> None:
        """Return None: there are no panoptic PNGs."""

    def get_height_and_width(self, index: int) -> tuple[int, int]:
        """Return the size of image number `index`: all are square."""
        return self.image_size, self.image_size

    def labels_of(self, index: int) -> np.ndarray:
        """Return the labels (k,) of an image's objects, without drawing it."""
        return np.array([shape.label for shape in self._scene(self._generator(index)).shapes], dtype=np.int64)

    def object_counts(self) -> np.ndarray:
        """Return the number of objects of every image, (len,) int64, without drawing any."""
        counts = (count_objects(self._generator(index), self.max_objects) for index in range(self.size))
        return np.fromiter(counts, np.int64, count=self.size)

    def aspect_ratios(self) -> np.ndarray:
        """Return width / height of every image, (len,) float64: all are square."""
        return np.ones(self.size)

    @cached_property
    def coco(self) -> COCO:
        """The ground truth of all images as a pycocotools COCO, built in memory on first use."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(self.size):
            images.append({"id": self.image_id(index), "height": self.image_size, "width": self.image_size})
            # Ids from 1: pycocotools takes the id 0 of a matched object for "no match".
            annotations += self._annotations(index, first_id=len(annotations) + 1)
        coco = COCO()
        coco.dataset = {
            "info": {"description": "generated shapes"},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": id_, "name": name} for id_, name in self.class_names.items()],
        }
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            coco.createIndex()
        return coco

    def _generator(self, index: int) -> np.random.Generator:
        if not 0 <= index < self.size:
            raise IndexError(f"image {index} of {self.size}")  # IndexError also ends Python's iteration protocol
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, SPLITS[self.image_set], index])))

    def _scene(self, rng: np.random.Generator) -> Scene:
        return plan_scene(rng, size=self.image_size, max_objects=self.max_objects)

    def _target(self, index: int, scene: Scene) -> Target:
        boxes, areas = scene.boxes_and_areas()
        target = {
            "boxes": torch.from_numpy(boxes),
            "labels": torch.tensor([shape.label for shape in scene.shapes], dtype=torch.int64),
            "image_id": torch.tensor([self.image_id(index)]),
            "area": torch.from_numpy(areas),
            "iscrowd": torch.zeros(len(scene.shapes), dtype=torch.int64),
            "orig_size": torch.tensor([self.image_size, self.image_size]),
            "size": torch.tensor([self.image_size, self.image_size]),
        }
        if self.return_masks:
            target["masks"] = torch.from_numpy(scene.masks())
        return target

    def _annotations(self, index: int, *, first_id: int) -> list[dict[str, Any]]:
        """Return the COCO annotations of one image; masks as compressed run lengths, which JSON can hold."""
        scene = self._scene(self._generator(index))
        boxes, areas = scene.boxes_and_areas()
        # xyxy to COCO's xywh.
        boxes[:, 2:] -= boxes[:, :2]
        # (n, S, S) to (S, S, n) in column order, which pycocotools' encoder reads.
        runs = coco_mask.encode(np.asfortranarray(scene.masks().transpose(1, 2, 0).astype(np.uint8)))
        return [
            {
                "id": first_id + k,
                "image_id": self.image_id(index),
                "category_id": shape.label,
                "bbox": boxes[k].tolist(),
                "area": float(areas[k]),
                "iscrowd": 0,
                "segmentation": {"size": runs[k]["size"], "counts": runs[k]["counts"].decode("ascii")},
            }
            for k, shape in enumerate(scene.shapes)
        ]
