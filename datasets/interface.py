"""The interface of a dataset: everything that training, evaluation and drawing ask of one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from pycocotools.coco import COCO
from torch.utils.data import Subset

from util.targets import Target

from .transforms import Transform


class DetectionDataset(Protocol):
    """Images with their objects, numbered 0 to len - 1. No method but `load` and `[]` opens an image.

    Attributes that do not apply to a dataset are None: a generated one has no files, only a panoptic one has things.
    """

    @property
    def class_names(self) -> Mapping[int, str]:
        """Name of each category by its id."""

    @property
    def num_classes(self) -> int:
        """Labels are below it: the largest category id + 1, or more where the user asks for room."""

    @property
    def is_thing(self) -> Mapping[int, bool] | None:
        """For each category id True for things, False for stuff; None where the dataset has boxes only."""

    @property
    def ann_file(self) -> Path | None:
        """The annotation file."""

    @property
    def ann_folder(self) -> Path | None:
        """The folder of the panoptic PNGs."""

    @property
    def transforms(self) -> Transform | None:
        """Transforms that `[]` applies to an image and its target; None where there is nothing to do."""

    @property
    def coco(self) -> COCO:
        """The ground truth as pycocotools has it, made on first use."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return the image, (3, H, W) once it is a tensor, and its `Target` after the transforms."""

    def load(self, index: int) -> tuple[Image.Image, Target]:
        """Return the RGB image and its target before the transforms."""

    def image_id(self, index: int) -> int:
        """Return the image's id in the annotation file."""

    def image_path(self, index: int) -> Path | None:
        """Return the image's file, which may not exist."""

    def segments_path(self, index: int) -> Path | None:
        """Return the PNG with the segments of the image, which may not exist."""

    def get_height_and_width(self, index: int) -> tuple[int, int] | None:
        """Return the size of the image as far as it is known without opening it."""

    def labels_of(self, index: int) -> np.ndarray:
        """Return the labels (k,) int64 of the objects of an image, crowds left out, without opening it."""

    def object_counts(self) -> np.ndarray:
        """Return the number of objects of every image (len,) int64, crowds left out."""

    def aspect_ratios(self) -> np.ndarray:
        """Return width / height of every image (len,) float64."""


#: A dataset, or a choice of its images (`--fast_dev_run`); `datasets.unwrap` gives the dataset itself.
DatasetOrSubset = DetectionDataset | Subset
