"""COCO detection: images from a folder, objects from an annotation file.

Labels are the file's category ids, without remapping: a model for them has `largest id + 1` classes, 91 for COCO.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as rle_tools
from pycocotools.coco import COCO
from torch import Tensor
from torchvision.datasets import CocoDetection as TorchvisionCocoDetection

from util.dist.distributed import print_once
from util.errors import DatasetError, ImageError
from util.targets import Target

from .annotations import describe_repairs
from .annotations.cache import PLAIN, Reading, ReadOptions, open_annotations
from .annotations.classes import ChosenClasses
from .annotations.dense import DenseLabels, listed_ids
from .annotations.findings import Findings
from .annotations.masks import drawable
from .geometry import Example, image_size
from .image_files import FindImage, by_file_name
from .images import ImageFolder, load_transformed, read_image
from .pixels import read_pixels
from .transforms import Transform
from .transforms import make_coco_transforms as make_coco_transforms  # DETR's scripts import it from here


class CocoDetection(TorchvisionCocoDetection):
    """The images of `img_folder` that `ann_file` lists, in the order of their ids.

    A subclass of torchvision's class, because scripts ask for that; files are found, read and checked here.

    `ds[i]` is the image and its target after `transforms`, `ds.load(i)` before them. Images without objects are kept.
    `num_classes` is by default the largest category id + 1; a larger one leaves room, a label beyond it is refused.
    `labels` may keep some classes only, or make labels that are not the category ids but count from 0; `category_ids`
    then has the id of each label. `find_image` knows a dataset's own names of image files. What is repaired on reading
    is printed in one line, or refused where `options` are strict; `findings` holds it. Raises DatasetError for a folder
    or file that is not there, not COCO or contradicts itself (`annotations.kinds` has the list).
    """

    def __init__(
        self,
        img_folder: str | Path,
        ann_file: str | Path,
        transforms: Transform | None = None,
        return_masks: bool = False,
        *,
        num_classes: int | None = None,
        find_image: FindImage = by_file_name,
        options: ReadOptions = PLAIN,
        labels: DenseLabels | ChosenClasses | None = None,
    ) -> None:
        # Not torchvision's constructor: it reads the annotations at once, and keeps them as dictionaries.
        self.img_folder = self.root = Path(img_folder)
        self.ann_file = Path(ann_file)
        if not self.img_folder.is_dir():
            raise DatasetError(f"{img_folder}: no such image folder (see --data_path)")
        self.files = ImageFolder(self.img_folder, find_image)
        self.cached = options.cached
        self.findings = Findings()
        self.annotations = open_annotations(
            ann_file,
            Reading(num_classes=num_classes if labels is None else labels, need_masks=return_masks),
            options,
            findings=self.findings,
            files=self.files,
        )
        repairs = describe_repairs(ann_file, self.findings)
        if repairs is not None:
            print_once(repairs)
        self.class_names = self.annotations.class_names
        self.category_ids = listed_ids(self.annotations.categories)
        self.is_thing: dict[int, bool] | None = None
        self.ann_folder: Path | None = None
        # DETR's rule: labels are category ids, and a head has a row for every number up to the largest.
        self.num_classes = max(self.class_names) + 1 if num_classes is None else num_classes
        self.transforms = self._transforms = transforms
        self.prepare = ConvertCocoPolysToMask(return_masks)

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> Example:
        return load_transformed(self, index)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the evaluation's ground truth behind: a worker process does not need it."""
        return {key: value for key, value in self.__dict__.items() if key != "coco"}

    @property
    def ids(self) -> list[int]:
        """Image ids in the order of the images, as torchvision's class has them."""
        return self.annotations.image_ids.tolist()

    @cached_property
    def coco(self) -> COCO:
        """Ground truth as pycocotools has it, made when the evaluation first asks for it."""
        if self.prepare.return_masks:
            # Polygons become masks at the size that is listed here: it must be the one that predictions have.
            self._measure(range(len(self)))
        return self.annotations.to_coco()

    def load(self, index: int) -> tuple[Image.Image, Target]:
        """Return the RGB image and its target, boxes `xyxy` in pixels. Raises ImageError when it cannot be read."""
        return self._load(index, read_image)

    def load_pixels(self, index: int) -> tuple[Tensor, Target]:
        """Return what `load` does, the image as a uint8 tensor (3, H, W), which is decoded faster."""
        return self._load(index, read_pixels)

    def _load(self, index: int, read: Callable[..., Any]) -> tuple[Any, Target]:
        image_id = self.image_id(index)
        described, listed = f"the image with image id {image_id} of {self.ann_file}", self.get_height_and_width(index)
        image = read(self.image_path(index), described=described, listed=listed)
        objects = self.annotations.objects_of(index, segmentation=self.prepare.return_masks)
        try:
            return self.prepare(image, {"image_id": image_id, "annotations": objects})
        except (KeyError, TypeError, ValueError) as error:
            raise ImageError(f"{self.ann_file}: image id {image_id}: bad segmentation ({error})") from None

    def image_id(self, index: int) -> int:
        """Return the id, in the annotation file, of image number `index`."""
        return int(self.annotations.image_ids[index])

    def image_path(self, index: int) -> Path:
        """Return the file of image number `index`, which may not exist."""
        return self.files.path(self.annotations.file_name(index), self.image_id(index))

    def segments_path(self, index: int) -> None:
        """Return None: there are no panoptic PNGs."""

    def get_height_and_width(self, index: int) -> tuple[int, int] | None:
        """Return the size of image number `index` as the annotation file gives it, if it does."""
        return self.annotations.image_size(index)

    def labels_of(self, index: int) -> np.ndarray:
        """Return the labels (k,) of an image's objects, crowds left out; no image is opened."""
        return self.annotations.boxes_of(index)[1]

    def labels_by_image(self) -> list[np.ndarray]:
        """Return what `labels_of` does for all images; of millions in a hundredth of the time."""
        return self.annotations.labels_by_image()

    def object_counts(self) -> np.ndarray:
        """Count the objects of each image (n,), crowds left out; no image is opened."""
        return self.annotations.object_counts()

    def aspect_ratios(self) -> np.ndarray:
        """Return width / height of each image (n,), by the annotation file, or else by the image itself."""
        self._measure(np.flatnonzero(self.annotations.image_sizes()[:, 0] <= 0).tolist())
        sizes = self.annotations.image_sizes().astype(np.float64)  # (n, 2) height, width
        for index in np.flatnonzero(sizes[:, 0] <= 0).tolist():  # one that has no header says why it cannot be read
            sizes[index] = self.load(index)[1]["size"].numpy()
        return sizes[:, 1] / sizes[:, 0]

    def _measure(self, indices: Sequence[int]) -> None:
        """Read the sizes of some images from their files, and keep them."""
        names = [(self.annotations.file_name(i), self.image_id(i), self.get_height_and_width(i)) for i in indices]
        with ThreadPoolExecutor() as pool:  # mostly waits for the disk
            for index, size in zip(indices, pool.map(lambda name: self.files.size(*name), names)):
                if size is not None:
                    self.annotations.set_image_size(index, size)


class ConvertCocoPolysToMask:
    """COCO's annotations of an image to the target dictionary.

    Crowds, and boxes that have no area inside the image, are left out. Keypoints come as the annotations have them, and
    transforms leave them so: in pixels of the original image, because a flip would silently swap left and right.
    """

    def __init__(self, return_masks: bool = False) -> None:
        self.return_masks = return_masks

    def __call__(self, image: Any, target: dict[str, Any]) -> tuple[Any, Target]:
        """`target` holds `image_id` and `annotations`; returns the image, PIL's or a tensor, and, for n objects:

        boxes (n, 4) float32 xyxy in pixels, labels (n,) int64, area (n,) float32, iscrowd (n,) int64, image_id (1,),
        orig_size and size (2,) = (height, width) int64, masks (n, H, W) bool when asked for, and keypoints (n, K, 3)
        float32, x, y and visibility, when all objects have as many.
        """
        height, width = image_size(image)
        objects = [annotation for annotation in target["annotations"] if _is_object(annotation)]
        boxes = torch.tensor([annotation["bbox"] for annotation in objects], dtype=torch.float32).reshape(-1, 4)
        # xywh as COCO has it to xyxy, then cut to the image, in DETR's order: a box may end with no area after all.
        boxes[:, 2:] += boxes[:, :2]
        boxes[:, 0::2].clamp_(min=0, max=width)
        boxes[:, 1::2].clamp_(min=0, max=height)
        # As in DETR: a box without area is nothing to learn.
        keep = (boxes[:, 2:] > boxes[:, :2]).all(1)
        objects = [annotation for annotation, kept in zip(objects, keep.tolist()) if kept]
        result = {
            "boxes": boxes[keep],
            "labels": torch.tensor([annotation["category_id"] for annotation in objects], dtype=torch.int64),
            "image_id": torch.tensor([target["image_id"]]),
            "area": torch.tensor([_area(annotation) for annotation in objects], dtype=torch.float32),
            "iscrowd": torch.zeros(len(objects), dtype=torch.int64),
            "orig_size": torch.tensor([height, width]),
            "size": torch.tensor([height, width]),
        }
        if self.return_masks:
            segmentations = [annotation["segmentation"] for annotation in objects]
            # Only of those kept: drawing is the dear part.
            result["masks"] = convert_coco_poly_to_mask(segmentations, height, width)
        keypoints = [annotation.get("keypoints") or () for annotation in objects]
        # A tensor needs as many for every object; COCO's people have 17, as 51 numbers x, y, v, x, ...
        if keypoints and len(keypoints[0]) and len({len(points) for points in keypoints}) == 1:
            result["keypoints"] = torch.tensor(keypoints, dtype=torch.float32).reshape(len(keypoints), -1, 3)
        return image, result


def convert_coco_poly_to_mask(segmentations: list[Any], height: int, width: int) -> Tensor:
    """Draw the masks (n, H, W) bool of COCO segmentations: polygons, or run lengths, plain or compressed.

    No polygon with three points gives an empty mask. Raises ValueError for run lengths of another size.
    """
    masks = [_decode(segmentation, height, width) for segmentation in segmentations]
    # Without objects, too, masks know height and width: the mask loss pads them with those of other images.
    return torch.from_numpy(np.stack(masks)).bool() if masks else torch.zeros(0, height, width, dtype=torch.bool)


def build(image_set: str, args: Any) -> CocoDetection:
    """Build a split of COCO's layout as the original does: `image_set` "train" or "val", float images.

    Reads `coco_path` and `masks` of the flags. Raises DatasetError as `open_split` does.
    """
    transforms = make_coco_transforms(image_set)
    return open_split(image_set, coco_path=args.coco_path, transforms=transforms, return_masks=args.masks)


def open_split(
    image_set: str,
    *,
    coco_path: str | Path,
    transforms: Transform | None = None,
    return_masks: bool = False,
    num_classes: int | None = None,
    strict: bool = False,
) -> CocoDetection:
    """Open a split of COCO's layout: {coco_path}/{image_set}2017 and annotations/instances_{image_set}2017.json.

    Raises DatasetError where `coco_path` is no folder, and as CocoDetection does.
    """
    root = Path(coco_path)
    if not root.is_dir():
        raise DatasetError(f"--coco_path {coco_path}: no such folder")
    return CocoDetection(
        img_folder=root / f"{image_set}2017",
        ann_file=root / "annotations" / f"instances_{image_set}2017.json",
        transforms=transforms,
        return_masks=return_masks,
        num_classes=num_classes,
        options=ReadOptions(strict=strict),
    )


def _is_object(annotation: dict[str, Any]) -> bool:
    """Return True for what is trained on: no crowd, and a box with width and height."""
    box: Sequence[float] = annotation.get("bbox") or ()
    return not annotation.get("iscrowd") and len(box) == 4 and box[2] > 0 and box[3] > 0


def _area(annotation: dict[str, Any]) -> float:
    area = annotation.get("area")
    # bbox is x, y, width, height.
    return annotation["bbox"][2] * annotation["bbox"][3] if area is None else area


def _decode(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decode one segmentation to a uint8 mask (H, W)."""
    if isinstance(segmentation, list):
        polygons = drawable(segmentation)
        if not polygons:
            return np.zeros((height, width), dtype=np.uint8)
        # The union of an object's parts: one occluded by a post has two polygons.
        return rle_tools.decode(rle_tools.merge(rle_tools.frPyObjects(polygons, height, width)))
    if list(segmentation["size"]) != [height, width]:
        raise ValueError(f"run lengths of size {segmentation['size']} for an image of {[height, width]}")
    # Plain counts, as COCO's crowds have them, are compressed first.
    if isinstance(segmentation["counts"], list):
        segmentation = rle_tools.frPyObjects(segmentation, height, width)
    return rle_tools.decode(segmentation)
