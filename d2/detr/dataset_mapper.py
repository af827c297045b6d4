"""From an entry of a Detectron2 dataset to what the wrapper trains on, with DETR's augmentation."""

import copy
from typing import Any

import numpy as np
import torch
from detectron2.data import detection_utils
from detectron2.data import transforms as T

#: DETR's shorter sides before a crop (section A.4 of the paper).
SIDES_BEFORE_CROP = (400, 500, 600)


class DetrDatasetMapper:
    """Reads an image; with `is_train` flips, crops (every second image) and resizes it with its annotations.

    Args:
        cfg: Detectron2's settings; INPUT.CROP.ENABLED turns crops on.
        is_train: False resizes only and drops the annotations.
    """

    def __init__(self, cfg: Any, is_train: bool = True) -> None:
        self.is_train = is_train
        self.mask_on = cfg.MODEL.MASK_ON
        self.mask_format = cfg.INPUT.MASK_FORMAT
        self.image_format = cfg.INPUT.FORMAT
        self.augmentations = T.AugmentationList(_augmentations(cfg) if is_train else [_resize(cfg, "TEST")])

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of an entry with `image` (3, H, W) uint8 and, in training, its `instances`."""
        # The dataset hands out the same dict in every epoch.
        entry = copy.deepcopy(dataset_dict)
        pixels = detection_utils.read_image(entry["file_name"], format=self.image_format)
        detection_utils.check_image_size(entry, pixels)
        seen = T.AugInput(pixels)
        transforms = self.augmentations(seen)
        # (H, W, 3) to (3, H, W). A flipped array has negative strides, which torch does not take: hence the copy.
        entry["image"] = torch.as_tensor(np.ascontiguousarray(seen.image.transpose(2, 0, 1)))
        annotations = entry.pop("annotations", None)
        if self.is_train and annotations is not None:
            entry["instances"] = self._instances(annotations, transforms, seen.image.shape[:2])
        return entry

    def _instances(self, annotations: list[dict[str, Any]], transforms: Any, size: tuple[int, int]) -> Any:
        """Objects of an image of (height, width) after the transforms; crowds and what a crop cut away are left out."""
        # What no loss reads need not be transformed.
        dropped = {"keypoints"} if self.mask_on else {"keypoints", "segmentation"}
        kept = [
            {name: value for name, value in annotation.items() if name not in dropped}
            for annotation in annotations
            # A crowd is no object that one query could find.
            if not annotation.get("iscrowd", 0)
        ]
        moved = [detection_utils.transform_instance_annotations(object_, transforms, size) for object_ in kept]
        instances = detection_utils.annotations_to_instances(moved, size, mask_format=self.mask_format)
        # A crop may have left nothing of an object: a box without area is no target.
        return detection_utils.filter_empty_instances(instances)


def _augmentations(cfg: Any) -> list[Any]:
    """A flip, for every second image a crop at another scale, and the final size."""
    flip, resize = T.RandomFlip(), _resize(cfg, "TRAIN")
    if not cfg.INPUT.CROP.ENABLED:
        return [flip, resize]
    crop = [
        T.ResizeShortestEdge(SIDES_BEFORE_CROP, sample_style="choice"),
        T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE),
    ]
    # The crop comes before the last resize, so that half of the images show their objects larger.
    return [flip, T.RandomApply(T.AugmentationList(crop), prob=0.5), resize]


def _resize(cfg: Any, part: str) -> Any:
    style = cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING if part == "TRAIN" else "choice"
    return T.ResizeShortestEdge(cfg.INPUT[f"MIN_SIZE_{part}"], cfg.INPUT[f"MAX_SIZE_{part}"], style)
